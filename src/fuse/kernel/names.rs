//! Lookup; making, removing and moving names.

use std::{ffi::OsStr, path::Path};

use bytes::Bytes;
use fuser::{Errno, INodeNo, RenameFlags, ReplyEmpty, ReplyEntry, Request};

use super::{
    Kernel,
    answer::{Work, caller, copied, ino},
};
use crate::{
    fs::{Attributes, Fs, Operation},
    fuse::{
        late::Touched,
        reply::{CACHED_FOR, GENERATION, no_attributes},
    },
    meta::Ino,
    telemetry::RequestKind,
};

pub(super) fn lookup(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    reply: ReplyEntry,
) {
    let (dir, name, times) = (ino(parent), copied(name), kernel.times());
    kernel.ask(
        request,
        Operation::on(RequestKind::Lookup, dir),
        reply,
        move |fs| async move { fs.lookup(dir, &name).await },
        move |reply, found| match found {
            Some(found) => times.send_entry(reply, &found),
            // Nobody but this mount can make it.
            None if times.unchanged_for.is_none() => {
                reply.entry_with_ttls(&CACHED_FOR, &CACHED_FOR, &no_attributes(), GENERATION);
            }
            None => reply.error(Errno::ENOENT),
        },
    );
}

pub(super) fn mknod(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    mode: u32,
    umask: u32,
    rdev: u32,
    reply: ReplyEntry,
) {
    let caller = caller(request, umask);
    let place = Place::of(RequestKind::Mknod, parent, name);
    place.make(kernel, request, reply, |fs, dir, name| async move {
        fs.mknod(caller, dir, &name, mode, rdev).await
    });
}

pub(super) fn mkdir(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    mode: u32,
    umask: u32,
    reply: ReplyEntry,
) {
    let caller = caller(request, umask);
    let place = Place::of(RequestKind::Mkdir, parent, name);
    place.make(kernel, request, reply, |fs, dir, name| async move {
        fs.mkdir(caller, dir, &name, mode).await
    });
}

pub(super) fn symlink(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    target: &Path,
    reply: ReplyEntry,
) {
    let (caller, target) = (caller(request, 0), copied(target.as_os_str()));
    let place = Place::of(RequestKind::Symlink, parent, name);
    place.make(kernel, request, reply, |fs, dir, name| async move {
        fs.symlink(caller, dir, &name, &target).await
    });
}

pub(super) fn unlink(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    let place = Place::of(RequestKind::Unlink, parent, name);
    place.remove(kernel, request, reply, |fs, dir, name| async move {
        fs.unlink(dir, &name).await
    });
}

pub(super) fn rmdir(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    let place = Place::of(RequestKind::Rmdir, parent, name);
    place.remove(kernel, request, reply, |fs, dir, name| async move {
        fs.rmdir(dir, &name).await
    });
}

/// The name that a request makes or removes.
struct Place {
    kind: RequestKind,
    dir: Ino,
    name: Bytes,
}

impl Place {
    fn of(kind: RequestKind, parent: INodeNo, name: &OsStr) -> Place {
        Place {
            kind,
            dir: ino(parent),
            name: copied(name),
        }
    }

    /// Answers with the inode that `work` makes there.
    fn make<W: Work<Attributes>>(
        self,
        kernel: &Kernel,
        request: &Request,
        reply: ReplyEntry,
        work: impl FnOnce(Fs, Ino, Bytes) -> W,
    ) {
        let Place { kind, dir, name } = self;
        let times = kernel.times();
        kernel.change(
            request,
            Operation::on(kind, dir),
            Touched::name(dir, &name),
            reply,
            |fs| work(fs, dir, name),
            move |reply, made| times.send_entry(reply, &made),
        );
    }

    /// Answers once `work` has removed it.
    fn remove<W: Work<()>>(
        self,
        kernel: &Kernel,
        request: &Request,
        reply: ReplyEmpty,
        work: impl FnOnce(Fs, Ino, Bytes) -> W,
    ) {
        let Place { kind, dir, name } = self;
        kernel.change(
            request,
            Operation::on(kind, dir),
            Touched::name(dir, &name),
            reply,
            |fs| work(fs, dir, name),
            |reply, ()| reply.ok(),
        );
    }
}

pub(super) fn link(
    kernel: &Kernel,
    request: &Request,
    number: INodeNo,
    new_parent: INodeNo,
    new_name: &OsStr,
    reply: ReplyEntry,
) {
    let (number, dir, name) = (ino(number), ino(new_parent), copied(new_name));
    let times = kernel.times();
    kernel.change(
        request,
        Operation::on(RequestKind::Link, number),
        Touched::name(dir, &name).and(Touched::inode(number)),
        reply,
        move |fs| async move { fs.link(number, dir, &name).await },
        move |reply, made| times.send_entry(reply, &made),
    );
}

pub(super) fn rename(
    kernel: &Kernel,
    request: &Request,
    parent: INodeNo,
    name: &OsStr,
    new_parent: INodeNo,
    new_name: &OsStr,
    flags: RenameFlags,
    reply: ReplyEmpty,
) {
    let (from, to) = (ino(parent), ino(new_parent));
    let (from_name, to_name) = (copied(name), copied(new_name));
    let flags = nix::fcntl::RenameFlags::from_bits_retain(flags.bits());
    kernel.change(
        request,
        Operation::on(RequestKind::Rename, from),
        Touched::name(from, &from_name).and(Touched::name(to, &to_name)),
        reply,
        move |fs| async move { fs.rename(from, &from_name, to, &to_name, flags).await },
        |reply, ()| reply.ok(),
    );
}
