//! The object store that SlateDB sees: seals what is written, opens what is read.

use std::sync::Arc;

use super::keys::VolumeKeys;
use crate::store::Store;

/// An `object_store::ObjectStore` whose paths are below `meta/` and whose objects are all sealed.
#[derive(Clone)]
pub struct SealedObjectStore {
    // private fields
}

impl SealedObjectStore {
    /// `cache_bytes_max` bounds the plaintext chunks kept for read-around (see the module's head).
    pub fn new(store: Store, keys: Arc<VolumeKeys>, cache_bytes_max: u64) -> SealedObjectStore {
        todo!()
    }
}
