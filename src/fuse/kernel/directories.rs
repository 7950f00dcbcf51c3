//! Opening, reading and closing directories.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use fuser::{
    FileHandle, FopenFlags, INodeNo, OpenFlags, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyOpen, Request,
};

use super::{Kernel, answer::ino};
use crate::{
    fs::Operation,
    fuse::{
        convert::{file_attr, file_type},
        reply::GENERATION,
    },
    telemetry::RequestKind,
};

pub(super) fn opendir(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    _flags: OpenFlags,
    reply: ReplyOpen,
) {
    let number = ino(number);
    let flags = match kernel.fs.read_only() {
        true => FopenFlags::empty(),
        false => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
    };
    kernel.ask(
        request,
        Operation::on(RequestKind::Opendir, number),
        reply,
        move |fs| async move { fs.opendir(number).await },
        move |reply, fh| reply.opened(FileHandle(fh), flags),
    );
}

pub(super) fn readdir(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    offset: u64,
    reply: ReplyDirectory,
) {
    let operation = Operation::on(RequestKind::Readdir, ino(number));
    kernel.ask(
        request,
        operation.handle(fh.0).range(offset, 0),
        reply,
        move |fs| async move { fs.read_dir(fh.0, offset, false).await },
        |mut reply, batch| {
            for entry in batch {
                let is_full = reply.add(
                    INodeNo(entry.ino.0),
                    entry.cookie,
                    file_type(entry.kind),
                    OsStr::from_bytes(&entry.name),
                );
                if is_full {
                    break;
                }
            }
            reply.ok();
        },
    );
}

pub(super) fn readdirplus(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    offset: u64,
    reply: ReplyDirectoryPlus,
) {
    let times = kernel.times();
    let operation = Operation::on(RequestKind::Readdirplus, ino(number));
    kernel.ask(
        request,
        operation.handle(fh.0).range(offset, 0),
        reply,
        move |fs| async move { fs.read_dir(fh.0, offset, true).await },
        move |mut reply, batch| {
            for entry in batch {
                let Some(attributes) = &entry.attributes else {
                    continue;
                };
                let is_full = reply.add(
                    INodeNo(entry.ino.0),
                    entry.cookie,
                    OsStr::from_bytes(&entry.name),
                    &times.attributes(attributes),
                    &file_attr(attributes),
                    GENERATION,
                );
                if is_full {
                    break;
                }
            }
            reply.ok();
        },
    );
}

pub(super) fn releasedir(
    kernel: &Kernel,
    _request: &Request,
    number: INodeNo,
    fh: FileHandle,
    _flags: OpenFlags,
    reply: ReplyEmpty,
) {
    let operation = Operation::on(RequestKind::Releasedir, ino(number)).handle(fh.0);
    kernel.at_once(operation, |fs| fs.releasedir(fh.0));
    reply.ok();
}

pub(super) fn fsyncdir(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    fh: FileHandle,
    _datasync: bool,
    reply: ReplyEmpty,
) {
    kernel.ask(
        request,
        Operation::on(RequestKind::Fsyncdir, ino(number)).handle(fh.0),
        reply,
        |fs| async move { fs.fsyncdir().await },
        |reply, ()| reply.ok(),
    );
}
