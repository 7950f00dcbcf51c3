//! Opening and closing files.

use std::ffi::OsStr;

use fuser::{
    FileHandle, FopenFlags, INodeNo, LockOwner, OpenFlags, ReplyCreate, ReplyEmpty, ReplyOpen,
    Request,
};

use super::{
    Kernel,
    answer::{caller, copied, ino},
};
use crate::{
    fs::{Opened, Operation},
    fuse::{
        convert::file_attr,
        late::{Late, Touched},
        reply::GENERATION,
    },
    telemetry::RequestKind,
};

/// How the kernel is to treat an open file.
#[derive(Clone, Copy)]
struct Treatment {
    flags: FopenFlags,
    /// Files may be opened past the page cache.
    direct_io: bool,
}

impl Treatment {
    /// The treatment of a file that is opened with these flags. Closing a handle that cannot write
    /// has nothing to report, so the kernel need not send a flush.
    fn new(kernel: &Kernel, open_flags: i32) -> Treatment {
        let mut flags = FopenFlags::empty();
        flags.set(FopenFlags::FOPEN_KEEP_CACHE, !kernel.fs.read_only());
        flags.set(
            FopenFlags::FOPEN_NOFLUSH,
            open_flags & libc::O_ACCMODE == libc::O_RDONLY,
        );
        Treatment {
            flags,
            direct_io: kernel.granted.direct_io,
        }
    }

    fn of(mut self, opened: &Opened) -> FopenFlags {
        let is_direct = self.direct_io && opened.past_page_cache;
        self.flags.set(FopenFlags::FOPEN_DIRECT_IO, is_direct);
        self.flags
    }
}

pub(super) fn open(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    flags: OpenFlags,
    reply: ReplyOpen,
) {
    let (caller, number) = (caller(request, 0), ino(number));
    let treatment = Treatment::new(kernel, flags.0);
    // O_TRUNC does not come here: the kernel empties the file by a request of its own.
    kernel.ask(
        request,
        Operation::on(RequestKind::Open, number),
        reply,
        move |fs| async move { fs.open(caller, number, flags.0).await },
        move |reply, opened| reply.opened(FileHandle(opened.fh), treatment.of(&opened)),
    );
}

pub(super) fn create(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    mode: u32,
    umask: u32,
    flags: i32,
    reply: ReplyCreate,
) {
    let (caller, dir, name) = (caller(request, umask), ino(parent), copied(name));
    let (times, treatment) = (kernel.times(), Treatment::new(kernel, flags));
    let (touched, fs) = (Touched::name(dir, &name), kernel.fs.clone());
    kernel.change_or(
        request,
        Operation::on(RequestKind::Create, dir),
        reply,
        move |fs| async move { fs.create(caller, dir, &name, mode, flags).await },
        move |reply, opened| {
            reply.created(
                &times.attributes(&opened.attributes),
                &file_attr(&opened.attributes),
                GENERATION,
                FileHandle(opened.fh),
                treatment.of(&opened),
            );
        },
        // Nobody will ever close the handle of a caller that has gone.
        move || Late {
            touched,
            unclaimed: Box::new(move |opened: Opened| fs.release(opened.fh)),
        },
    );
}

pub(super) fn flush(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    _lock_owner: LockOwner,
    reply: ReplyEmpty,
) {
    kernel.ask(
        request,
        Operation::on(RequestKind::Flush, ino(number)).handle(fh.0),
        reply,
        move |fs| async move { fs.flush(fh.0).await },
        |reply, ()| reply.ok(),
    );
}

pub(super) fn release(
    kernel: &Kernel,
    _request: &Request,
    number: INodeNo,
    fh: FileHandle,
    _flags: OpenFlags,
    _lock_owner: Option<LockOwner>,
    _flush: bool,
    reply: ReplyEmpty,
) {
    let operation = Operation::on(RequestKind::Release, ino(number)).handle(fh.0);
    kernel.at_once(operation, |fs| fs.release(fh.0));
    reply.ok();
}
