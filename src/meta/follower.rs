//! How a follower keeps up with the writer: when SlateDB's reader may look for something new, and
//! what is known once it has.
//!
//! A look of SlateDB's reader is a GET of the next manifest, one of a boundary of the manifests,
//! and eight HEADs of log objects after the last one; all but one are answered with 404 on an idle
//! volume, and the reader says nowhere when it has taken over what it found. So the reader is made
//! to look all the time ([`READER_TICK`]), through [`FollowerStore`], which holds the first request
//! of each look back:
//! - until the time has come (`--follow-every`) *and* the next log object is there, which costs one
//!   request. Log objects are numbered without a gap, so no later one is there if that one is not.
//!   Every [`WHOLE_LOOK_EVERY`] the look goes on even so, for a new manifest alone;
//! - when that request arrives, the look before it is over and what it found is in place. Only then
//!   is the new generation *published*.
//!
//! Promises: a published generation is what reads see at least; between two looks nothing changes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use slatedb::{
    DbStatus,
    object_store::{
        self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
        ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
        path::Path,
    },
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Extent, Ino, Inode, Meta, MetaError};

/// How soon after a look SlateDB's reader begins the next one, which is then held back.
pub(super) const READER_TICK: Duration = Duration::from_millis(20);

/// How often a look goes on although there is no new log object: for manifests that say only that
/// tables were compacted, and for a log whose next object was deleted because this machine was
/// suspended for longer than log objects are kept.
const WHOLE_LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often a file's record and extents are read again because the record changed meanwhile. A
/// look changes them at most once, and looks are far apart.
const VIEW_ATTEMPTS: usize = 8;

/// When a follower looks, and what it has found.
pub(super) struct Pace {
    every: Duration,
    looks: Mutex<Looks>,
    /// One HEAD of a log object at a time, so that the first that is missing answers for those
    /// after it.
    probe: tokio::sync::Mutex<()>,
    status: OnceLock<watch::Receiver<DbStatus>>,
    published: watch::Sender<Option<u64>>,
    /// The reader is to end: it gets no more answers but that nothing is there.
    closing: CancellationToken,
    /// The volume was dropped without being closed: nothing is asked any more.
    dropped: CancellationToken,
}

struct Looks {
    /// A look goes on, and may bring something at any moment.
    under_way: bool,
    /// A look is under way and asks for manifests, until one is missing.
    asks_for_manifests: bool,
    /// Nothing is asked before this.
    next: Instant,
    last_whole: Option<SystemTime>,
    /// The first log object that was found missing in this look.
    missing: Option<u64>,
    /// The last log object that was found in this look.
    present: u64,
    /// The first log object that was missing when last looked for.
    next_log: Option<u64>,
}

impl Pace {
    pub fn new(every: Duration) -> Arc<Pace> {
        Arc::new(Pace {
            every,
            looks: Mutex::new(Looks {
                under_way: true,
                asks_for_manifests: false,
                next: Instant::now() + every,
                last_whole: Some(SystemTime::now()),
                missing: None,
                present: 0,
                next_log: None,
            }),
            probe: tokio::sync::Mutex::new(()),
            status: OnceLock::new(),
            published: watch::Sender::new(None),
            closing: CancellationToken::new(),
            dropped: CancellationToken::new(),
        })
    }

    /// From now on looks are held back. Returns once the first generation is published.
    pub async fn begin(&self, status: watch::Receiver<DbStatus>) {
        let _ = self.status.set(status);
        // This holds the sender, so it cannot end early.
        let _ = self.published.subscribe().wait_for(Option::is_some).await;
    }

    pub fn published(&self) -> Option<u64> {
        *self.published.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.published.subscribe()
    }

    /// Lets the reader end.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Stops asking.
    pub fn abandon(&self) {
        self.dropped.cancel();
    }

    /// How long nothing will change yet; zero while a look is under way.
    pub fn unchanged_for(&self) -> Duration {
        let looks = self.looks.lock();
        match looks.under_way {
            true => Duration::ZERO,
            false => looks.next.saturating_duration_since(Instant::now()),
        }
    }

    pub fn every(&self) -> Duration {
        self.every
    }

