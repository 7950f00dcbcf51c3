//! Data objects: the openers of their frames, and the objects that are not yet readable.

use std::{
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, OnceLock},
};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    data::DataError,
    meta::{Ino, Meta, ObjectId},
    seal::{
        SealError,
        codec::{Layout, Opener, SealParams},
        keys::VolumeKeys,
    },
    store::StoreError,
};

/// Memory of an opener: its key schedule, the object's key and salt, the map's entry.
const HANDLE_BYTES: u64 = 1024;

/// Objects whose openers are kept.
const HANDLES_MAX: NonZeroUsize = NonZeroUsize::new(2048).unwrap();

/// The volume-relative key of a data object.
pub(crate) fn object_key(object: ObjectId) -> String {
    let session = data_encoding::HEXLOWER.encode(&object.session.0);
    format!("data/{session}/{:016x}", object.number)
}

/// The number in a key made by [`object_key`]: 16 hexadecimal digits, all of them lower case.
pub(crate) fn object_number(key: &str) -> Option<u64> {
    let (_, digits) = key.rsplit_once('/')?;
    let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// A readable object.
pub(crate) struct ObjectHandle {
    pub(crate) id: ObjectId,
    pub(crate) key: String,
    pub(crate) opener: Opener,
    pub(crate) layout: Layout,
}

/// An object being written: readable once `finished` says so.
pub(crate) struct PendingObject {
    /// The file whose stream it is; `None` for a pack, which is on its way already.
    pub(crate) stream_of: Option<Ino>,
    params: SealParams,
    handle: OnceLock<Arc<ObjectHandle>>,
    /// Why it can never be stored.
    lost: OnceLock<StoreError>,
    finished: watch::Sender<bool>,
}

/// All objects that this mount has touched lately.
pub(crate) struct Objects {
    keys: Arc<VolumeKeys>,
    meta: Meta,
    handles: Mutex<LruCache<ObjectId, Arc<ObjectHandle>>>,
    /// Bounded by the uploads under way, which the governor bounds.
    pending: Mutex<std::collections::HashMap<ObjectId, Arc<PendingObject>>>,
}

impl Objects {
    pub(crate) fn new(keys: Arc<VolumeKeys>, meta: Meta) -> Objects {
        Objects {
            keys,
            meta,
            handles: Mutex::new(LruCache::new(HANDLES_MAX)),
            pending: Mutex::default(),
        }
    }

    /// Announces an object that is being written.
    pub(crate) fn begin(&self, object: ObjectId, params: SealParams, stream_of: Option<Ino>) {
        let pending = PendingObject {
            stream_of,
            params,
            handle: OnceLock::new(),
            lost: OnceLock::new(),
            finished: watch::channel(false).0,
        };
        self.pending.lock().insert(object, Arc::new(pending));
    }

    /// The object is in the store, whole: readers may go.
    pub(crate) fn finish(&self, object: ObjectId, layout: Layout) -> Result<(), SealError> {
        let Some(pending) = self.pending.lock().get(&object).cloned() else {
            return Ok(());
        };
        let handle = self.handle(object, pending.params, layout)?;
        let _ = pending.handle.set(handle.clone());
        self.handles.lock().put(object, handle);
        pending.finished.send_replace(true);
        Ok(())
    }

    /// The object can never be stored: readers hear why for as long as this mount lives.
    pub(crate) fn lose(&self, object: ObjectId, error: &StoreError) {
        if let Some(pending) = self.pending(object) {
            let _ = pending.lost.set(error.clone());
            pending.finished.send_replace(true);
        }
    }

    /// The object is committed, or nobody wants it: the metadata knows the rest.
    pub(crate) fn end(&self, object: ObjectId) {
        if let Some(pending) = self.pending.lock().remove(&object) {
            pending.finished.send_replace(true);
        }
    }

    pub(crate) fn pending(&self, object: ObjectId) -> Option<Arc<PendingObject>> {
        self.pending.lock().get(&object).cloned()
    }

    /// Memory that the openers take now, and at most.
    pub(crate) fn handles_bytes(&self) -> (u64, u64) {
        let kept = self.handles.lock().len() as u64;
        (kept * HANDLE_BYTES, HANDLES_MAX.get() as u64 * HANDLE_BYTES)
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending.lock().len()
    }

    /// The handle to read a committed or finished object.
    pub(crate) async fn get(&self, object: ObjectId) -> Result<Arc<ObjectHandle>, DataError> {
        if let Some(handle) = self.handles.lock().get(&object) {
            return Ok(handle.clone());
        }
        let record = self.meta.object(object).await?.ok_or_else(|| {
            let path = object_key(object);
            match self.meta.is_follower() {
                true => DataError::Stale(path),
                false => SealError::Missing { path }.into(),
            }
        })?;
        let layout = Layout {
            frame_log2: record.params.frame_log2,
            plaintext_len: record.plaintext_len,
        };
        let handle = self.handle(object, record.params, layout)?;
        self.handles.lock().put(object, handle.clone());
        Ok(handle)
    }

    fn handle(
        &self,
        object: ObjectId,
        params: SealParams,
        layout: Layout,
    ) -> Result<Arc<ObjectHandle>, SealError> {
        let key = object_key(object);
        let opener = Opener::from_params(&self.keys, &key, params, layout)?;
        Ok(Arc::new(ObjectHandle {
            id: object,
            key,
            opener,
            layout,
        }))
    }
}

/// Bytes of plaintext in these frames.
pub(crate) fn frames_len(object: &ObjectHandle, frames: Range<u64>) -> u64 {
    frames
        .map(|frame| object.layout.frame_plaintext_len(frame))
        .sum()
}

impl PendingObject {
    /// Returns once the object is readable, or is no longer pending.
    pub(crate) async fn finished(&self) {
        let mut finished = self.finished.subscribe();
        // An error means that the sender is gone, and with it the upload: the caller looks again.
        let _ = finished.wait_for(|finished| *finished).await;
    }

    pub(crate) fn handle(&self) -> Option<Arc<ObjectHandle>> {
        self.handle.get().cloned()
    }

    pub(crate) fn lost(&self) -> Option<StoreError> {
        self.lost.get().cloned()
    }
}
