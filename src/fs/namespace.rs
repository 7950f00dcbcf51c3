//! Names: lookup, creation, links, removal, rename.

use bytes::Bytes;
use nix::{errno::Errno, fcntl::RenameFlags};

use super::{Attributes, Caller, Fs, FsError, now};
use crate::limits::{NAME_LEN_MAX, SYMLINK_TARGET_LEN_MAX};
use crate::meta::{FileKind, Ino, MetaError, Removal, RenameMode, RenameSource};

const S_IFMT: u32 = libc::S_IFMT;

/// How often a rename looks its source up again because another request renamed it meanwhile, or
/// because it is written to while it is waited for. Each time another operation made progress.
const RENAME_TRIES_MAX: usize = 100;

impl Fs {
    /// The inode that a name stands for; `None` if there is no such name. `.` is the inode itself,
    /// which need not be a directory then: by it the kernel finds an inode again from a file
    /// handle, long after it has forgotten it.
    ///
    /// # Errors
    /// ENAMETOOLONG; ENOTDIR.
    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Attributes>, FsError> {
        match name {
            b"." => return self.found_again(dir).await,
            b".." => {
                let Some(record) = self.meta().inode(dir).await? else {
                    return Ok(None);
                };
                return self.found_again(record.parent).await;
            }
            _ => {}
        }
        if name.len() > NAME_LEN_MAX {
            return Err(FsError::new(Errno::ENAMETOOLONG, "looking a name up"));
        }
        let Some(dentry) = self.meta().lookup(dir, name).await? else {
            return Ok(None);
        };
        self.inner.names.met(dentry.ino, dir, name);
        match self.getattr(dentry.ino).await {
            Ok(attributes) => Ok(Some(attributes)),
            // It was removed between the two steps.
            Err(error) if error.errno == Errno::ESTALE => {
                match self.meta().lookup(dir, name).await? {
                    Some(again) if again == dentry => Err(FsError::new(
                        Errno::EIO,
                        format!("finding ino:{}, which a name points to,", dentry.ino.0),
                    )),
                    Some(again) => self.getattr(again.ino).await.map(Some),
                    None => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// An inode by its number, if it still has a name. An orphan exists only for its open handles,
    /// which need no number.
    async fn found_again(&self, ino: Ino) -> Result<Option<Attributes>, FsError> {
        match self.getattr(ino).await {
            Ok(attributes) => Ok(Some(attributes).filter(|attributes| attributes.nlink > 0)),
            Err(error) if error.errno == Errno::ESTALE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The kernel dropped an inode from its cache.
    pub fn forget(&self, ino: Ino) {
        self.inner.page_cache.forget(ino);
        if let Some(unused) = self.inner.table.forgotten(ino) {
            self.inner.reaper.reap(unused);
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is none; ESTALE.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes, FsError> {
        let record = self.record(ino).await?;
        if record.kind != FileKind::Symlink {
            return Err(FsError::new(
                Errno::EINVAL,
                "reading the target of an inode that is not a symbolic link",
            ));
        }
        Ok(record.target)
    }

    /// Makes a file, FIFO, socket or device node; `mode` carries the kind.
    ///
    /// # Errors
    /// EEXIST, EROFS, ENAMETOOLONG; EINVAL for a directory or a symbolic link.
    pub async fn mknod(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u32,
        rdev: u32,
    ) -> Result<Attributes, FsError> {
        let kind = match mode & S_IFMT {
            libc::S_IFREG | 0 => FileKind::File,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => return Err(FsError::new(Errno::EINVAL, "making a node of this kind")),
        };
        let rdev = if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
            rdev
        } else {
            0
        };
        self.make(caller, dir, name, kind, mode, rdev, Bytes::new())
            .await
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// EEXIST, EROFS, ENAMETOOLONG, EMLINK.
    pub async fn mkdir(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u32,
    ) -> Result<Attributes, FsError> {
        self.make(
            caller,
            dir,
            name,
            FileKind::Directory,
            mode,
            0,
            Bytes::new(),
        )
        .await
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// EEXIST, EROFS; ENAMETOOLONG beyond [`SYMLINK_TARGET_LEN_MAX`]; ENOENT for an empty target.
    pub async fn symlink(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attributes, FsError> {
        if target.len() > SYMLINK_TARGET_LEN_MAX {
            return Err(FsError::new(Errno::ENAMETOOLONG, "making a symbolic link"));
        }
        if target.is_empty() {
            return Err(FsError::new(
                Errno::ENOENT,
                "making a symbolic link to nothing",
            ));
        }
        self.make(
            caller,
            dir,
            name,
            FileKind::Symlink,
            0o777,
            0,
            Bytes::copy_from_slice(target),
        )
        .await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments that the four kinds of creation share"
    )]
    pub(super) async fn make(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        rdev: u32,
        target: Bytes,
    ) -> Result<Attributes, FsError> {
        self.writable()?;
        valid_name(name)?;
        let mut new = self.new_inode(caller, dir, kind, mode).await?;
        new.rdev = rdev;
        new.target = target;
        let inode = self.meta().create(dir, name, new).await?;
        self.inner.names.met(inode.ino, dir, name);
        Ok(Attributes::overlay(&inode, None))
    }

    /// Makes a hard link.
    ///
    /// # Errors
    /// EEXIST, EROFS, ENAMETOOLONG, EMLINK; EPERM for a directory.
    pub async fn link(&self, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attributes, FsError> {
        self.writable()?;
        valid_name(name)?;
        if self.record(ino).await?.kind == FileKind::Directory {
            return Err(FsError::new(Errno::EPERM, "linking to a directory"));
        }
        let _change = self.data().begin_attribute_change(ino, false).await;
        self.meta().link(ino, dir, name, now()).await?;
        self.inner.table.regained_name(ino);
        self.getattr(ino).await
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// ENOENT, EROFS, EISDIR.
    pub async fn unlink(&self, dir: Ino, name: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        self.inner.reaper.room().await;
        let removal = self.meta().unlink(dir, name, now()).await?;
        self.removed(&removal);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, EROFS, ENOTDIR, ENOTEMPTY.
    pub async fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        self.inner.reaper.room().await;
        let removal = self.meta().remove_dir(dir, name, now()).await?;
        self.removed(&removal);
        Ok(())
    }

    /// Renames in one step, whatever it moves. RENAME_NOREPLACE and RENAME_EXCHANGE are known,
    /// RENAME_WHITEOUT is not.
    ///
    /// A name whose file is replaced falls back to that file after a crash, until the contents of
    /// its replacement are committed.
    ///
    /// # Errors
    /// ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR, EROFS, ENAMETOOLONG; EINVAL for a directory
    /// below itself and for unknown flags.
    pub async fn rename(
        &self,
        from_dir: Ino,
        from_name: &[u8],
        to_dir: Ino,
        to_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), FsError> {
        self.writable()?;
        valid_name(to_name)?;
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameMode::Exchange
        } else {
            return Err(FsError::new(Errno::EINVAL, "renaming with these flags"));
        };
        self.inner.reaper.room().await;
        let (from, to) = ((from_dir, from_name), (to_dir, to_name));
        for _ in 0..RENAME_TRIES_MAX {
            match self.try_rename(from, to, mode).await {
                Err(RenameError::NameChanged) => {}
                Err(RenameError::Uncommitted(ino)) => self.data().write_back([ino]).await?,
                Err(RenameError::Failed(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
        Err(FsError::new(
            Errno::EBUSY,
            "renaming a name that others rename at the same time",
        ))
    }

    async fn try_rename(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<(), RenameError> {
        let found = self.meta().lookup(from.0, from.1).await?;
        let ino = found.ok_or(MetaError::NotFound)?.ino;
        if mode == RenameMode::Exchange {
            // Neither name has a version to fall back to, so the contents of both are committed
            // first.
            let other = self.meta().lookup(to.0, to.1).await?;
            let both = std::iter::once(ino).chain(other.map(|other| other.ino));
            self.data().write_back(both).await.map_err(FsError::from)?;
        }
        let commits = self.data().hold_commits(ino).await;
        let source = RenameSource {
            ino,
            uncommitted: commits.uncommitted,
        };
        let removal = self
            .meta()
            .rename_source(source, from, to, mode, now())
            .await?;
        self.data().forget_change_time(ino);
        if let Some(removal) = removal {
            self.removed(&removal);
        }
        Ok(())
    }

    /// An inode lost a name: pending times must not hide the new change time, and without links the
    /// inode lives for its handles only.
    fn removed(&self, removal: &Removal) {
        self.data().forget_change_time(removal.ino);
        if removal.nlink == 0 {
            self.inner.table.lost_name(removal.ino);
        } else {
            // The kernel counts links itself, unless its request timed out.
            self.forget_attributes(removal.ino);
        }
    }
}

/// Why a rename was not made.
enum RenameError {
    /// The rename is tried again.
    NameChanged,
    /// The rename is tried again once the contents of this file are committed.
    Uncommitted(Ino),
    Failed(FsError),
}

impl From<FsError> for RenameError {
    fn from(error: FsError) -> RenameError {
        RenameError::Failed(error)
    }
}

impl From<MetaError> for RenameError {
    fn from(error: MetaError) -> RenameError {
        match error {
            MetaError::NameChanged => RenameError::NameChanged,
            MetaError::Uncommitted(ino) => RenameError::Uncommitted(ino),
            error => RenameError::Failed(error.into()),
        }
    }
}

/// Names that a directory may hold.
pub(super) fn valid_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NAME_LEN_MAX {
        return Err(FsError::new(Errno::ENAMETOOLONG, "making a name"));
    }
    if name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|byte| matches!(byte, 0 | b'/'))
    {
        return Err(FsError::new(Errno::EINVAL, "making such a name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes_up_to_255_without_nul_and_slash() {
        assert!(valid_name(&[b'x'; 255]).is_ok());
        assert!(valid_name(b"\xff\xfe\n").is_ok());
        assert_eq!(
            valid_name(&[b'x'; 256]).unwrap_err().errno,
            Errno::ENAMETOOLONG
        );
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(valid_name(name).unwrap_err().errno, Errno::EINVAL);
        }
    }
}
