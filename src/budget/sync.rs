//! What the governor locks and waits with, in one place, so that a model can put other primitives there.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use parking_lot::{Mutex, RwLock};
pub(super) use tokio::sync::{Notify, oneshot};
