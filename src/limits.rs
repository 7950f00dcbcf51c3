//! The limits that Linux and POSIX set for names, targets, attributes and files: one place for all
//! modules.

/// The longest name of a directory entry (`NAME_MAX`) and of an extended attribute
/// (`XATTR_NAME_MAX`), bytes.
pub const NAME_LEN_MAX: usize = 255;

/// The longest target of a symbolic link, bytes: `PATH_MAX` without its NUL. A stored target may
/// have one byte more, because earlier versions took 4,096.
pub const SYMLINK_TARGET_LEN_MAX: usize = 4095;

/// The longest value of an extended attribute, bytes (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_LEN_MAX: usize = 64 << 10;

/// The names of one inode's extended attributes together, each with its NUL, bytes: they must fit
/// in one listing (`XATTR_LIST_MAX`).
pub const XATTR_LIST_LEN_MAX: usize = 64 << 10;

/// The largest size of a file, and the end of every extent, bytes (`MAX_LFS_FILESIZE`).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
