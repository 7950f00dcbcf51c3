//! The object store that SlateDB sees. It seals objects as they are written and opens them as they
//! are read.
//!
//! Promises: nothing goes out unsealed but SlateDB's own put id. Nothing comes back that did not
//! authenticate at the path that was asked for, its length included. Sizes are those of the
//! plaintext. An object that fails to authenticate is logged, counted, and not tried again. Never:
//! tells SlateDB that an outage is final; keeps more plaintext than it was allowed to.
//!
//! SlateDB reads its tables in blocks of a few KiB, and each would be a request. Tables (`*.sst`)
//! are never changed once written. So they are read in chunks of 256 KiB, which are kept in a
//! bounded cache, and each chunk is fetched once even if several readers want it at the same time.
//! The first read of a table fetches its header with its first chunk, and its last chunk if there
//! is more than one: the length is believed only when the final frame has opened. Other objects
//! (manifests, boundaries) are read whole, anew each time.
//!
//! Log objects (`wal/*.sst`) are chained: each is sealed with the commitment of its predecessor,
//! and each manifest ends with the newest log object that its writer knew ([`LogPosition`]).
//! SlateDB sees neither. Each object that is read is compared with its known neighbours (`chain`),
//! and one that does not fit is an error like one of authentication.

mod cache;
mod chain;
mod errors;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod locations;
mod log;
mod log_seen;
mod manifest;
mod outgoing;
mod position;
mod read;
mod upload;
mod write;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    path::Path,
};
use parking_lot::Mutex;
use slatedb::object_store_tag::ObjectStoreCallTag;
use tokio::sync::Semaphore;

use super::{
    codec::{Layout, META_FRAME_LOG2},
    keys::{Epoch, VolumeKeys},
};
use crate::store::{ListEntry, Store};
use cache::Cache;
use chain::Chain;
use errors::{Unknown, from_store, permanent};
use log_seen::Unanswered;
pub use position::{LogFault, LogPosition};

/// The directory in the volume that SlateDB's paths are below.
pub const ROOT: &str = "meta/";
/// Pages of a listing, at most; there are a few hundred manifests and compactions. SlateDB keeps a
/// listing in memory, some 200 bytes an object.
const LIST_PAGES_MAX: u32 = 100;
/// Directories that only garbage collection lists. Names ascend with time there, so a listing that
/// is cut off names the oldest objects, and the next collection goes on.
const COLLECTED_DIRECTORIES: [&str; 2] = ["/wal/", "/compacted/"];
/// Objects of such a listing, at most. A mount that syncs 150 times a second leaves so many in the
/// ten minutes between two collections.
const COLLECTED_OBJECTS_MAX: usize = 90_000;
/// Locations that one batch of deletes takes at most (S3's limit).
const DELETE_BATCH_MAX: usize = 1000;

/// Fetches, at most, that go on to their end although nobody waits for them any more: half a MiB
/// each at most.
const FINISHING_MAX: usize = 8;

/// An `object_store::ObjectStore` whose paths are below `meta/` and whose objects are all sealed.
/// The location `manifest/1.manifest` is the volume's key `meta/manifest/1.manifest`, and that key
/// is what the object is bound to. Cheap to clone.
#[derive(Clone)]
pub struct SealedObjectStore {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    keys: Arc<VolumeKeys>,
    cache: Cache,
    chain: Mutex<Chain>,
    unanswered: Mutex<Option<Unanswered>>,
    /// Bytes of objects that were read and authenticated.
    opened_bytes: AtomicU64,
    unknown: Mutex<Unknown>,
    /// Room for fetches that go on to their end although nobody waits for them any more.
    finishing: Arc<Semaphore>,
}

