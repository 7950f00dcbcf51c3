//! Whether a store is fit for a volume; tried before the first volume is made in it.
//!
//! Promises: each failure names exactly the ability that the store lacks; all objects that were
//! made are deleted again, after a failure too. Never: touches a key that it did not make.

use bytes::Bytes;
use futures::future::join_all;

use super::{Condition, Store, StoreError, StoreErrorKind, object::random_hex};

/// The smallest part that S3 takes, unless it is the last.
const PART_LEN: usize = 5 * 1024 * 1024;
/// The last part is smaller than any that is not.
const LAST_PART_LEN: usize = 1000;
/// Conditional PUTs that race for one key.
const RACERS: u8 = 8;

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
    /// The store could not be tried.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tries every ability that a volume needs, under a random key in the volume's prefix.
///
/// # Errors
/// [`ProbeFailure`]; the first thing that is missing.
pub async fn probe(store: &Store) -> Result<(), ProbeFailure> {
    let random =
        random_hex().map_err(|why| StoreError::new(StoreErrorKind::Other, "probe", "", why))?;
    let probe = Probe {
        store,
        base: format!("probe-{random}"),
    };
    let result = probe.run().await;
    let cleaned = probe.clean_up().await;
    match (&result, cleaned) {
        (Ok(()), Err(error)) => Err(lacks("delete", error)),
        _ => result,
    }
}

/// Whether there is nothing below the volume's prefix.
///
/// # Errors
/// Every failure that keeps the listing from being answered.
pub async fn prefix_is_empty(store: &Store) -> Result<bool, StoreError> {
    Ok(store.list_raw("", None, 1).await?.is_empty())
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

struct Probe<'a> {
    store: &'a Store,
    base: String,
}

