//! The header in the store. It is stored twice, so that neither a lost object nor a crash between
//! two writes loses the volume.

use bytes::Bytes;

use super::{HEADER_FILE_LEN_MAX, HeaderError, Unlocked, VolumeHeader};
use crate::store::{Condition, Store, StoreError, StoreErrorKind};

/// The key of the header. Of two writers, the one that wins the conditional write of this object
/// decides.
pub const PRIMARY_KEY: &str = "strongroom.json";
/// The key of its copy.
pub const COPY_KEY: &str = "strongroom.copy.json";
/// The key of the notes on its slots, which no reader of the header needs.
pub const SLOT_NOTES_KEY: &str = "slots";

/// A header as it was found.
#[derive(Clone, Debug)]
pub struct LoadedHeader {
    /// The header.
    pub header: VolumeHeader,
    /// The state that `strongroom.json` must still have when it is replaced.
    pub expected: Condition,
    /// The object that it came from.
    pub source: HeaderSource,
}

/// The object that a header came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderSource {
    /// `strongroom.json`.
    Primary,
    /// `strongroom.copy.json`, for this reason.
    Copy {
        /// The fault of `strongroom.json`.
        why: String,
    },
}

/// Reasons why no header could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bucket does not exist.
    #[error("there is no bucket {0}")]
    NoBucket(String),
    /// Nothing at this place.
    #[error("there is no volume at {0}: make one with `strongroom init`")]
    NoVolume(String),
    /// Both copies are bad.
    #[error("the volume header is damaged in both copies: {primary}; copy: {copy}")]
    Damaged {
        /// The fault of `strongroom.json`.
        primary: String,
        /// The fault of `strongroom.copy.json`.
        copy: String,
    },
    /// Written by a later program.
    #[error("the volume has format {0}, this program knows format {known}: use a newer strongroom", known = super::FORMAT)]
    NewerFormat(u64),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Reasons why a header could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another program replaced or made it meanwhile.
    #[error("the volume header was changed by somebody else at the same time: try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> LoadError {
        match error.kind {
            StoreErrorKind::NoBucket => LoadError::NoBucket(error.key),
            _ => LoadError::Store(error),
        }
    }
}

/// One of the two objects as it was found.
struct Found {
    header: Result<VolumeHeader, String>,
    condition: Condition,
}

/// Reads one of the two. Returns errors of the store, and of a newer format, which must not be
/// passed over.
async fn read(store: &Store, key: &str) -> Result<Found, LoadError> {
    // The range bounds how much is read, even if an attacker made the object huge.
    let range = 0..HEADER_FILE_LEN_MAX + 1;
    let found = |header: Result<VolumeHeader, String>, condition| Ok(Found { header, condition });
    let (head, bytes) = match store
        .get_bytes(key, Some(range), HEADER_FILE_LEN_MAX + 1)
        .await
    {
        Ok(object) => object,
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            return found(Err("missing".to_owned()), Condition::Absent);
        }
        // The store's answer to a range of an empty object.
        Err(error) if error.kind == StoreErrorKind::Range => (store.head(key).await?, Bytes::new()),
        Err(error) => return Err(error.into()),
    };
    let condition = head.etag.map_or(Condition::None, Condition::Matches);
    match VolumeHeader::parse(&bytes) {
        Ok(header) => found(Ok(header), condition),
        Err(HeaderError::NewerFormat(format)) => Err(LoadError::NewerFormat(format)),
        Err(HeaderError::Damaged(why)) => found(Err(why), condition),
    }
}

