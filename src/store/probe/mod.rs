//! Whether a store is fit for a volume; tried before the first volume is made in it.
//!
//! Promises: each failure names exactly the ability that the store lacks; all objects that were
//! made are deleted again, after a failure too, unless the process is killed. `leftovers.rs` knows
//! what is there then. Never: touches a key that no probe made.
//!
//! The abilities are tried side by side, each with keys of its own: six round trips in a row, where
//! one after the other would be thirty.

mod leftovers;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;

pub use leftovers::clear_leftovers;
use leftovers::{abort_uploads, key_of};

use super::{Condition, Store, StoreError, StoreErrorKind, object::random_hex};

/// The smallest part that S3 takes, unless it is the last.
const PART_LEN: usize = 5 * 1024 * 1024;
/// The last part is smaller than any that is not.
const LAST_PART_LEN: usize = 1000;
/// Conditional PUTs that race for one key.
const RACERS: u8 = 8;

/// The names of the keys that are listed, ascending, and what no other name begins with.
const LISTED: [&str; 2] = ["listed1", "listed2"];
const LISTED_PREFIX: &str = "listed";

/// Why a store is not fit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The store answers, and lacks something that a volume needs.
    #[error("the store lacks {capability}: {detail}")]
    Lacks {
        /// The missing ability, such as `conditional PUT (If-None-Match)`.
        capability: &'static str,
        /// How its absence showed.
        detail: String,
    },
    /// Somebody deleted the probe's objects while it was at work.
    #[error("somebody else deletes objects there at this moment")]
    Disturbed,
    /// [`Probe::stop`] was called.
    #[error("stopped")]
    Stopped,
    /// The store could not be tried.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tries every ability that a volume needs, under a random key in the volume's prefix.
///
/// # Errors
/// [`ProbeFailure`]; the first thing that is missing.
pub async fn probe(store: &Store) -> Result<(), ProbeFailure> {
    let probe = Probe::new(store)?;
    let outcome = probe.run().await;
    if outcome.is_err()
        && let Err(error) = probe.clean_up().await
    {
        tracing::debug!("probe: {error}");
    }
    outcome
}

/// Errors that say nothing about the store's abilities pass through unchanged.
fn lacks(capability: &'static str, error: StoreError) -> ProbeFailure {
    match error.kind {
        StoreErrorKind::Other
        | StoreErrorKind::Nonsense
        | StoreErrorKind::Precondition
        | StoreErrorKind::Range
        | StoreErrorKind::NotFound => ProbeFailure::Lacks {
            capability,
            detail: error.to_string(),
        },
        _ => ProbeFailure::Store(error),
    }
}

fn refuse(capability: &'static str, detail: impl Into<String>) -> ProbeFailure {
    ProbeFailure::Lacks {
        capability,
        detail: detail.into(),
    }
}

const IF_NONE_MATCH: &str = "conditional PUT (If-None-Match)";
const IF_MATCH: &str = "conditional PUT (If-Match)";
const RANGED_GET: &str = "ranged GET";
const MULTIPART: &str = "multipart upload";
const LIST: &str = "ListObjectsV2";

/// One trial of a store.
pub struct Probe<'a> {
    store: &'a Store,
    id: String,
    stopped: AtomicBool,
    /// The names of the objects that the store has taken.
    written: Mutex<Vec<&'static str>>,
}

