//! The handlers of the kernel's requests: each copies its arguments, runs one operation of [`Fs`]
//! and sends the outcome.
//!
//! | file | requests |
//! |---|---|
//! | `names.rs` | lookup; making, removing and moving names |
//! | `attributes.rs` | attributes, symbolic links' targets, the space of the filesystem |
//! | `xattrs.rs` | extended attributes |
//! | `handles.rs` | opening and closing files |
//! | `directories.rs` | opening, reading and closing directories |
//! | `contents.rs` | reading, writing and syncing files |
//! | `answer.rs` | the shape that all of them share |

// A handler has the arguments of its request, however many those are.
#![allow(clippy::too_many_arguments)]

mod answer;
mod attributes;
mod contents;
mod directories;
mod handles;
mod names;
mod xattrs;

use std::{ffi::OsStr, io, path::Path, time::SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::{
    capabilities::{Granted, negotiate},
    reply::CacheTimes,
    run::Runner,
};
use crate::fs::Fs;

/// See the module's head.
pub struct Kernel {
    fs: Fs,
    runner: Runner,
    max_write_bytes: u32,
    granted: Granted,
}

impl Kernel {
    pub fn new(fs: Fs, runner: Runner, max_write_bytes: u32) -> Kernel {
        Kernel {
            fs,
            runner,
            max_write_bytes,
            granted: Granted::default(),
        }
    }

    fn times(&self) -> CacheTimes {
        CacheTimes {
            unchanged_for: self.fs.unchanged_for(),
        }
    }
}

/// Passes each request on to the function of the same name in the module named.
macro_rules! handlers {
    ($($module:ident {
        $(fn $name:ident($($argument:ident: $kind:ty),* $(,)?);)*
    })*) => {$($(
        fn $name(&self, request: &Request, $($argument: $kind),*) {
            $module::$name(self, request, $($argument),*);
        }
    )*)*};
}

impl Filesystem for Kernel {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.granted = negotiate(config, self.fs.read_only(), self.max_write_bytes);
        Ok(())
    }

    handlers! {
        names {
            fn lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
            fn mknod(
                parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry,
            );
            fn mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
            fn symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
            fn link(number: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry);
            fn unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
            fn rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
            fn rename(
                parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
                flags: RenameFlags, reply: ReplyEmpty,
            );
        }
        attributes {
            fn forget(number: INodeNo, nlookup: u64);
            fn getattr(number: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr);
            fn setattr(
                number: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>,
                size: Option<u64>, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>,
                ctime: Option<SystemTime>, fh: Option<FileHandle>, crtime: Option<SystemTime>,
                chgtime: Option<SystemTime>, bkuptime: Option<SystemTime>,
                flags: Option<BsdFileFlags>, reply: ReplyAttr,
            );
            fn readlink(number: INodeNo, reply: ReplyData);
            fn statfs(number: INodeNo, reply: ReplyStatfs);
        }
        xattrs {
            fn setxattr(
                number: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32,
                reply: ReplyEmpty,
            );
            fn getxattr(number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
            fn listxattr(number: INodeNo, size: u32, reply: ReplyXattr);
            fn removexattr(number: INodeNo, name: &OsStr, reply: ReplyEmpty);
        }
        handles {
            fn open(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
            fn create(
                parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32,
                reply: ReplyCreate,
            );
            fn flush(number: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty);
            fn release(
                number: INodeNo, fh: FileHandle, flags: OpenFlags, lock_owner: Option<LockOwner>,
                flush: bool, reply: ReplyEmpty,
            );
        }
        directories {
            fn opendir(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
            fn readdir(number: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory);
            fn readdirplus(
                number: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus,
            );
            fn releasedir(number: INodeNo, fh: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
            fn fsyncdir(number: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty);
        }
        contents {
            fn read(
                number: INodeNo, fh: FileHandle, offset: u64, size: u32, flags: OpenFlags,
                lock_owner: Option<LockOwner>, reply: ReplyData,
            );
            fn write(
                number: INodeNo, fh: FileHandle, offset: u64, data: &[u8],
                write_flags: WriteFlags, flags: OpenFlags, lock_owner: Option<LockOwner>,
                reply: ReplyWrite,
            );
            fn fsync(number: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty);
            fn fallocate(
                number: INodeNo, fh: FileHandle, offset: u64, length: u64, mode: i32,
                reply: ReplyEmpty,
            );
            fn lseek(
                number: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek,
            );
        }
    }

    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // Not implemented, because the kernel does them by itself once it is told ENOSYS: access
    // (permissions are its own), bmap, poll, copy_file_range (it copies through the page cache),
    // locks. fuser's defaults say so, with a warning that nobody sees.
}
