//! Extended attributes.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use bytes::Bytes;
use fuser::{Errno, INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::{
    Kernel,
    answer::{caller, copied, ino},
};
use crate::{
    fs::{CONTROL_XATTR, Operation},
    fuse::{late::Touched, reply::send_xattr},
    meta::Ino,
    telemetry::RequestKind,
};

pub(super) fn setxattr(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    name: &OsStr,
    value: &[u8],
    flags: i32,
    _position: u32,
    reply: ReplyEmpty,
) {
    let (caller, number, name) = (caller(request, 0), ino(number), copied(name));
    let value = Bytes::copy_from_slice(value);
    kernel.change(
        request,
        Operation::on(RequestKind::Setxattr, number),
        Touched::inode(number),
        reply,
        move |fs| async move { fs.setxattr(caller, number, &name, &value, flags).await },
        |reply, ()| reply.ok(),
    );
}

pub(super) fn getxattr(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    name: &OsStr,
    size: u32,
    reply: ReplyXattr,
) {
    let number = ino(number);
    let operation = Operation::on(RequestKind::Getxattr, number);
    if number == Ino::ROOT && name.as_bytes() == CONTROL_XATTR.as_bytes() {
        // This is answered even after the volume was lost, because 'status' and 'umount' find the
        // process by it.
        return match kernel.at_once(operation, |fs| fs.control()).flatten() {
            Some(socket) => send_xattr(reply, size, &socket),
            None => reply.error(Errno::ENODATA),
        };
    }
    let name = copied(name);
    kernel.ask(
        request,
        operation,
        reply,
        move |fs| async move { fs.getxattr(number, &name).await },
        move |reply, value| send_xattr(reply, size, &value),
    );
}

pub(super) fn listxattr(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    size: u32,
    reply: ReplyXattr,
) {
    let (caller, number) = (caller(request, 0), ino(number));
    kernel.ask(
        request,
        Operation::on(RequestKind::Listxattr, number),
        reply,
        move |fs| async move { fs.listxattr(caller, number).await },
        move |reply, names| send_xattr(reply, size, &names),
    );
}

pub(super) fn removexattr(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    let (number, name) = (ino(number), copied(name));
    kernel.change(
        request,
        Operation::on(RequestKind::Removexattr, number),
        Touched::inode(number),
        reply,
        move |fs| async move { fs.removexattr(number, &name).await },
        |reply, ()| reply.ok(),
    );
}
