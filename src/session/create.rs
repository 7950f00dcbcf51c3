//! Making a volume in an empty prefix.
//!
//! Promises: whoever fails or is interrupted takes back what was made until then; what a killed
//! process leaves of trying the store is removed by the next one. Never: deletes anything that it,
//! or another one that tried the store, has not made.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{errors, exit::Exit, failure::Failure, interrupt::Interrupt, slot_notes};
use crate::{
    meta::Meta,
    seal::{
        object_store::{ROOT, SealedObjectStore},
        volume::{
            Argon2Params, COPY_KEY, PRIMARY_KEY, SLOT_NOTES_KEY, SaveError, Secret, SlotError,
            Unlocked, VolumeHeader,
        },
    },
    store::{
        Condition, Store, StoreError, StoreErrorKind,
        probe::{Probe, ProbeFailure, clear_leftovers},
    },
};

/// The metadata's cache while its first objects are written.
const CACHE_BYTES: u64 = 1 << 20;
/// Pages of the objects of new metadata, at most: there are a handful.
const META_PAGES_MAX: u32 = 4;

/// A volume that is being made.
pub struct Creation<'a> {
    store: &'a Store,
    interrupt: Interrupt,
    tell: &'a (dyn Fn(&str) + Send + Sync),
}

impl<'a> Creation<'a> {
    /// Catches signals from now on: each step ends with [`Exit::Interrupted`] at one, after what
    /// was made is taken back. `tell` shows what is done.
    ///
    /// # Errors
    /// The system refuses.
    pub fn begin(
        store: &'a Store,
        tell: &'a (dyn Fn(&str) + Send + Sync),
    ) -> Result<Creation<'a>, Failure> {
        Ok(Creation {
            store,
            interrupt: Interrupt::catch()?,
            tell,
        })
    }

    /// Checks that a volume can be made at the place of the store: the bucket is there, or is made
    /// if that is wanted, nothing is there yet, and the store has all that a volume needs.
    ///
    /// # Errors
    /// [`Exit::VolumeExists`], [`Exit::NotEmpty`], [`Exit::StoreUnfit`]; those of the store.
    pub async fn check_place(&mut self, make_bucket: bool) -> Result<(), Failure> {
        let (store, url) = (self.store, self.store.url());
        (self.tell)(&format!("looking whether {url} is empty"));
        let looked = self
            .interrupt
            .unless(Box::pin(look(store, make_bucket)))
            .await;
        looked.ok_or_else(|| self.interrupted(Ok(())))??;
        (self.tell)("trying what the store can do");
        let probe = Probe::new(store).map_err(|error| errors::store(&error, url))?;
        let tried = self.interrupt.gently(probe.run(), || probe.stop()).await;
        let failure = match tried {
            Some(Ok(())) if !self.interrupt.came() => return Ok(()),
            Some(Err(failure)) if !self.interrupt.came() => Some(failure),
            _ => None,
        };
        let cleaned = self.interrupt.cleaning_up(probe.clean_up()).await;
        Err(match failure {
            Some(failure) => unfit(failure, store),
            None => self.interrupted(cleaned.map_err(|why| Left {
                what: "objects with which the store was tried may still be",
                why,
                advice: "start it again: it removes them first",
            })),
        })
    }

    /// Makes the volume. The header comes first, because exactly one of two that race can write it.
    ///
    /// # Errors
    /// Another one made a volume at the same time; the store's errors.
    pub async fn make(
        &mut self,
        secret: Secret,
        recovery: Option<Secret>,
    ) -> Result<VolumeHeader, Failure> {
        (self.tell)("deriving the key");
        let derived = self.interrupt.unless(derive(secret, recovery)).await;
        let (header, unlocked) = derived.ok_or_else(|| self.interrupted(Ok(())))??;
        (self.tell)("writing the volume");
        let making = Making {
            store: self.store,
            header,
            unlocked,
            stopped: AtomicBool::new(false),
        };
        let made = self
            .interrupt
            .gently(making.write(), || making.stop())
            .await;
        let failure = match made {
            Some(Ok(())) if !self.interrupt.came() => return Ok(making.header),
            Some(Err(failure)) if !self.interrupt.came() => Some(failure),
            _ => None,
        };
        let taken_back = self.interrupt.cleaning_up(making.take_back()).await;
        Err(failure.unwrap_or_else(|| {
            self.interrupted(taken_back.map_err(|why| Left {
                what: "a part of the volume may still be",
                why,
                advice: "delete all objects there before you start again",
            }))
        }))
    }

    fn interrupted(&self, cleaned: Result<(), Left>) -> Failure {
        let url = self.store.url();
        match cleaned {
            Ok(()) => Failure::new(
                Exit::Interrupted,
                format!("interrupted before there was a volume at {url}"),
                "start it again; nothing was left there",
            ),
            Err(Left { what, why, advice }) => Failure::new(
                Exit::Interrupted,
                format!("interrupted, and {what} at {url} ({why})"),
                advice,
            ),
        }
    }
}

/// Something that could not be taken back.
struct Left {
    what: &'static str,
    why: String,
    advice: &'static str,
}

/// Makes a volume without looking at the place first. A signal ends the process.
///
/// # Errors
/// As [`Creation::make`].
pub async fn make_volume(
    store: &Store,
    secret: Secret,
    recovery: Option<Secret>,
) -> Result<VolumeHeader, Failure> {
    let mut creation = Creation {
        store,
        interrupt: Interrupt::never(),
        tell: &|_| {},
    };
    creation.make(secret, recovery).await
}

