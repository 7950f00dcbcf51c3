//! The locks, atomics and wakers of the governor, in one place: `tests/governor_model` compiles the
//! governor's sources with a scheduler's primitives instead, and tries their interleavings.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use parking_lot::{Mutex, RwLock};
pub(super) use tokio::sync::{Notify, oneshot};
