//! Changes that happen after their caller was told that they failed.
//!
//! A caller that is killed, or whose deadline is over, gets its answer at once. Its change of a
//! name or an attribute may be on its way into the metadata by then and cannot be called back. So
//! the operation goes on to its end by itself; then the kernel is told to forget the names and
//! inodes that the change may have touched.

use bytes::Bytes;

use super::Notifier;
use crate::meta::Ino;

/// Changes that go on by themselves, at once. Each takes some KiB. Beyond that a change is dropped
/// with its caller, and the kernel is told at once.
pub const LATE_MAX: usize = 256;

/// The names and inodes that a change may touch.
#[derive(Default)]
pub struct Touched {
    names: Vec<(Ino, Bytes)>,
    inodes: Vec<Ino>,
}

impl Touched {
    /// A name, and its directory.
    pub fn name(dir: Ino, name: &Bytes) -> Touched {
        Touched {
            names: vec![(dir, name.clone())],
            inodes: Vec::new(),
        }
    }

    /// An inode's attributes and contents.
    pub fn inode(ino: Ino) -> Touched {
        Touched {
            names: Vec::new(),
            inodes: vec![ino],
        }
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Touched) -> Touched {
        self.names.extend(other.names);
        self.inodes.extend(other.inodes);
        self
    }

    /// Tells the kernel.
    pub async fn forget(self, notifier: &Notifier) {
        for (dir, name) in self.names {
            notifier.entry(dir, name).await;
        }
        for ino in self.inodes {
            notifier.attributes(ino);
            notifier.contents(ino).await;
        }
    }
}

/// The work that follows a change whose caller has gone.
pub struct Late<T> {
    pub touched: Touched,
    /// Takes back a value that only the caller could have used: a handle.
    pub unclaimed: Box<dyn FnOnce(T) + Send>,
}

impl<T: 'static> Late<T> {
    /// The caller loses nothing but its answer.
    pub fn of(touched: Touched) -> Late<T> {
        Late {
            touched,
            unclaimed: Box::new(drop),
        }
    }
}
