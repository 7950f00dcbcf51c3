//! One object's way into the store: it is sealed (`writer.rs`), a machine without I/O says what to
//! ask of the store (`machine.rs`), and a driver asks it (`send.rs`).

mod machine;
mod send;
mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::sync::CancellationToken;

use crate::{
    data::{frames::Frames, shared::Shared},
    meta::{Ino, ObjectId},
    store::StoreError,
};

#[cfg(test)]
pub(crate) use machine::{Answer, Denial, Request, Step, Upload};
pub(crate) use writer::{ObjectWriter, PART_SLACK, Placed, Unfinished, sealed_bound};

/// Hears when the store refuses an object. The files with bytes in the object are told, and no
/// other.
pub(crate) trait Refusals: Send + Sync {
    /// The store refused `object`, which holds bytes of these files, and will be asked again.
    fn refused(&self, inos: &[Ino], object: ObjectId, error: &StoreError);
}

/// Everything that an upload needs besides its bytes.
pub(crate) struct Uploads {
    shared: Arc<Shared>,
    frames: Arc<Frames>,
    next_object: AtomicU64,
    /// Cancelled with the mount's `stop`, and when another mount has taken over.
    pub(crate) no_uploads: CancellationToken,
}

impl Uploads {
    pub(crate) fn new(shared: Arc<Shared>, frames: Arc<Frames>) -> Uploads {
        Uploads {
            no_uploads: shared.stop.child_token(),
            shared,
            frames,
            next_object: AtomicU64::new(0),
        }
    }

    fn next_object(&self) -> ObjectId {
        ObjectId {
            session: self.shared.meta.session(),
            number: self.next_object.fetch_add(1, Ordering::Relaxed),
        }
    }
}
