//! Tells the kernel which open files of a follower have changed.
//!
//! The names and attributes that the kernel keeps expire by themselves at the follower's next look
//! (`reply.rs`); with them go, at the next read, the pages of a file that has changed. Mapped pages
//! are not asked for again, nor those of a file whose times were put back: for these the kernel is
//! told.

use tokio::task::AbortHandle;

use super::notify::Notifier;
use crate::fs::Fs;

/// Tells until it is dropped.
pub struct Following {
    task: AbortHandle,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to tell. Must be called inside a tokio runtime.
pub fn follow(fs: Fs, notifier: Notifier) -> Following {
    let task = tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let (generation, changed) = fs.next_changes(seen).await;
            seen = generation;
            for ino in changed {
                notifier.contents(ino).await;
            }
        }
    });
    Following {
        task: task.abort_handle(),
    }
}
