//! The handlers: one a request, each copies what it needs, runs one operation of [`Fs`] and sends
//! what comes out.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno as SystemErrno;

use super::{
    capabilities::{Granted, negotiate},
    convert::{decode_time, file_attr, file_type, set_time},
    late::{Late, Touched},
    reply::{CACHED_FOR, CacheTimes, GENERATION, no_attributes, send_empty, send_xattr},
    run::{Call, Runner},
};
use crate::{
    fs::{Attributes, CONTROL_XATTR, Caller, Fs, FsError, Opened, Operation, SetAttributes},
    meta::Ino,
    telemetry::RequestKind,
};

/// See the module's head.
pub struct Kernel {
    fs: Fs,
    runner: Runner,
    max_write_bytes: u32,
    granted: Granted,
}

/// One operation of [`Fs`] under way.
trait Work<T>: Future<Output = Result<T, FsError>> + Send + 'static {}

impl<T, W: Future<Output = Result<T, FsError>> + Send + 'static> Work<T> for W {}

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

    fn empty(&self, call: Call, reply: ReplyEmpty, work: impl Work<()>) {
        self.runner
            .run(call, work, move |result| send_empty(reply, result));
    }

    fn xattr(&self, call: Call, reply: ReplyXattr, room: u32, work: impl Work<Bytes>) {
        self.runner
            .run(call, work, move |result| send_xattr(reply, room, result));
    }

    /// A change that answers with nothing.
    fn change(&self, call: Call, touched: Touched, reply: ReplyEmpty, work: impl Work<()>) {
        let answer = move |result| send_empty(reply, result);
        self.runner
            .run_change(call, work, answer, move || Some(Late::of(touched)));
    }

    /// A change that makes a name.
    fn entry(&self, call: Call, touched: Touched, reply: ReplyEntry, work: impl Work<Attributes>) {
        let times = self.times();
        let answer = move |result| times.send_entry(reply, result);
        self.runner
            .run_change(call, work, answer, move || Some(Late::of(touched)));
    }

    /// What is left of opening a file whose opener has gone.
    fn unclaimed(&self, touched: Touched) -> impl FnOnce() -> Late<Opened> + Send + 'static {
        let fs = self.fs.clone();
        move || Late {
            touched,
            unclaimed: Box::new(move |opened| fs.release(opened.fh)),
        }
    }

    /// How a file that was opened with these flags is treated. Closing what cannot write has
    /// nothing to report, so the kernel need not say so.
    fn file_flags(&self, flags: i32) -> FopenFlags {
        let mut treated = FopenFlags::empty();
        treated.set(FopenFlags::FOPEN_KEEP_CACHE, !self.fs.read_only());
        treated.set(
            FopenFlags::FOPEN_NOFLUSH,
            flags & libc::O_ACCMODE == libc::O_RDONLY,
        );
        treated
    }

    fn dir_flags(&self) -> FopenFlags {
        if self.fs.read_only() {
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR
        }
    }
}

fn caller(request: &Request, umask: u32) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
        umask,
    }
}

fn call(request: &Request, operation: Operation) -> Call {
    Call {
        operation,
        tid: request.pid(),
    }
}