impl VolumeHeader {
    /// Reads `strongroom.json`; if that is missing or damaged, `strongroom.copy.json`, which
    /// [`LoadedHeader::source`] tells. Nothing of it is authenticated before
    /// [`VolumeHeader::unlock`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(store: &Store) -> Result<LoadedHeader, LoadError> {
        let primary = read(store, PRIMARY_KEY).await?;
        let why = match primary.header {
            Ok(header) => {
                return Ok(LoadedHeader {
                    header,
                    expected: primary.condition,
                    source: HeaderSource::Primary,
                });
            }
            Err(why) => why,
        };
        let copy = read(store, COPY_KEY).await?;
        match copy.header {
            Ok(header) => {
                tracing::warn!("{PRIMARY_KEY} is unusable ({why}), using {COPY_KEY}");
                Ok(LoadedHeader {
                    header,
                    expected: primary.condition,
                    source: HeaderSource::Copy { why },
                })
            }
            Err(_)
                if primary.condition == Condition::Absent
                    && copy.condition == Condition::Absent =>
            {
                Err(LoadError::NoVolume(display_url(store)))
            }
            Err(copy) => Err(LoadError::Damaged { primary: why, copy }),
        }
    }

    /// The header of a volume below the place of `store`, unauthenticated, or what is wrong with
    /// it. `prefix` is empty or ends with a slash.
    ///
    /// # Errors
    /// The store's.
    pub async fn peek(
        store: &Store,
        prefix: &str,
    ) -> Result<Result<VolumeHeader, String>, StoreError> {
        let mut outcome = Err(String::new());
        for name in [PRIMARY_KEY, COPY_KEY] {
            outcome = match read(store, &format!("{prefix}{name}")).await {
                Ok(found) => found.header,
                Err(LoadError::Store(error)) => return Err(error),
                Err(error) => Err(error.to_string()),
            };
            if outcome.is_ok() {
                break;
            }
        }
        Ok(outcome)
    }

    /// Stores the header: `strongroom.json` on the condition `expected` (of
    /// [`LoadedHeader::expected`]; [`Condition::Absent`] for a new volume), then the copy. A crash
    /// between the two leaves the new header and an old copy, which the next
    /// [`LoadedHeader::repair`] replaces.
    ///
    /// # Errors
    /// [`SaveError::Conflict`]: nothing of this header was stored.
    pub async fn save(&self, store: &Store, expected: Condition) -> Result<(), SaveError> {
        self.save_primary(store, expected).await?;
        self.save_copy(store).await
    }

    /// The first half of [`VolumeHeader::save`], which decides.
    ///
    /// # Errors
    /// As there.
    pub async fn save_primary(&self, store: &Store, expected: Condition) -> Result<(), SaveError> {
        put_primary(store, &Bytes::from(self.encode()), expected).await
    }

    /// The second half of [`VolumeHeader::save`].
    ///
    /// # Errors
    /// The store's.
    pub async fn save_copy(&self, store: &Store) -> Result<(), SaveError> {
        let bytes = Bytes::from(self.encode());
        store
            .put(COPY_KEY, vec![bytes], Condition::None, &[])
            .await?;
        Ok(())
    }
}

/// Stores `strongroom.json`.
async fn put_primary(store: &Store, bytes: &Bytes, expected: Condition) -> Result<(), SaveError> {
    match store
        .put(PRIMARY_KEY, vec![bytes.clone()], expected, &[])
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind == StoreErrorKind::Precondition => Err(SaveError::Conflict),
        Err(error) => Err(error.into()),
    }
}

impl LoadedHeader {
    /// The fault that [`LoadedHeader::repair`] would mend, with the object that has it. Reads only.
    ///
    /// # Errors
    /// The store's.
    pub async fn fault(&self, store: &Store) -> Result<Option<(&'static str, String)>, StoreError> {
        if let HeaderSource::Copy { why } = &self.source {
            return Ok(Some((PRIMARY_KEY, why.clone())));
        }
        let copy = match read(store, COPY_KEY).await {
            Ok(copy) => copy.header,
            Err(LoadError::Store(error)) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        Ok(match copy {
            // A newer copy belongs to a change under way.
            Ok(copy) if copy == self.header || copy.revision > self.header.revision => None,
            Ok(_) => Some((COPY_KEY, "older than strongroom.json".to_owned())),
            Err(why) => Some((COPY_KEY, why)),
        })
    }

    /// Stores this header in either of the two objects that was missing, damaged or old. To be
    /// called at a writable mount. The result of unlocking is the proof that the header is
    /// authentic. Returns whether something was written.
    ///
    /// # Errors
    /// Errors of the store. A simultaneous repair by another mount is no error.
    pub async fn repair(&self, store: &Store, _authentic: &Unlocked) -> Result<bool, StoreError> {
        let bytes = Bytes::from(self.header.encode());
        if let HeaderSource::Copy { .. } = self.source {
            return match put_primary(store, &bytes, self.expected.clone()).await {
                Ok(()) => {
                    tracing::warn!("{PRIMARY_KEY} is written anew from {COPY_KEY}");
                    Ok(true)
                }
                Err(SaveError::Conflict) => Ok(false),
                Err(SaveError::Store(error)) => Err(error),
            };
        }
        let copy = match read(store, COPY_KEY).await {
            Ok(copy) => copy,
            Err(LoadError::Store(error)) => return Err(error),
            // The copy is in a newer format and the header in ours, so another program is at work.
            Err(_) => return Ok(false),
        };
        if copy.header.as_ref() == Ok(&self.header) {
            return Ok(false);
        }
        // A copy that is newer than what was loaded belongs to a change made meanwhile.
        if copy
            .header
            .is_ok_and(|copy| copy.revision > self.header.revision)
        {
            return Ok(false);
        }
        match store.put(COPY_KEY, vec![bytes], copy.condition, &[]).await {
            Ok(_) => {
                tracing::warn!("{COPY_KEY} was missing, damaged or old, and is written anew");
                Ok(true)
            }
            Err(error) if error.kind == StoreErrorKind::Precondition => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn display_url(store: &Store) -> String {
    let url = store.url();
    match url.prefix.as_str() {
        "" => format!("s3://{}", url.bucket),
        prefix => format!("s3://{}/{prefix}", url.bucket),
    }
}
