//! The shape that handlers share: an operation of [`Fs`] is run, and the reply that came with the
//! request takes its outcome.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use bytes::Bytes;
use fuser::{
    Errno, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
};
use tokio::time::Instant;

use super::Kernel;
use crate::{
    fs::{Caller, Fs, FsError, Operation},
    fuse::{
        late::{Late, Touched},
        run::Call,
    },
    meta::Ino,
};

/// An operation of [`Fs`] under way.
pub(super) trait Work<T>: Future<Output = Result<T, FsError>> + Send + 'static {}

impl<T, W: Future<Output = Result<T, FsError>> + Send + 'static> Work<T> for W {}

/// A reply that can be an error.
pub(super) trait Reply: Send + 'static {
    fn refuse(self, errno: Errno);
}

macro_rules! replies {
    ($($reply:ty)*) => {$(
        impl Reply for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        }
    )*};
}

replies! {
    ReplyAttr ReplyCreate ReplyData ReplyDirectory ReplyDirectoryPlus ReplyEmpty ReplyEntry
    ReplyLseek ReplyOpen ReplyStatfs ReplyWrite ReplyXattr
}

impl Kernel {
    /// Runs `work` and answers with its value, or with its error.
    pub(super) fn ask<T: Send + 'static, W: Work<T>, R: Reply>(
        &self,
        request: &Request,
        operation: Operation,
        reply: R,
        work: impl FnOnce(Fs) -> W,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        self.ask_for(call(request, operation), reply, work, answer);
    }

    /// As [`Kernel::ask`], for a request that has waited already.
    pub(super) fn ask_for<T: Send + 'static, W: Work<T>, R: Reply>(
        &self,
        call: Call,
        reply: R,
        work: impl FnOnce(Fs) -> W,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        let work = caught_up(self.fs.clone(), work(self.fs.clone()));
        self.runner.run(call, work, move |result| match result {
            Ok(value) => answer(reply, value),
            Err(errno) => reply.refuse(errno),
        });
    }

    /// As [`Kernel::ask`], for changes of names or attributes: if the caller goes before the end,
    /// `work` goes on, and the kernel is told to forget the names and inodes that are `touched`.
    pub(super) fn change<T: Send + 'static, W: Work<T>, R: Reply>(
        &self,
        request: &Request,
        operation: Operation,
        touched: Touched,
        reply: R,
        work: impl FnOnce(Fs) -> W,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        self.change_or(request, operation, reply, work, answer, move || {
            Late::of(touched)
        });
    }

    /// As [`Kernel::change`], with `late` for a value that only the caller could have used.
    pub(super) fn change_or<T: Send + 'static, W: Work<T>, R: Reply>(
        &self,
        request: &Request,
        operation: Operation,
        reply: R,
        work: impl FnOnce(Fs) -> W,
        answer: impl FnOnce(R, T) + Send + 'static,
        late: impl FnOnce() -> Late<T> + Send + 'static,
    ) {
        let work = caught_up(self.fs.clone(), work(self.fs.clone()));
        let answer = move |result| match result {
            Ok(value) => answer(reply, value),
            Err(errno) => reply.refuse(errno),
        };
        self.runner
            .run_change(call(request, operation), work, answer, move || Some(late()));
    }

    /// Runs work that needs no task, and counts the request. `None` if it panicked.
    pub(super) fn at_once<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&Fs) -> T,
    ) -> Option<T> {
        let came = Instant::now();
        self.runner.count(operation.kind);
        let value = self.runner.run_here(operation, || work(&self.fs));
        self.runner.answered(operation.kind, came);
        value
    }
}

/// `work`, begun once what is known is new enough for it.
async fn caught_up<T>(fs: Fs, work: impl Work<T>) -> Result<T, FsError> {
    fs.catch_up().await;
    work.await
}

pub(super) fn call(request: &Request, operation: Operation) -> Call {
    Call {
        operation,
        tid: request.pid(),
        came: Instant::now(),
    }
}

pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
        umask,
    }
}

pub(super) fn copied(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}