impl SealedObjectStore {
    /// `cache_bytes_max` bounds the plaintext chunks kept for read-around (see the module's head).
    pub fn new(store: Store, keys: Arc<VolumeKeys>, cache_bytes_max: u64) -> SealedObjectStore {
        SealedObjectStore {
            inner: Arc::new(Inner {
                store,
                keys,
                cache: Cache::new(cache_bytes_max),
                chain: Mutex::default(),
                unanswered: Mutex::default(),
                opened_bytes: AtomicU64::new(0),
                unknown: Mutex::default(),
                finishing: Arc::new(Semaphore::new(FINISHING_MAX)),
            }),
        }
    }

    /// The newest log object that this process wrote (the store has acknowledged it) or verified.
    /// `None` before the metadata was opened.
    pub fn log_head(&self) -> Option<LogPosition> {
        self.inner.chain.lock().head()
    }

    /// The log object of this number, if this process has met it in the log that it verified.
    pub fn log_at(&self, number: u64) -> Option<LogPosition> {
        self.inner.chain.lock().at(number)
    }

    /// The fault that was found in the log, if any: the reason why it cannot be opened or written
    /// any more.
    pub fn log_fault(&self) -> Option<LogFault> {
        self.inner.chain.lock().fault()
    }

    /// To be called before the metadata is opened, with the log object that this machine knows: the
    /// object of that number must be that object, and must not be missing where the log is read or
    /// written. Objects that were collected since are not asked for.
    ///
    /// # Errors
    /// It is known already that it is another one.
    pub fn expect_log(&self, position: LogPosition) -> Result<(), LogFault> {
        self.inner.chain.lock().remember(position)
    }

    /// From now on a log that does not hold together is warned of and read as it is, for a user who
    /// accepts that the volume went back in time.
    pub fn accept_any_log(&self) {
        self.inner.chain.lock().tolerate();
    }

    /// Bytes that were read and authenticated so far. They tell whether reading gets on.
    pub fn opened_bytes(&self) -> u64 {
        self.inner.opened_bytes.load(Ordering::Relaxed)
    }

    /// The highest key epoch that an object named and that is not among the keys here: the volume's
    /// key was rotated, or the object was changed.
    pub fn unknown_epoch(&self) -> Option<Epoch> {
        self.inner.unknown.lock().epoch
    }

    /// Bytes of plaintext chunks kept now.
    pub fn cached_bytes(&self) -> u64 {
        self.inner.cache.bytes()
    }

    /// Bytes of plaintext chunks kept at most.
    pub fn cached_bytes_max(&self) -> u64 {
        self.inner.cache.bytes_max()
    }
}

/// The volume-relative key of a location.
fn key_of(location: &Path) -> String {
    format!("{ROOT}{location}")
}

/// A table: written once, never changed.
fn is_immutable(location: &Path) -> bool {
    location.extension() == Some("sst")
}

/// A listing's entry of an object. The length is computed from the store's word, and not
/// authenticated.
fn listed(entry: ListEntry) -> Option<ObjectMeta> {
    let location = match Path::parse(entry.key.strip_prefix(ROOT)?) {
        Ok(location) => location,
        Err(_) => {
            tracing::warn!("an object that is none of ours is in the bucket and is passed over");
            return None;
        }
    };
    let size = Layout::from_stored_len(META_FRAME_LOG2, entry.size)
        .map_or(0, |layout| layout.plaintext_len);
    Some(read::object_meta(
        location,
        size,
        entry.modified_unix_seconds,
        entry.etag,
    ))
}

