//! A file that somebody has open.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Reading;
use crate::{
    data::{file::FileState, readahead::Handle},
    meta::Ino,
};

/// A file that somebody has open, with its readahead window. Dropping it lets go of everything in
/// flight for it.
pub struct OpenFile {
    pub(crate) file: Arc<FileState>,
    pub(crate) ahead: Handle,
    pub(crate) heard: Mutex<Heard>,
    /// Where the file lies scattered, small reads ask for stretches instead of regions.
    pub(crate) takes_stretches: bool,
    /// On a read-only mount: the writer's changes are looked for without a pause.
    _watch: Option<Arc<()>>,
}

/// How many errors a descriptor has reported: each is reported once.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    /// Errors of its file.
    pub(crate) file: u64,
    /// Errors of the metadata's log.
    pub(crate) log: u64,
}

impl OpenFile {
    /// From now on [`super::ReadReply::stretch`] is of use.
    pub fn taking_stretches(self) -> OpenFile {
        OpenFile {
            takes_stretches: true,
            ..self
        }
    }
}

impl Reading {
    /// A handle on a file. The caller pays for the handle itself; what it reads is paid for here.
    pub(crate) fn open(&self, ino: Ino) -> OpenFile {
        self.open_with(ino, self.readahead.handle())
    }

    /// The handle of somebody who reads from the mount.
    pub(crate) fn open_for_reader(&self, ino: Ino) -> OpenFile {
        self.open_with(ino, self.readahead.readers_handle())
    }

    /// A handle on a file that is going to be read from `at` on, in order.
    pub(crate) fn open_at(&self, ino: Ino, at: u64) -> OpenFile {
        self.open_with(ino, self.readahead.handle_from(at))
    }

    fn open_with(&self, ino: Ino, ahead: Handle) -> OpenFile {
        let file = self.file(ino);
        let log = self.shared.store.log_health();
        let heard = Heard {
            file: file.content.lock().errors.seen_at_open(),
            log: log.refusals() - u64::from(log.refusal().is_some()),
        };
        OpenFile {
            file,
            ahead,
            heard: Mutex::new(heard),
            takes_stretches: false,
            _watch: self.shared.meta.watch(),
        }
    }
}
