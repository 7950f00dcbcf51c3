//! Tells the kernel to forget names, attributes and pages that are no longer true.
//!
//! | call | the kernel forgets | it waits for |
//! |---|---|---|
//! | [`Notifier::attributes`] | an inode's attributes and access lists | nothing |
//! | [`Notifier::all_names`] | all names, everywhere (Linux 6.16) | nothing |
//! | [`Notifier::contents`] | an inode's attributes and pages | pages that are being read or written |
//! | [`Notifier::entry`] | one name, and its directory's attributes and listing | operations in that directory |
//!
//! The kernel carries out the first two without a lock that a request can hold, so any thread may
//! call them, a FUSE thread before it answers too. The other two wait for locks that are held until
//! a request is answered: they are queued, and a thread of their own hands them over. A request
//! that hangs can delay the notifications behind it, never a FUSE thread or a task.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::Arc,
};

use bytes::Bytes;
use fuser::INodeNo;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::{fs::AttributeCache, meta::Ino};

/// Notifications that wait for the thread, at most: 0.3 MiB with the longest names. A task with one
/// more waits.
const QUEUE_MAX: usize = 1024;

/// `FUSE_NOTIFY_INC_EPOCH` (linux/fuse.h), which fuser 0.18 does not know.
const INCREMENT_EPOCH: i32 = 8;

/// A message to the thread.
enum Notice {
    Entry(Ino, Bytes),
    Contents(Ino),
    /// Answered when everything before it has been handed over.
    Mark(oneshot::Sender<()>),
}

/// The kernel's end of one mount.
struct Device {
    typed: fuser::Notifier,
    raw: File,
}

/// See the module's head. Cheap to clone; does nothing before the mount is made and after it has
/// ended.
#[derive(Clone)]
pub struct Notifier {
    device: Arc<RwLock<Option<Arc<Device>>>>,
    queue: mpsc::Sender<Notice>,
}

impl Notifier {
    /// One for a mount that is yet to be made, with its thread. The thread ends with the last
    /// clone.
    pub(super) fn start() -> io::Result<Notifier> {
        let (queue, mut notices) = mpsc::channel(QUEUE_MAX);
        let device: Arc<RwLock<Option<Arc<Device>>>> = Arc::default();
        let of_thread = Arc::clone(&device);
        std::thread::Builder::new()
            .name("strongroom-notify".to_owned())
            .spawn(move || {
                while let Some(notice) = notices.blocking_recv() {
                    // Not under the lock: handing over can take as long as a request.
                    let device = of_thread.read().clone();
                    match notice {
                        Notice::Mark(reached) => {
                            // The task that asked may have gone.
                            let _ = reached.send(());
                        }
                        notice => {
                            if let Some(device) = device {
                                device.hand_over(&notice);
                            }
                        }
                    }
                }
            })?;
        Ok(Notifier { device, queue })
    }

    /// From here on the kernel is told. `raw` is the descriptor that the session reads from.
    pub(super) fn attach(&self, typed: fuser::Notifier, raw: OwnedFd) {
        let device = Device {
            typed,
            raw: File::from(raw),
        };
        *self.device.write() = Some(Arc::new(device));
    }

    /// Lets go of the device: as long as a descriptor of it is open, the kernel takes the mount for
    /// alive.
    pub(super) fn detach(&self) {
        *self.device.write() = None;
    }

    /// The kernel asks for this inode's attributes before it uses them again, from now on: also if
    /// an answer with older ones is on its way.
    pub fn attributes(&self, ino: Ino) {
        if let Some(device) = self.device.read().as_ref() {
            // A negative offset: attributes only, no pages.
            ignore_unknown(device.typed.inval_inode(INodeNo(ino.0), -1, 0));
        }
    }

    /// The kernel looks every name up before it uses it again. False if it is too old for that, or
    /// no mount is there.
    pub fn all_names(&self) -> bool {
        self.device
            .read()
            .as_ref()
            .is_some_and(|device| device.increment_epoch().is_ok())
    }

    /// The kernel soon forgets this name, and the directory's attributes and listing. Waits while
    /// too much is queued.
    pub async fn entry(&self, dir: Ino, name: Bytes) {
        self.enqueue(Notice::Entry(dir, name)).await;
    }

    /// The kernel forgets this inode's attributes and pages soon. Waits while too much is queued.
    pub async fn contents(&self, ino: Ino) {
        self.enqueue(Notice::Contents(ino)).await;
    }

    /// Returns when the kernel has carried out all notifications that were queued before.
    pub async fn flushed(&self) {
        let (reached, mark) = oneshot::channel();
        self.enqueue(Notice::Mark(reached)).await;
        // The thread has ended: nothing is left to wait for.
        let _ = mark.await;
    }

    async fn enqueue(&self, notice: Notice) {
        // The thread takes notices as long as a sender lives.
        let _ = self.queue.send(notice).await;
    }
}

impl Notifier {
    /// The kernel takes these bytes of a file into its page cache. Waits for pages that are being
    /// read: only for a thread of its own.
    pub(super) fn store(&self, ino: Ino, offset: u64, bytes: &[u8]) {
        // Not under the lock: it can take as long as a request.
        let device = self.device.read().clone();
        if let Some(device) = device {
            ignore_unknown(device.typed.store(INodeNo(ino.0), offset, bytes));
        }
    }
}

impl AttributeCache for Notifier {
    fn forget_attributes(&self, ino: Ino) {
        self.attributes(ino);
    }
}

impl Device {
    fn hand_over(&self, notice: &Notice) {
        match notice {
            Notice::Entry(dir, name) => {
                let name = OsStr::from_bytes(name);
                ignore_unknown(self.typed.inval_entry(INodeNo(dir.0), name));
            }
            Notice::Contents(ino) => {
                // Length 0: to the end.
                ignore_unknown(self.typed.inval_inode(INodeNo(ino.0), 0, 0));
            }
            Notice::Mark(_) => {}
        }
    }

    fn increment_epoch(&self) -> io::Result<()> {
        // `struct fuse_out_header`: length, code, and 0 for "no request".
        let mut message = [0; 16];
        let (len, rest) = message.split_at_mut(4);
        len.copy_from_slice(&16_u32.to_ne_bytes());
        let (code, _no_request) = rest.split_at_mut(4);
        code.copy_from_slice(&INCREMENT_EPOCH.to_ne_bytes());
        (&self.raw).write_all(&message)
    }
}

/// The kernel need not forget what it does not know, and a mount that is going needs nothing any
/// more.
fn ignore_unknown(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!("the kernel did not take a notification: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_mount_notifications_go_nowhere_and_nobody_waits() {
        let notifier = Notifier::start().unwrap();
        for number in 0..2 * QUEUE_MAX as u64 {
            notifier.entry(Ino(number), Bytes::from_static(b"x")).await;
        }
        notifier.contents(Ino(1)).await;
        notifier.attributes(Ino(1));
        assert!(!notifier.all_names());
        notifier.flushed().await;
    }
}