/// Whether the bucket is there, and nothing in it where the volume is to be.
async fn look(store: &Store, make_bucket: bool) -> Result<(), Failure> {
    let (bucket, occupied) = tokio::join!(store.check_bucket(), refuse_occupied(store));
    match bucket {
        Err(error) if make_bucket && error.kind == StoreErrorKind::NoBucket => store
            .create_bucket()
            .await
            .map_err(|error| errors::store(&error, store.url())),
        Err(error) => Err(errors::store(&error, store.url())),
        Ok(()) => occupied,
    }
}

async fn refuse_occupied(store: &Store) -> Result<(), Failure> {
    let url = store.url();
    let is_there = async |key| match store.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(errors::store(&error, url)),
    };
    let (primary, copy, empty) = tokio::join!(
        is_there(PRIMARY_KEY),
        is_there(COPY_KEY),
        clear_leftovers(store)
    );
    // A listing has a form of its own; anything may answer HEAD with 200.
    let empty = empty.map_err(|error| errors::store(&error, url))?;
    if primary? || copy? {
        return Err(Failure::new(
            Exit::VolumeExists,
            format!("there is a volume at {url} already"),
            "mount it, or choose another prefix",
        ));
    }
    match empty {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::NotEmpty,
            format!("{url} is not empty"),
            "choose an empty prefix, such as one more path segment",
        )),
    }
}

fn unfit(failure: ProbeFailure, store: &Store) -> Failure {
    let url = store.url();
    match failure {
        ProbeFailure::Lacks { capability, detail } => Failure::new(
            Exit::StoreUnfit,
            format!("the store at {url} lacks {capability} ({detail})"),
            "use a store that has it; docs/operations.md lists the abilities that a volume needs",
        ),
        ProbeFailure::Disturbed => somebody_else(store),
        ProbeFailure::Stopped => Failure::unexpected("trying the store was stopped"),
        ProbeFailure::Store(error) => errors::store(&error, url),
    }
}

fn somebody_else(store: &Store) -> Failure {
    Failure::new(
        Exit::VolumeExists,
        format!(
            "somebody else makes a volume at {} at this moment",
            store.url()
        ),
        "mount that one, or choose another prefix",
    )
}

/// The header of a new volume, made in a thread of its own: a derivation takes a good part of a
/// second.
async fn derive(
    secret: Secret,
    recovery: Option<Secret>,
) -> Result<(VolumeHeader, Unlocked), Failure> {
    let made = tokio::task::spawn_blocking(move || {
        let (mut header, unlocked) = VolumeHeader::create(&secret, Argon2Params::default())?;
        if let Some(recovery) = recovery {
            header.add_slot(&unlocked.master, &recovery, Argon2Params::default())?;
        }
        Ok((header, unlocked))
    });
    made.await
        .map_err(|error| Failure::unexpected(format!("deriving the key failed: {error}")))?
        .map_err(|error: SlotError| Failure::unexpected(error.to_string()))
}

/// The objects of a volume that is being made.
struct Making<'a> {
    store: &'a Store,
    header: VolumeHeader,
    unlocked: Unlocked,
    stopped: AtomicBool,
}

impl Making<'_> {
    /// Nothing more is begun.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    async fn write(&self) -> Result<(), Failure> {
        let saved = self
            .header
            .save_primary(self.store, Condition::Absent)
            .await;
        saved.map_err(|error| self.not_saved(error))?;
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Failure::unexpected("making the volume was stopped"));
        }
        let (copied, formatted, noted) = tokio::join!(
            self.header.save_copy(self.store),
            self.format(),
            slot_notes::begin(self.store, &self.unlocked.keys, &self.header)
        );
        formatted?;
        noted?;
        copied.map_err(|error| self.not_saved(error))
    }

    fn not_saved(&self, error: SaveError) -> Failure {
        match error {
            SaveError::Conflict => somebody_else(self.store),
            SaveError::Store(error) => errors::store(&error, self.store.url()),
        }
    }

    async fn format(&self) -> Result<(), Failure> {
        let keys = Arc::clone(&self.unlocked.keys);
        let sealed = SealedObjectStore::new(self.store.clone(), keys, CACHE_BYTES);
        let (uid, gid) = (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        );
        Meta::format(Arc::new(sealed), uid, gid)
            .await
            .map_err(|error| errors::meta(&error, "the volume's metadata cannot be made"))
    }

    /// Deletes what was written, so that the next try finds no half of a volume. The header goes
    /// last: as long as it is there, nobody else makes a volume in the same place.
    async fn take_back(&self) -> Result<(), StoreError> {
        let ours = self.header.encode();
        match self
            .store
            .get_bytes(PRIMARY_KEY, None, ours.len() as u64 + 1)
            .await
        {
            Ok((_, there)) if *there == *ours => {}
            // It is that of another one.
            Ok(_) => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut pages = self.store.pages(ROOT, None, META_PAGES_MAX);
        while let Some(page) = pages.next().await? {
            let keys: Vec<_> = page.into_iter().map(|entry| entry.key).collect();
            self.store.delete(&keys).await?;
        }
        self.store.delete(&[SLOT_NOTES_KEY.to_owned()]).await?;
        self.store.delete(&[COPY_KEY.to_owned()]).await?;
        self.store.delete(&[PRIMARY_KEY.to_owned()]).await
    }
}