impl Inner {
    /// All objects whose key starts with `prefix` and comes after `after`.
    fn list(
        self: Arc<Self>,
        prefix: String,
        after: Option<String>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let pages = self.store.pages(&prefix, after.as_deref(), LIST_PAGES_MAX);
        let pages = futures::stream::try_unfold(pages, move |mut pages| {
            let prefix = prefix.clone();
            async move {
                let page = pages.next().await;
                let Some(page) = page.map_err(|error| from_store(error, &prefix))? else {
                    return Ok::<_, object_store::Error>(None);
                };
                let entries = page
                    .into_iter()
                    .filter_map(listed)
                    .map(Ok::<_, object_store::Error>);
                Ok(Some((futures::stream::iter(entries), pages)))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// The key prefix of everything in a "directory".
fn directory_prefix(prefix: Option<&Path>) -> String {
    match prefix.filter(|prefix| !prefix.as_ref().is_empty()) {
        Some(prefix) => format!("{}/", key_of(prefix)),
        None => ROOT.to_owned(),
    }
}

#[async_trait]
impl ObjectStore for SealedObjectStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        write::put(&self.inner, location, &payload, &opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        upload::begin(Arc::clone(&self.inner), location, &opts).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        if options.version.is_some() {
            return Err(object_store::Error::NotSupported {
                source: "versions of objects".into(),
            });
        }
        // SlateDB found the bytes that it got damaged, so it must not get the same from the cache
        // again.
        if ObjectStoreCallTag::from_extensions(&options.extensions)
            .is_some_and(|tag| tag.retry.is_some())
        {
            self.inner.cache.forget(&key_of(location));
        }
        read::get(&self.inner, location, &options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        // Neighbouring ranges are in the same chunk, which is fetched once.
        futures::stream::iter(ranges)
            .then(|range| async move {
                let options = GetOptions {
                    range: Some(range.clone().into()),
                    ..GetOptions::default()
                };
                read::get(&self.inner, location, &options)
                    .await?
                    .bytes()
                    .await
            })
            .try_collect()
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let inner = Arc::clone(&self.inner);
        let delete = move |batch: Vec<object_store::Result<Path>>| {
            let inner = Arc::clone(&inner);
            async move {
                let keys: Vec<String> = batch
                    .iter()
                    .filter_map(|location| location.as_ref().ok())
                    .map(key_of)
                    .collect();
                let deleted = inner.store.delete(&keys).await;
                for key in &keys {
                    inner.cache.forget(key);
                }
                let result = move |location: object_store::Result<Path>| {
                    let location = location?;
                    match &deleted {
                        Ok(()) => Ok(location),
                        Err(error) => Err(from_store(error.clone(), location.as_ref())),
                    }
                };
                futures::stream::iter(batch.into_iter().map(result))
            }
        };
        locations
            .ready_chunks(DELETE_BATCH_MAX)
            .then(delete)
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = directory_prefix(prefix);
        let is_collected = COLLECTED_DIRECTORIES
            .iter()
            .any(|directory| prefix.ends_with(directory));
        let objects = Arc::clone(&self.inner).list(prefix, None);
        match is_collected {
            true => objects.take(COLLECTED_OBJECTS_MAX).boxed(),
            false => objects,
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        Arc::clone(&self.inner).list(directory_prefix(prefix), Some(key_of(offset)))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let prefix = directory_prefix(prefix);
        let (directories, entries) = self
            .inner
            .store
            .list_level(&prefix)
            .await
            .map_err(|error| from_store(error, &prefix))?;
        let common_prefixes = directories
            .iter()
            .filter_map(|key| Path::parse(key.strip_prefix(ROOT)?).ok())
            .collect();
        let objects = entries.into_iter().filter_map(listed).collect();
        Ok(ListResult {
            common_prefixes,
            objects,
            extensions: object_store::Extensions::new(),
        })
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        // A sealed object is bound to its path, so a copy is sealed anew.
        let whole = read::get(&self.inner, from, &GetOptions::default())
            .await?
            .bytes()
            .await?;
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        write::put(&self.inner, to, &whole.into(), &PutOptions::from(mode)).await?;
        Ok(())
    }
}

impl fmt::Debug for SealedObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedObjectStore")
            .field("volume", &self.inner.keys.volume())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SealedObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedObjectStore")
    }
}

/// A payload of pieces that are opened and owned already.
fn payload(pieces: Vec<Bytes>) -> GetResultPayload {
    GetResultPayload::Stream(futures::stream::iter(pieces.into_iter().map(Ok)).boxed())
}

/// A request that can never succeed.
fn unusable(why: impl Into<String>) -> object_store::Error {
    permanent(why.into().into())
}