impl Probe<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}-{name}", self.base)
    }

    fn keys(&self) -> Vec<String> {
        ["multipart", "object", "race"]
            .iter()
            .map(|name| self.key(name))
            .collect()
    }

    async fn run(&self) -> Result<(), ProbeFailure> {
        self.conditional().await?;
        self.races().await?;
        self.ranged().await?;
        self.multipart().await?;
        self.list().await?;
        self.delete().await
    }

    async fn put(
        &self,
        name: &str,
        body: Bytes,
        condition: Condition,
    ) -> Result<Option<String>, StoreError> {
        Ok(self
            .store
            .put(&self.key(name), vec![body], condition, &[])
            .await?
            .etag)
    }

    /// One after the other: the second one with the same condition is refused.
    async fn conditional(&self) -> Result<(), ProbeFailure> {
        let first = self
            .put("object", Bytes::from_static(b"first"), Condition::Absent)
            .await
            .map_err(|error| lacks(IF_NONE_MATCH, error))?;
        let etag = first.ok_or_else(|| refuse("ETags", "a PUT was answered without one"))?;
        self.must_refuse(
            "object",
            Condition::Absent,
            IF_NONE_MATCH,
            "a second object was let replace the first",
        )
        .await?;
        let matches = Condition::Matches(etag);
        self.put("object", Bytes::from_static(b"second"), matches.clone())
            .await
            .map_err(|error| lacks(IF_MATCH, error))?;
        self.must_refuse(
            "object",
            matches,
            IF_MATCH,
            "a stale ETag was let replace a newer object",
        )
        .await
    }

    async fn must_refuse(
        &self,
        name: &str,
        condition: Condition,
        capability: &'static str,
        detail: &str,
    ) -> Result<(), ProbeFailure> {
        match self
            .put(name, Bytes::from_static(b"refused"), condition)
            .await
        {
            Ok(_) => Err(refuse(capability, detail)),
            Err(error) if error.kind == StoreErrorKind::Precondition => Ok(()),
            Err(error) => Err(lacks(capability, error)),
        }
    }

    /// All at once: one wins, and the object is the winner's.
    async fn races(&self) -> Result<(), ProbeFailure> {
        let etag = self.race(Condition::Absent, IF_NONE_MATCH, 0).await?;
        self.race(Condition::Matches(etag), IF_MATCH, RACERS)
            .await
            .map(drop)
    }

    async fn race(
        &self,
        condition: Condition,
        capability: &'static str,
        first: u8,
    ) -> Result<String, ProbeFailure> {
        let racers = (first..first + RACERS).map(|racer| {
            let condition = condition.clone();
            async move {
                (
                    racer,
                    self.put("race", Bytes::from(vec![racer; 64]), condition)
                        .await,
                )
            }
        });
        let mut winner = None;
        for (racer, outcome) in join_all(racers).await {
            match outcome {
                Ok(etag) if winner.is_none() => winner = Some((racer, etag)),
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
        let (winner, etag) = winner.ok_or_else(|| {
            refuse(
                capability,
                "of the PUTs that raced for one key none was let through",
            )
        })?;
        let (head, body) = self.store.get_bytes(&self.key("race"), None, 64).await?;
        if body.iter().any(|byte| *byte != winner) {
            return Err(refuse(
                capability,
                "the object is not that of the PUT that was let through",
            ));
        }
        etag.or(head.etag)
            .ok_or_else(|| refuse("ETags", "a GET was answered without one"))
    }

    async fn ranged(&self) -> Result<(), ProbeFailure> {
        let body = pattern(100_000, 1);
        self.put("object", body.clone(), Condition::None).await?;
        for range in [0..1, 1000..5000, 99_990..100_010] {
            let fetched = self
                .store
                .get_bytes(&self.key("object"), Some(range.clone()), 4000)
                .await;
            let (head, bytes) = fetched.map_err(|error| lacks(RANGED_GET, error))?;
            let wanted = body.slice(range.start as usize..(range.end as usize).min(body.len()));
            if bytes != wanted || head.size != body.len() as u64 {
                return Err(refuse(
                    RANGED_GET,
                    format!("bytes {range:?} differ from those that were written"),
                ));
            }
        }
        Ok(())
    }

    async fn multipart(&self) -> Result<(), ProbeFailure> {
        let key = self.key("multipart");
        let failed = |error| lacks(MULTIPART, error);
        let contents = [pattern(PART_LEN, 2), pattern(LAST_PART_LEN, 3)];
        let upload = self.store.create_multipart(&key).await.map_err(failed)?;
        let mut parts = Vec::new();
        for (number, content) in (1..).zip(&contents) {
            parts.push(
                self.store
                    .upload_part(&key, &upload, number, vec![content.clone()])
                    .await
                    .map_err(failed)?,
            );
        }
        self.store
            .complete_multipart(&key, &upload, &parts, Condition::None)
            .await
            .map_err(failed)?;
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

    async fn list(&self) -> Result<(), ProbeFailure> {
        let keys = self.keys();
        let listed = self.listed(None).await?;
        if listed != keys {
            return Err(refuse(
                LIST,
                format!("{keys:?} were written and {listed:?} are listed"),
            ));
        }
        let after = self.listed(keys.first().map(String::as_str)).await?;
        if !keys.iter().skip(1).eq(&after) {
            return Err(refuse(LIST, "start-after is ignored"));
        }
        Ok(())
    }

    async fn listed(&self, after: Option<&str>) -> Result<Vec<String>, ProbeFailure> {
        let page = self
            .store
            .list_page(&self.base, after)
            .await
            .map_err(|error| lacks(LIST, error))?;
        Ok(page.into_iter().map(|entry| entry.key).collect())
    }

    async fn delete(&self) -> Result<(), ProbeFailure> {
        self.store
            .delete(&self.keys())
            .await
            .map_err(|error| lacks("delete", error))?;
        match self.store.head(&self.key("object")).await {
            Ok(_) => return Err(refuse("delete", "a deleted object is still there")),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match self.listed(None).await?.first() {
            Some(key) => Err(refuse(
                "delete",
                format!("{key} is still listed after it was deleted"),
            )),
            None => Ok(()),
        }
    }

    async fn clean_up(&self) -> Result<(), StoreError> {
        self.store.delete(&self.keys()).await?;
        match self.store.list_multipart(&self.base).await {
            Ok(uploads) => {
                for pending in uploads {
                    self.store
                        .abort_multipart(&pending.key, &pending.upload)
                        .await?;
                }
                Ok(())
            }
            // Listing uploads is needed after a crash only; a store without it removes unfinished
            // uploads by its own rules.
            Err(error) => {
                tracing::debug!("probe: {error}");
                Ok(())
            }
        }
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
