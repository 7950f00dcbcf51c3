//! Attributes, symbolic links' targets, the space of the filesystem.

use std::time::SystemTime;

use fuser::{
    BsdFileFlags, FileHandle, INodeNo, ReplyAttr, ReplyData, ReplyStatfs, Request, TimeOrNow,
};

use super::{
    Kernel,
    answer::{caller, ino},
};
use crate::{
    fs::{Operation, SetAttributes},
    fuse::{
        convert::{decode_time, set_time},
        late::Touched,
    },
    telemetry::RequestKind,
};

/// The kernel drops an inode from its cache; there is nothing to answer.
pub(super) fn forget(kernel: &Kernel, _request: &Request, number: INodeNo, _nlookup: u64) {
    let number = ino(number);
    kernel.at_once(Operation::on(RequestKind::Forget, number), |fs| {
        fs.forget(number);
    });
}

pub(super) fn getattr(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    _fh: Option<FileHandle>,
    reply: ReplyAttr,
) {
    let (number, times) = (ino(number), kernel.times());
    kernel.ask(
        request,
        Operation::on(RequestKind::Getattr, number),
        reply,
        move |fs| async move { fs.getattr(number).await },
        move |reply, found| times.send_attributes(reply, &found),
    );
}

pub(super) fn setattr(
    kernel: &Kernel,
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
    let (caller, number, times) = (caller(request, 0), ino(number), kernel.times());
    let set = SetAttributes {
        mode,
        uid,
        gid,
        size,
        atime: atime.map(set_time),
        mtime: mtime.map(set_time),
        ctime: ctime.map(decode_time),
    };
    kernel.change(
        request,
        Operation::on(RequestKind::Setattr, number),
        Touched::inode(number),
        reply,
        move |fs| async move { fs.setattr(caller, number, set).await },
        move |reply, now| times.send_attributes(reply, &now),
    );
}

pub(super) fn readlink(kernel: &Kernel, request: &Request, number: INodeNo, reply: ReplyData) {
    let number = ino(number);
    kernel.ask(
        request,
        Operation::on(RequestKind::Readlink, number),
        reply,
        move |fs| async move { fs.readlink(number).await },
        |reply, target| reply.data(&target),
    );
}

pub(super) fn statfs(kernel: &Kernel, request: &Request, number: INodeNo, reply: ReplyStatfs) {
    kernel.ask(
        request,
        Operation::on(RequestKind::Statfs, ino(number)),
        reply,
        |fs| async move { Ok(fs.statfs()) },
        |reply, space| {
            reply.statfs(
                space.blocks,
                space.blocks_free,
                space.blocks_free,
                space.inodes,
                space.inodes_free,
                space.block_len,
                space.name_len_max,
                space.block_len,
            );
        },
    );
}