fn copied(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

impl Filesystem for Kernel {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.granted = negotiate(config, self.fs.read_only(), self.max_write_bytes);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let fs = self.fs.clone();
        let (name, times) = (copied(name), self.times());
        let dir = ino(parent);
        self.runner.run(
            call(request, Operation::on(RequestKind::Lookup, dir)),
            async move { fs.lookup(dir, &name).await },
            move |result| match result {
                // Nobody but this mount can make it.
                Ok(None) if times.unchanged_for.is_none() => {
                    reply.entry_with_ttls(&CACHED_FOR, &CACHED_FOR, &no_attributes(), GENERATION)
                }
                Ok(None) => reply.error(Errno::ENOENT),
                Ok(Some(found)) => times.send_entry(reply, Ok(found)),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn forget(&self, _request: &Request, number: INodeNo, _nlookup: u64) {
        self.runner.count(RequestKind::Forget);
        self.runner
            .run_here(Operation::on(RequestKind::Forget, ino(number)), || {
                self.fs.forget(ino(number))
            });
    }

    fn getattr(
        &self,
        request: &Request,
        number: INodeNo,
        _fh: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let fs = self.fs.clone();
        let (number, times) = (ino(number), self.times());
        self.runner.run(
            call(request, Operation::on(RequestKind::Getattr, number)),
            async move { fs.getattr(number).await },
            move |result| times.send_attributes(reply, result),
        );
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let fs = self.fs.clone();
        let (caller, number) = (caller(request, 0), ino(number));
        let set = SetAttributes {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(decode_time),
        };
        let times = self.times();
        self.runner.run_change(
            call(request, Operation::on(RequestKind::Setattr, number)),
            async move { fs.setattr(caller, number, set).await },
            move |result| times.send_attributes(reply, result),
            move || Some(Late::of(Touched::inode(number))),
        );
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        let fs = self.fs.clone();
        let number = ino(number);
        self.runner.run(
            call(request, Operation::on(RequestKind::Readlink, number)),
            async move { fs.readlink(number).await },
            move |result| match result {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let fs = self.fs.clone();
        let (caller, dir, name) = (caller(request, umask), ino(parent), copied(name));
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Mknod, dir)),
            Touched::name(dir, &name),
        );
        self.entry(call, touched, reply, async move {
            fs.mknod(caller, dir, &name, mode, rdev).await
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let fs = self.fs.clone();
        let (caller, dir, name) = (caller(request, umask), ino(parent), copied(name));
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Mkdir, dir)),
            Touched::name(dir, &name),
        );
        self.entry(call, touched, reply, async move {
            fs.mkdir(caller, dir, &name, mode).await
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        let (dir, name) = (ino(parent), copied(name));
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Unlink, dir)),
            Touched::name(dir, &name),
        );
        self.change(
            call,
            touched,
            reply,
            async move { fs.unlink(dir, &name).await },
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        let (dir, name) = (ino(parent), copied(name));
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Rmdir, dir)),
            Touched::name(dir, &name),
        );
        self.change(
            call,
            touched,
            reply,
            async move { fs.rmdir(dir, &name).await },
        );
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let fs = self.fs.clone();
        let (caller, dir, name) = (caller(request, 0), ino(parent), copied(name));
        let target = copied(target.as_os_str());
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Symlink, dir)),
            Touched::name(dir, &name),
        );
        self.entry(call, touched, reply, async move {
            fs.symlink(caller, dir, &name, &target).await
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let (from, to) = (ino(parent), ino(new_parent));
        let (from_name, to_name) = (copied(name), copied(new_name));
        let flags = nix::fcntl::RenameFlags::from_bits_retain(flags.bits());
        let touched = Touched::name(from, &from_name).and(Touched::name(to, &to_name));
        let call = call(request, Operation::on(RequestKind::Rename, from));
        self.change(call, touched, reply, async move {
            fs.rename(from, &from_name, to, &to_name, flags).await
        });
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let fs = self.fs.clone();
        let (number, dir, name) = (ino(number), ino(new_parent), copied(new_name));
        let touched = Touched::name(dir, &name).and(Touched::inode(number));
        let call = call(request, Operation::on(RequestKind::Link, number));
        self.entry(call, touched, reply, async move {
            fs.link(number, dir, &name).await
        });
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.fs.clone();
        let (caller, number, mut open_flags) =
            (caller(request, 0), ino(number), self.file_flags(flags.0));
        let direct_io = self.granted.direct_io;
        // O_TRUNC does not come here: the kernel empties the file by a request of its own.
        self.runner.run(
            call(request, Operation::on(RequestKind::Open, number)),
            async move { fs.open(caller, number, flags.0).await },
            move |result| match result {
                Ok(opened) => {
                    open_flags.set(
                        FopenFlags::FOPEN_DIRECT_IO,
                        direct_io && opened.past_page_cache,
                    );
                    reply.opened(FileHandle(opened.fh), open_flags)
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let fs = self.fs.clone();
        let (times, caller, dir, name) = (
            self.times(),
            caller(request, umask),
            ino(parent),
            copied(name),
        );
        let mut open_flags = self.file_flags(flags);
        let direct_io = self.granted.direct_io;
        let late = self.unclaimed(Touched::name(dir, &name));
        self.runner.run_change(
            call(request, Operation::on(RequestKind::Create, dir)),
            async move { fs.create(caller, dir, &name, mode, flags).await },
            move |result| match result {
                Ok(opened) => {
                    let ttl = times.attributes(&opened.attributes);
                    let is_direct = direct_io && opened.past_page_cache;
                    open_flags.set(FopenFlags::FOPEN_DIRECT_IO, is_direct);
                    reply.created(
                        &ttl,
                        &file_attr(&opened.attributes),
                        GENERATION,
                        FileHandle(opened.fh),
                        open_flags,
                    );
                }
                Err(errno) => reply.error(errno),
            },
            move || Some(late()),
        );
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let fs = self.fs.clone();
        let operation = Operation::on(RequestKind::Read, ino(number))
            .handle(fh.0)
            .range(offset, u64::from(size));
        self.runner.run(
            call(request, operation),
            async move { fs.read(fh.0, offset, size).await },
            move |result| match result {
                Ok(read) => reply.data(&read.bytes),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let fs = self.fs.clone();
        let number = ino(number);
        // A request is at most `REQUEST_LEN_MAX`.
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let operation = Operation::on(RequestKind::Write, number)
            .handle(fh.0)
            .range(offset, u64::from(len));
        let drops_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        // The kernel follows a synchronous write into its page cache with FSYNC itself, one past it
        // not.
        let durable = flags.0 & libc::O_DSYNC != 0
            && (flags.0 & libc::O_DIRECT != 0 || fs.passes_page_cache(fh.0));
        let call = call(request, operation);
        if self.runner.has_failed() {
            reply.error(Errno::EIO);
            return;
        }
        let incoming = match self.runner.run_here(operation, || fs.take_in(data)) {
            Some(Some(incoming)) => incoming,
            Some(None) => match self.runner.wait_here(call, fs.take_in_line(data)) {
                Ok(incoming) => incoming,
                Err(errno) => {
                    reply.error(errno);
                    return;
                }
            },
            None => {
                reply.error(Errno::EIO);
                return;
            }
        };
        let work = async move {
            let buffer = fs.room_for(incoming).await?;
            fs.write_through(fh.0, number, offset, buffer, drops_set_id)
                .await?;
            if durable {
                fs.fsync_through(fh.0).await?;
            }
            Ok(())
        };
        self.runner.run(call, work, move |result| match result {
            Ok(()) => reply.written(len),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let operation = Operation::on(RequestKind::Flush, ino(number)).handle(fh.0);
        self.empty(call(request, operation), reply, async move {
            fs.flush(fh.0).await
        });
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.runner.count(RequestKind::Release);
        self.runner.run_here(
            Operation::on(RequestKind::Release, ino(number)).handle(fh.0),
            || self.fs.release(fh.0),
        );
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let number = ino(number);
        let operation = Operation::on(RequestKind::Fsync, number).handle(fh.0);
        self.empty(call(request, operation), reply, async move {
            fs.fsync_through(fh.0).await
        });
    }

    fn opendir(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.fs.clone();
        let (number, open_flags) = (ino(number), self.dir_flags());
        self.runner.run(
            call(request, Operation::on(RequestKind::Opendir, number)),
            async move { fs.opendir(number).await },
            move |result| match result {
                Ok(fh) => reply.opened(FileHandle(fh), open_flags),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn readdir(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let fs = self.fs.clone();
        let operation = Operation::on(RequestKind::Readdir, ino(number))
            .handle(fh.0)
            .range(offset, 0);
        self.runner.run(
            call(request, operation),
            async move { fs.read_dir(fh.0, offset, false).await },
            move |result| match result {
                Ok(batch) => {
                    for entry in batch {
                        if reply.add(
                            INodeNo(entry.ino.0),
                            entry.cookie,
                            file_type(entry.kind),
                            OsStr::from_bytes(&entry.name),
                        ) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let fs = self.fs.clone();
        let times = self.times();
        let operation = Operation::on(RequestKind::Readdirplus, ino(number))
            .handle(fh.0)
            .range(offset, 0);
        self.runner.run(
            call(request, operation),
            async move { fs.read_dir(fh.0, offset, true).await },
            move |result| match result {
                Ok(batch) => {
                    for entry in batch {
                        let Some(attributes) = &entry.attributes else {
                            continue;
                        };
                        let name = OsStr::from_bytes(&entry.name);
                        let ttl = times.attributes(attributes);
                        if reply.add(
                            INodeNo(entry.ino.0),
                            entry.cookie,
                            name,
                            &ttl,
                            &file_attr(attributes),
                            GENERATION,
                        ) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn releasedir(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.runner.count(RequestKind::Releasedir);
        self.runner.run_here(
            Operation::on(RequestKind::Releasedir, ino(number)).handle(fh.0),
            || self.fs.releasedir(fh.0),
        );
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let operation = Operation::on(RequestKind::Fsyncdir, ino(number)).handle(fh.0);
        self.empty(call(request, operation), reply, async move {
            fs.fsyncdir().await
        });
    }

    fn statfs(&self, request: &Request, number: INodeNo, reply: ReplyStatfs) {
        let fs = self.fs.clone();
        self.runner.run(
            call(request, Operation::on(RequestKind::Statfs, ino(number))),
            async move { Ok(fs.statfs()) },
            move |result| match result {
                Ok(space) => reply.statfs(
                    space.blocks,
                    space.blocks_free,
                    space.blocks_free,
                    space.inodes,
                    space.inodes_free,
                    space.block_len,
                    space.name_len_max,
                    space.block_len,
                ),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let (caller, number, name) = (caller(request, 0), ino(number), copied(name));
        let value = Bytes::copy_from_slice(value);
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Setxattr, number)),
            Touched::inode(number),
        );
        self.change(call, touched, reply, async move {
            fs.setxattr(caller, number, &name, &value, flags).await
        });
    }

    fn getxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let fs = self.fs.clone();
        let (number, name) = (ino(number), copied(name));
        if number == Ino::ROOT && name == CONTROL_XATTR.as_bytes() {
            // Answered to the last: it is how 'status' and 'umount' find the process of a volume
            // that was lost.
            self.runner.count(RequestKind::Getxattr);
            let answer = self
                .runner
                .run_here(Operation::on(RequestKind::Getxattr, number), || {
                    fs.control()
                });
            let answer = answer.flatten().ok_or(Errno::ENODATA);
            return send_xattr(reply, size, answer);
        }
        let call = call(request, Operation::on(RequestKind::Getxattr, number));
        self.xattr(call, reply, size, async move {
            fs.getxattr(number, &name).await
        });
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let fs = self.fs.clone();
        let (caller, number) = (caller(request, 0), ino(number));
        self.xattr(
            call(request, Operation::on(RequestKind::Listxattr, number)),
            reply,
            size,
            async move { fs.listxattr(caller, number).await },
        );
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        let (number, name) = (ino(number), copied(name));
        let (call, touched) = (
            call(request, Operation::on(RequestKind::Removexattr, number)),
            Touched::inode(number),
        );
        self.change(call, touched, reply, async move {
            fs.removexattr(number, &name).await
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let (caller, number) = (caller(request, 0), ino(number));
        let operation = Operation::on(RequestKind::Fallocate, number)
            .handle(fh.0)
            .range(offset, length);
        self.change(
            call(request, operation),
            Touched::inode(number),
            reply,
            async move { fs.fallocate(caller, number, offset, length, mode).await },
        );
    }

    fn lseek(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let fs = self.fs.clone();
        let number = ino(number);
        let operation = Operation::on(RequestKind::Lseek, number).handle(fh.0);
        let work = async move {
            let found = fs.lseek(number, offset, whence).await?;
            i64::try_from(found).map_err(|_| FsError::new(SystemErrno::EOVERFLOW, "seeking"))
        };
        self.runner
            .run(call(request, operation), work, move |result| match result {
                Ok(found) => reply.offset(found),
                Err(errno) => reply.error(errno),
            });
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

    // What the kernel does by itself once it is told ENOSYS: access (permissions are its own),
    // bmap, poll, copy_file_range (it copies through the page cache), locks. fuser's defaults say
    // so, with a warning that nobody sees.
}