    /// The reader begins a look: the one before it is over.
    fn look_begins(&self, status: &watch::Receiver<DbStatus>) {
        let generation = status.borrow().durable_seq;
        self.looks.lock().under_way = false;
        self.published.send_if_modified(|published| {
            let is_newer = published.is_none_or(|before| before < generation);
            if is_newer {
                *published = Some(generation);
            }
            is_newer
        });
    }

    /// Returns when it is time for a look that may find something; false if the reader is to end.
    async fn until_worth_a_look(&self, store: &dyn ObjectStore) -> bool {
        let begun = Instant::now();
        loop {
            let at = {
                let mut looks = self.looks.lock();
                // The first look after one that took longer than `every` does not wait, but no two
                // follow each other without a pause.
                looks.next = looks.next.max(begun + READER_TICK);
                looks.next
            };
            tokio::time::sleep_until(at).await;
            let (is_whole, next_log) = {
                let mut looks = self.looks.lock();
                looks.missing = None;
                looks.present = 0;
                // By the clock on the wall, which goes on while the machine is suspended.
                let since = looks.last_whole.map(|last| last.elapsed());
                let is_whole = !matches!(since, Some(Ok(since)) if since < WHOLE_LOOK_EVERY);
                if is_whole {
                    looks.last_whole = Some(SystemTime::now());
                }
                (is_whole, looks.next_log)
            };
            let Some(next_log) = next_log.filter(|_| !is_whole) else {
                break;
            };
            match store.head(&log_path(next_log)).await {
                Ok(_) => {
                    self.looks.lock().present = next_log;
                    break;
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!("looking for what the writer did: {error}"),
            }
            self.looks.lock().next = Instant::now() + self.every;
        }
        true
    }

    /// Holds the first request of a look back.
    async fn admit(&self, store: &dyn ObjectStore) -> bool {
        let Some(status) = self.status.get() else {
            return true;
        };
        self.look_begins(status);
        tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            () = self.dropped.cancelled() => {
                self.closing.cancelled().await;
                return false;
            }
            _ = self.until_worth_a_look(store) => {}
        }
        let mut looks = self.looks.lock();
        looks.under_way = true;
        looks.asks_for_manifests = true;
        looks.next = Instant::now() + self.every;
        true
    }

    fn is_missing(&self, log: u64) -> bool {
        let missing = self.looks.lock().missing;
        self.closing.is_cancelled() || missing.is_some_and(|missing| missing <= log)
    }

    fn note_log(&self, log: u64, is_there: bool) {
        let mut looks = self.looks.lock();
        if is_there {
            looks.present = looks.present.max(log);
        } else {
            looks.missing = Some(looks.missing.map_or(log, |before| before.min(log)));
            looks.next_log = looks.missing;
        }
    }
}

/// The volume's metadata as a follower's reader sees it; see the module's head.
pub(super) struct FollowerStore {
    store: Arc<dyn ObjectStore>,
    pace: Arc<Pace>,
}

impl FollowerStore {
    pub fn new(store: Arc<dyn ObjectStore>, pace: Arc<Pace>) -> FollowerStore {
        FollowerStore { store, pace }
    }

    async fn get_manifest(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let asks_for_manifests = self.pace.looks.lock().asks_for_manifests;
        if !asks_for_manifests && !self.pace.admit(&self.store).await {
            return Err(missing(location));
        }
        let answer = self.store.get_opts(location, options).await;
        let mut looks = self.pace.looks.lock();
        // The manifest after one that was found is asked for in the same look.
        looks.asks_for_manifests &= answer.is_ok();
        drop(looks);
        answer
    }

    async fn head_log(
        &self,
        log: u64,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let is_known = log <= self.pace.looks.lock().present;
        let _turn = match is_known {
            true => None,
            false => Some(self.pace.probe.lock().await),
        };
        if self.pace.is_missing(log) {
            return Err(missing(location));
        }
        let answer = self.store.get_opts(location, options).await;
        match &answer {
            Ok(_) => self.pace.note_log(log, true),
            Err(object_store::Error::NotFound { .. }) => self.pace.note_log(log, false),
            Err(_) => {}
        }
        answer
    }
}

/// Where SlateDB keeps its log and its manifests.
const LOG_DIRECTORY: &str = "wal";
const MANIFEST_DIRECTORY: &str = "manifest";

