//! The thread that hands pages to the kernel unasked ([`crate::fs::Fs::fill`]).
//!
//! The kernel takes them once nobody reads one of them, which can take as long as a request: so the
//! thread does nothing else, and what it does not keep up with is left out.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::notify::Notifier;
use crate::{
    fs::{Fill, Fs, PageCacheFiller},
    meta::Ino,
};

/// Fills that wait, at most; each is a place, not its bytes.
const QUEUE_MAX: usize = 64;

/// The sending side.
struct Queue {
    fills: SyncSender<Fill>,
    notifier: Notifier,
}

impl PageCacheFiller for Queue {
    fn offer(&self, fill: Fill) {
        // If it is full the kernel asks for these pages itself.
        let _ = self.fills.try_send(fill);
    }

    fn store(&self, ino: Ino, offset: u64, bytes: &[u8]) {
        self.notifier.store(ino, offset, bytes);
    }
}

/// Starts the thread. It ends with the mount: when the last clone of `fs` is dropped, or `notifier`
/// is detached.
pub(super) fn start(fs: &Fs, notifier: Notifier) -> io::Result<()> {
    let (sender, waiting) = sync_channel(QUEUE_MAX);
    let queue = Queue {
        fills: sender,
        notifier: notifier.clone(),
    };
    let runtime = tokio::runtime::Handle::current();
    // The thread must not keep alive what it serves.
    let of_thread = fs.downgrade();
    std::thread::Builder::new()
        .name("strongroom-fill".to_owned())
        .spawn(move || {
            let _entered = runtime.enter();
            hand_over(&waiting, &notifier, || of_thread.upgrade());
        })?;
    fs.fill_through(Arc::new(queue));
    Ok(())
}

fn hand_over(fills: &Receiver<Fill>, notifier: &Notifier, fs: impl Fn() -> Option<Fs>) {
    while let Ok(fill) = fills.recv() {
        let Some(fs) = fs() else { return };
        fs.fill(&fill, |ino, offset, bytes| {
            notifier.store(ino, offset, bytes);
        });
    }
}
