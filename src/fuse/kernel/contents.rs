//! Reading, writing and syncing files.

use fuser::{
    Errno, FileHandle, INodeNo, LockOwner, OpenFlags, ReplyData, ReplyEmpty, ReplyLseek,
    ReplyWrite, Request, WriteFlags,
};
use nix::errno::Errno as SystemErrno;

use super::{
    Kernel,
    answer::{call, caller, ino},
};
use crate::{
    fs::{FsError, Operation},
    fuse::late::Touched,
    telemetry::RequestKind,
};

pub(super) fn read(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    offset: u64,
    size: u32,
    _flags: OpenFlags,
    _lock_owner: Option<LockOwner>,
    reply: ReplyData,
) {
    let operation = Operation::on(RequestKind::Read, ino(number));
    kernel.ask(
        request,
        operation.handle(fh.0).range(offset, u64::from(size)),
        reply,
        move |fs| async move { fs.read(fh.0, offset, size).await },
        |reply, read| reply.data(&read.bytes),
    );
}

/// The handler copies the bytes into memory of ours before it returns, so it is the only one that
/// may have to wait on the FUSE thread.
pub(super) fn write(
    kernel: &Kernel,
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
    let fs = kernel.fs.clone();
    let number = ino(number);
    // A request is at most `REQUEST_LEN_MAX`.
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let operation = Operation::on(RequestKind::Write, number)
        .handle(fh.0)
        .range(offset, u64::from(len));
    let drops_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
    // The kernel itself follows a synchronous write into its page cache with FSYNC, but not one
    // past the cache.
    let durable = flags.0 & libc::O_DSYNC != 0
        && (flags.0 & libc::O_DIRECT != 0 || fs.passes_page_cache(fh.0));
    if kernel.runner.has_failed() {
        reply.error(Errno::EIO);
        return;
    }
    let call = call(request, operation);
    let incoming = match kernel.runner.run_here(operation, || fs.admit(data)) {
        Some(Some(incoming)) => incoming,
        Some(None) => match kernel.runner.wait_here(call, fs.admit_in_line(data)) {
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
    kernel.ask_for(
        call,
        reply,
        move |fs| async move {
            let buffer = fs.permit(incoming).await?;
            fs.write_through(fh.0, number, offset, buffer, drops_set_id)
                .await?;
            if durable {
                fs.fsync_through(fh.0).await?;
            }
            Ok(())
        },
        move |reply, ()| reply.written(len),
    );
}

pub(super) fn fsync(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    _datasync: bool,
    reply: ReplyEmpty,
) {
    kernel.ask(
        request,
        Operation::on(RequestKind::Fsync, ino(number)).handle(fh.0),
        reply,
        move |fs| async move { fs.fsync_through(fh.0).await },
        |reply, ()| reply.ok(),
    );
}

pub(super) fn fallocate(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    offset: u64,
    length: u64,
    mode: i32,
    reply: ReplyEmpty,
) {
    let (caller, number) = (caller(request, 0), ino(number));
    let operation = Operation::on(RequestKind::Fallocate, number);
    kernel.change(
        request,
        operation.handle(fh.0).range(offset, length),
        Touched::inode(number),
        reply,
        move |fs| async move { fs.fallocate(caller, number, offset, length, mode).await },
        |reply, ()| reply.ok(),
    );
}

pub(super) fn lseek(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    offset: i64,
    whence: i32,
    reply: ReplyLseek,
) {
    let number = ino(number);
    kernel.ask(
        request,
        Operation::on(RequestKind::Lseek, number).handle(fh.0),
        reply,
        move |fs| async move {
            let found = fs.lseek(number, offset, whence).await?;
            i64::try_from(found).map_err(|_| FsError::new(SystemErrno::EOVERFLOW, "seeking"))
        },
        |reply, found| reply.offset(found),
    );
}