fn log_path(log: u64) -> Path {
    Path::from(format!("{LOG_DIRECTORY}/{log:020}.sst"))
}

/// The number of an object in a directory that SlateDB numbers.
fn number_in(directory: &str, location: &Path) -> Option<u64> {
    let name = location
        .as_ref()
        .strip_prefix(directory)?
        .strip_prefix('/')?;
    name.split('.').next()?.parse().ok()
}

fn missing(location: &Path) -> object_store::Error {
    object_store::Error::NotFound {
        path: location.to_string(),
        source: "not there when last looked for".into(),
    }
}

#[async_trait]
impl ObjectStore for FollowerStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        if number_in(MANIFEST_DIRECTORY, location).is_some() {
            return self.get_manifest(location, options).await;
        }
        match number_in(LOG_DIRECTORY, location) {
            Some(log) if options.head => self.head_log(log, location, options).await,
            _ => self.store.get_opts(location, options).await,
        }
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> object_store::Result<Vec<bytes::Bytes>> {
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FollowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowerStore").finish_non_exhaustive()
    }
}

impl fmt::Display for FollowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FollowerStore")
    }
}

/// A file as it was at one moment.
#[derive(Clone, Debug)]
pub struct FileSnapshot {
    /// The generation that was published when the reading began: the snapshot is of that one or of
    /// the next.
    pub generation: u64,
    /// The record.
    pub inode: Inode,
    /// Its extents; `None` if there are more than were asked for.
    pub extents: Option<Vec<Extent>>,
}

impl Meta {
    /// Whether another mount writes what is read here.
    pub fn is_follower(&self) -> bool {
        self.inner.pace.is_some()
    }

    /// How often a follower looks for what the writer did; `None` for the writer.
    pub fn follows_every(&self) -> Option<Duration> {
        self.inner.pace.as_ref().map(|pace| pace.every())
    }

    /// How long a follower will not see anything new; `None` for the writer.
    pub fn unchanged_for(&self) -> Option<Duration> {
        self.inner.pace.as_ref().map(|pace| pace.unchanged_for())
    }

    /// Returns when a follower sees a later generation than `seen`, with that one. Never returns
    /// for the writer.
    pub async fn generation_after(&self, seen: u64) -> u64 {
        let Some(pace) = &self.inner.pace else {
            return std::future::pending().await;
        };
        let mut published = pace.subscribe();
        let later = published.wait_for(|published| published.is_some_and(|now| now > seen));
        let now = later.await.map(|now| *now).ok().flatten();
        match now {
            Some(now) => now,
            // The volume is closed: nothing will change.
            None => std::future::pending().await,
        }
    }

    /// A file's record together with its extents, if they are at most `extents_max`; `None` if
    /// there is no such inode.
    ///
    /// One scan of the extents is of one moment. If the record is the same before and after it, it
    /// was so at that moment too: the change time never goes back.
    pub async fn file_snapshot(
        &self,
        ino: Ino,
        extents_max: usize,
    ) -> Result<Option<FileSnapshot>, MetaError> {
        for _ in 0..VIEW_ATTEMPTS {
            let generation = self.generation();
            let Some(inode) = self.inode(ino).await? else {
                return Ok(None);
            };
            let extents = self.extents(ino, 0..u64::MAX, extents_max + 1).await?;
            if self.inode(ino).await?.as_ref() == Some(&inode) {
                return Ok(Some(FileSnapshot {
                    generation,
                    inode,
                    extents: (extents.len() <= extents_max).then_some(extents),
                }));
            }
        }
        Err(MetaError::Store(format!(
            "inode {} changes faster than it can be read",
            ino.0
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_the_names_that_slatedb_gives() {
        assert_eq!(number_in(LOG_DIRECTORY, &log_path(7)), Some(7));
        let manifest = Path::from("manifest/00000000000000000012.manifest");
        assert_eq!(number_in(MANIFEST_DIRECTORY, &manifest), Some(12));
        assert_eq!(number_in(LOG_DIRECTORY, &manifest), None);
        let boundary = Path::from("gc/wal.boundary");
        assert_eq!(number_in(LOG_DIRECTORY, &boundary), None);
    }
}