impl<'a> Probe<'a> {
    /// A trial that has sent nothing yet.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(store: &'a Store) -> Result<Probe<'a>, StoreError> {
        let id =
            random_hex().map_err(|why| StoreError::new(StoreErrorKind::Other, "probe", "", why))?;
        Ok(Probe {
            store,
            id,
            stopped: AtomicBool::new(false),
            written: Mutex::default(),
        })
    }

    /// Sends no more requests than those that are under way.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn go_on(&self) -> Result<(), ProbeFailure> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(ProbeFailure::Stopped),
            false => Ok(()),
        }
    }

    fn key(&self, name: &str) -> String {
        key_of(&self.id, name)
    }

    /// All keys, ascending.
    fn keys(&self) -> Vec<String> {
        leftovers::NAMES.iter().map(|name| self.key(name)).collect()
    }

    /// Tries everything. After a failure the caller cleans up.
    ///
    /// # Errors
    /// As [`probe`].
    pub async fn run(&self) -> Result<(), ProbeFailure> {
        // All come to their end, also where one fails: a request that is dropped may take effect
        // later. Each is boxed: together they would be large for a stack.
        let (absent, matching, first, second, ranged, multipart, listed) = tokio::join!(
            Box::pin(self.absent()),
            Box::pin(self.matching()),
            Box::pin(self.race_to_be_first()),
            Box::pin(self.race_to_be_second()),
            Box::pin(self.ranged()),
            Box::pin(self.multipart()),
            Box::pin(self.listed_and_deleted())
        );
        let tried = absent.and(matching).and(first).and(second);
        match tried.and(ranged).and(multipart).and(listed) {
            Ok(()) => self.delete(&self.keys()).await,
            Err(ProbeFailure::Lacks { .. }) if self.is_disturbed().await => {
                Err(ProbeFailure::Disturbed)
            }
            failure => failure,
        }
    }

    /// Whether an object that was written is gone, although the store keeps what is written to it.
    async fn is_disturbed(&self) -> bool {
        let Ok(listed) = self.listed("", None).await else {
            return false;
        };
        let is_gone = |name: &&str| !listed.contains(&self.key(name));
        if !self.written.lock().iter().any(is_gone) {
            return false;
        }
        let again = self.put("object", Bytes::new(), Condition::None).await;
        again.is_ok() && self.store.head(&self.key("object")).await.is_ok()
    }

    async fn put(
        &self,
        name: &'static str,
        body: Bytes,
        condition: Condition,
    ) -> Result<Option<String>, StoreError> {
        let key = self.key(name);
        let put = self.store.put(&key, vec![body], condition, &[]).await?;
        self.written.lock().push(name);
        Ok(put.etag)
    }

    /// As [`Probe::put`], with the ETag.
    async fn put_tagged(&self, name: &'static str, body: &[u8]) -> Result<String, ProbeFailure> {
        self.go_on()?;
        let etag = self
            .put(name, Bytes::copy_from_slice(body), Condition::None)
            .await?;
        etag.ok_or_else(|| refuse("ETags", "a PUT was answered without one"))
    }

    /// One after the other: the second one is refused.
    async fn absent(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        self.put("object", Bytes::from_static(b"first"), Condition::Absent)
            .await
            .map_err(|error| lacks(IF_NONE_MATCH, error))?;
        self.must_refuse(
            "object",
            Condition::Absent,
            IF_NONE_MATCH,
            "a second object was let replace the first",
        )
        .await
    }

    /// The same with the condition that the object is a certain one.
    async fn matching(&self) -> Result<(), ProbeFailure> {
        let matches = Condition::Matches(self.put_tagged("match", b"first").await?);
        self.go_on()?;
        self.put("match", Bytes::from_static(b"second"), matches.clone())
            .await
            .map_err(|error| lacks(IF_MATCH, error))?;
        self.must_refuse(
            "match",
            matches,
            IF_MATCH,
            "a stale ETag was let replace a newer object",
        )
        .await
    }

    async fn must_refuse(
        &self,
        name: &'static str,
        condition: Condition,
        capability: &'static str,
        detail: &str,
    ) -> Result<(), ProbeFailure> {
        self.go_on()?;
        match self
            .put(name, Bytes::from_static(b"refused"), condition)
            .await
        {
            Ok(_) => Err(refuse(capability, detail)),
            Err(error) if error.kind == StoreErrorKind::Precondition => Ok(()),
            Err(error) => Err(lacks(capability, error)),
        }
    }

    async fn race_to_be_first(&self) -> Result<(), ProbeFailure> {
        self.race("race", Condition::Absent, IF_NONE_MATCH).await
    }

    async fn race_to_be_second(&self) -> Result<(), ProbeFailure> {
        let matches = Condition::Matches(self.put_tagged("second", b"first").await?);
        self.race("second", matches, IF_MATCH).await
    }

    /// All at once: one wins, and the object is the winner's.
    async fn race(
        &self,
        name: &'static str,
        condition: Condition,
        capability: &'static str,
    ) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let racers = (0..RACERS).map(|racer| {
            let condition = condition.clone();
            async move {
                let body = Bytes::from(vec![racer; 64]);
                (racer, self.put(name, body, condition).await)
            }
        });
        let mut winner = None;
        for (racer, outcome) in join_all(racers).await {
            match outcome {
                Ok(_) if winner.is_none() => winner = Some(racer),
                Ok(_) => {
                    return Err(refuse(
                        capability,
                        "several of the PUTs that raced for one key were let through",
                    ));
                }
                Err(error) if error.kind == StoreErrorKind::Precondition => {}
                Err(error) => return Err(lacks(capability, error)),
            }
        }
        let winner = winner.ok_or_else(|| {
            refuse(
                capability,
                "of the PUTs that raced for one key none was let through",
            )
        })?;
        self.go_on()?;
        let (_, body) = self
            .store
            .get_bytes(&self.key(name), None, 64)
            .await
            .map_err(|error| lacks(capability, error))?;
        match body.iter().all(|byte| *byte == winner) {
            true => Ok(()),
            false => Err(refuse(
                capability,
                "the object is not that of the PUT that was let through",
            )),
        }
    }

    async fn ranged(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let (key, body) = (self.key("ranges"), pattern(100_000, 1));
        self.put("ranges", body.clone(), Condition::None).await?;
        self.go_on()?;
        let fetched = [0..1, 1000..5000, 99_990..100_010].map(|range| {
            let (key, body) = (&key, &body);
            async move {
                let fetched = self.store.get_bytes(key, Some(range.clone()), 4000).await;
                let (head, bytes) = fetched.map_err(|error| lacks(RANGED_GET, error))?;
                let wanted = body.slice(range.start as usize..(range.end as usize).min(body.len()));
                if bytes != wanted || head.size != body.len() as u64 {
                    return Err(refuse(
                        RANGED_GET,
                        format!("bytes {range:?} differ from those that were written"),
                    ));
                }
                Ok(())
            }
        });
        join_all(fetched).await.into_iter().collect()
    }

    async fn multipart(&self) -> Result<(), ProbeFailure> {
        let key = self.key("multipart");
        let failed = |error| lacks(MULTIPART, error);
        let contents = [pattern(PART_LEN, 2), pattern(LAST_PART_LEN, 3)];
        self.go_on()?;
        let upload = self.store.create_multipart(&key).await.map_err(failed)?;
        self.go_on()?;
        let parts = (1..).zip(&contents).map(|(number, content)| {
            self.store
                .upload_part(&key, &upload, number, vec![content.clone()])
        });
        let parts: Result<Vec<_>, _> = join_all(parts).await.into_iter().collect();
        let parts = parts.map_err(failed)?;
        self.go_on()?;
        self.store
            .complete_multipart(&key, &upload, &parts, Condition::None)
            .await
            .map_err(failed)?;
        self.written.lock().push("multipart");
        self.go_on()?;
        let len = (PART_LEN + LAST_PART_LEN) as u64;
        let (head, body) = self
            .store
            .get_bytes(&key, None, 2 * len)
            .await
            .map_err(failed)?;
        if head.size != len {
            return Err(refuse(
                MULTIPART,
                format!(
                    "the object has {} bytes after its parts were joined",
                    head.size
                ),
            ));
        }
        let [first, last] = contents;
        let (head, tail) = body.split_at(PART_LEN);
        if *head != *first || *tail != *last {
            return Err(refuse(MULTIPART, "the object is not its parts joined"));
        }
        Ok(())
    }

    /// Objects are listed once they are written, and are gone once they are deleted.
    async fn listed_and_deleted(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let keys = LISTED.map(|name| self.key(name));
        let puts = keys.iter().map(|key| {
            self.store
                .put(key, vec![Bytes::from_static(b"x")], Condition::None, &[])
        });
        for put in join_all(puts).await {
            put?;
        }
        self.go_on()?;
        let [first, second] = &keys;
        let (listed, after) = tokio::join!(
            self.listed(LISTED_PREFIX, None),
            self.listed(LISTED_PREFIX, Some(first))
        );
        let (listed, after) = (listed?, after?);
        if listed != keys {
            return Err(refuse(
                LIST,
                format!("{keys:?} were written and {listed:?} are listed"),
            ));
        }
        if after != [second.as_str()] {
            return Err(refuse(LIST, "start-after is ignored"));
        }
        self.delete(&keys).await?;
        self.go_on()?;
        let (there, listed) =
            tokio::join!(self.store.head(first), self.listed(LISTED_PREFIX, None));
        match there {
            Ok(_) => return Err(refuse("delete", "a deleted object is still there")),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match listed?.first() {
            Some(key) => Err(refuse(
                "delete",
                format!("{key} is still listed after it was deleted"),
            )),
            None => Ok(()),
        }
    }

    async fn listed(&self, name: &str, after: Option<&str>) -> Result<Vec<String>, ProbeFailure> {
        let page = self
            .store
            .list_page(&self.key(name), after)
            .await
            .map_err(|error| lacks(LIST, error))?;
        Ok(page.into_iter().map(|entry| entry.key).collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<(), ProbeFailure> {
        self.go_on()?;
        self.store
            .delete(keys)
            .await
            .map_err(|error| lacks("delete", error))
    }

    /// Deletes whatever the trial has left.
    ///
    /// # Errors
    /// The store's; something may be left then, which [`clear_leftovers`] finds.
    pub async fn clean_up(&self) -> Result<(), StoreError> {
        let (keys, prefix) = (self.keys(), self.key(""));
        let (deleted, aborted) =
            tokio::join!(self.store.delete(&keys), abort_uploads(self.store, &prefix));
        deleted.and(aborted)
    }
}

/// Bytes that differ from place to place, so that a shifted range shows (xorshift).
fn pattern(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}
