//! Where things are in a volume: its objects by kind (`usage.rs`), the objects of a file and the
//! files of an object (`which.rs`).

use std::sync::Arc;

use super::Progress;
use crate::{
    meta::{Meta, SessionId},
    store::Store,
};

/// The mounts that may commit objects which the metadata does not name yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// No mount writes.
    Nobody,
    /// This session alone.
    Session(SessionId),
    /// Some mount elsewhere.
    Somebody,
}

/// An open volume whose contents are to be found. It is only read.
pub struct Inventory {
    /// The store.
    pub store: Store,
    /// The metadata: of a mount, or of a follower that is frozen.
    pub meta: Meta,
    /// Which mounts write.
    pub writing: Writing,
    /// How far it is.
    pub progress: Arc<Progress>,
}
