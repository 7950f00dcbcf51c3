//! The things that every room of the contents works with: sizes, memory, store, keys, metadata.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::config::DataConfig;
use crate::{budget::Governor, meta::Meta, seal::keys::VolumeKeys, store::Store};

/// See the module's head.
pub(crate) struct Shared {
    pub(crate) config: DataConfig,
    pub(crate) governor: Governor,
    pub(crate) store: Store,
    pub(crate) keys: Arc<VolumeKeys>,
    pub(crate) meta: Meta,
    /// Background tasks, which the shutdown waits for.
    pub(crate) tasks: TaskTracker,
    /// Cancelled at the shutdown.
    pub(crate) stop: CancellationToken,
}
