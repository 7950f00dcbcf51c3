//! Whether a store is fit for a volume; tried before the first volume is made in it, and by
//! `doctor`.
//!
//! Promises: each failure names exactly the ability that the store lacks; all objects that were
//! made are deleted again, after a failure too, unless the process is killed. `leftovers.rs` knows
//! what is there then. Never: touches a key that no probe made.
//!
//! [`Probe::run`] tries the abilities side by side, each with keys of its own: six round trips in a
//! row, where one after the other would be thirty. [`Probe::attempt`] tries one by itself, so that
//! a failure of one does not hide the others.
//!
//! | file | what |
//! |---|---|
//! | `conditions.rs` | conditional PUTs, one after the other and in races |
//! | `contents.rs` | ranges of an object, multipart uploads |
//! | `listing.rs` | listings and deletes |
//! | `measured.rs` | how fast the store is |
//! | `leftovers.rs` | the keys of a probe, and what a killed one has left |

mod conditions;
mod contents;
mod leftovers;
mod listing;
mod measured;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use leftovers::{abort_uploads, key_of};
pub use leftovers::{clear_leftovers, clear_old_leftovers, is_of_a_probe};
pub use measured::Carried;

use super::{Condition, Store, StoreError, StoreErrorKind, UploadId, object::random_hex};

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

/// One ability, tried by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// PUT of an object, which is answered with an ETag.
    Put,
    /// GET of the object of [`Trial::Put`].
    Get,
    /// Listings show what was written, in order, and from a place on.
    List,
    /// DELETE of one object and of several.
    Delete {
        /// Listings are asked too whether the objects are gone.
        listed: bool,
    },
    /// Conditional PUTs, one after the other.
    Conditions,
    /// Conditional PUTs that race.
    Races,
    /// GET of ranges.
    Ranges,
    /// A multipart upload, and its object.
    Multipart,
    /// Uploads that were begun are listed, and gone once they are aborted.
    Uploads,
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

/// One trial of a store.
pub struct Probe<'a> {
    store: &'a Store,
    id: String,
    stopped: AtomicBool,
    /// A request was sent, or may have been.
    begun: AtomicBool,
    /// The names of the objects that the store has taken.
    written: Mutex<Vec<&'static str>>,
    /// Uploads that were begun and are not known to be over.
    uploads: Mutex<Vec<(String, UploadId)>>,
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
            begun: AtomicBool::new(false),
            written: Mutex::default(),
            uploads: Mutex::default(),
        })
    }

    /// Whether anything may be in the store that [`Probe::clean_up`] has to delete.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// The beginning of all keys of this trial.
    pub fn key_prefix(&self) -> String {
        self.key("")
    }

    /// Sends no more requests than those that are under way.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn go_on(&self) -> Result<(), ProbeFailure> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(ProbeFailure::Stopped),
            false => {
                self.begun.store(true, Ordering::Relaxed);
                Ok(())
            }
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

    /// Tries one ability. Whoever calls it cleans up at the end.
    ///
    /// # Errors
    /// As [`probe`], but for [`ProbeFailure::Disturbed`].
    pub async fn attempt(&self, trial: Trial) -> Result<(), ProbeFailure> {
        // Boxed, as in `run`.
        match trial {
            Trial::Put => Box::pin(self.write_measured()).await,
            Trial::Get => Box::pin(self.read_measured()).await,
            Trial::List => Box::pin(self.listed_as_written()).await,
            Trial::Delete { listed } => Box::pin(self.written_and_deleted(listed)).await,
            Trial::Conditions => {
                let (absent, matching) =
                    tokio::join!(Box::pin(self.absent()), Box::pin(self.matching()));
                absent.and(matching)
            }
            Trial::Races => {
                let (first, second) = tokio::join!(
                    Box::pin(self.race_to_be_first()),
                    Box::pin(self.race_to_be_second())
                );
                first.and(second)
            }
            Trial::Ranges => Box::pin(self.ranged()).await,
            Trial::Multipart => Box::pin(self.multipart()).await,
            Trial::Uploads => Box::pin(self.aborted()).await,
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
        let (deleted, aborted) = tokio::join!(self.store.delete(&keys), async {
            self.abort_own().await?;
            // An upload whose beginning was not answered is only found so.
            abort_uploads(self.store, &prefix).await
        });
        deleted.and(aborted)
    }
}
