//! Streams that a reader waits for: what is in an open stream cannot be read before its object is
//! whole. Readers note the file here, and write-back ends the stream.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::meta::Ino;

/// Files whose streams should end; bounded by the files that have a stream.
#[derive(Default)]
pub(crate) struct StreamsWanted {
    inos: Mutex<BTreeSet<Ino>>,
    noted: Notify,
}

impl StreamsWanted {
    pub(crate) fn note(&self, ino: Ino) {
        self.inos.lock().insert(ino);
        self.noted.notify_one();
    }

    /// Waits until there are some, and takes them all.
    pub(crate) async fn take(&self) -> BTreeSet<Ino> {
        loop {
            let inos = std::mem::take(&mut *self.inos.lock());
            if !inos.is_empty() {
                return inos;
            }
            self.noted.notified().await;
        }
    }
}
