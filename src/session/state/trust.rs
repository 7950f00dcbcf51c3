//! Comparing a store's contents with this machine's knowledge of the volume there, before anything
//! in it is believed.

use std::{fmt::Display, path::Path};

use super::{
    fingerprint::Fingerprint,
    known::{Known, StateSeen},
    place::PlaceMemory,
};
use crate::{
    seal::{keys::VolumeId, object_store::LogPosition, volume::VolumeHeader},
    session::{exit::Exit, failure::Failure},
    store::Store,
};

/// The checks that the user waives for this one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// Accept a volume that is older than this machine has seen it, or on another branch of its
    /// history.
    pub allow_rollback: bool,
    /// Accept another volume than the one that this machine knows at this URL.
    pub allow_other_volume: bool,
}

/// The checks for one volume.
#[derive(Clone, Debug)]
pub struct Trust {
    memory: PlaceMemory,
    accept: Accept,
    expect: Option<Fingerprint>,
}

impl Trust {
    /// The checks for the volume at the place of `store`.
    pub fn new(root: &Path, store: &Store, accept: Accept) -> Trust {
        Trust {
            memory: PlaceMemory::new(root, store),
            accept,
            expect: None,
        }
    }

    /// Pins the volume to a fingerprint too.
    #[must_use]
    pub fn expecting(mut self, expect: Option<Fingerprint>) -> Trust {
        self.expect = expect;
        self
    }

    /// The knowledge of the volume at this place, as far as it is about this volume.
    pub fn known(&self, volume: VolumeId) -> Option<Known> {
        self.memory
            .known(volume)
            .filter(|known| known.volume == volume)
    }

    /// Whether an older state, or one on another branch, is accepted.
    pub fn accepts_rollback(&self) -> bool {
        self.accept.allow_rollback
    }

    /// Compares the header with the known one.
    ///
    /// # Errors
    /// [`Exit::OtherVolume`], [`Exit::RolledBack`], [`Exit::Forked`].
    pub fn check_header(&self, header: &VolumeHeader) -> Result<(), Failure> {
        let Some(known) = self.memory.known(header.volume()) else {
            return Ok(());
        };
        if known.volume != header.volume() {
            return accepted(
                self.accept.allow_other_volume,
                Failure::new(
                    Exit::OtherVolume,
                    format!(
                        "another volume ({}) is at this URL than the one this machine knows there ({})",
                        header.volume(),
                        known.volume
                    ),
                    "find out who replaced it; use --allow-other-volume if it was you",
                ),
            );
        }
        let volume = header.volume();
        self.not_older(volume, "header", header.revision(), known.header_revision)?;
        let forked = header.revision() == known.header_revision
            && known.header_mac.is_some_and(|mac| mac != header.mac());
        if forked {
            return self.forked(
                volume,
                format!(
                    "its header of revision {} is not the one that this machine has seen",
                    header.revision()
                ),
            );
        }
        Ok(())
    }

    /// Compares the state of the metadata with the state that was `known` before it was read, and
    /// with the expected one. `log_at` tells of the log objects that were verified.
    ///
    /// # Errors
    /// [`Exit::RolledBack`], [`Exit::Forked`], [`Exit::NotExpected`].
    pub fn check_state(
        &self,
        volume: VolumeId,
        found: &StateSeen,
        known: Option<&Known>,
        log_at: &dyn Fn(u64) -> Option<LogPosition>,
    ) -> Result<(), Failure> {
        if let Some(known) = known {
            self.not_older(volume, "metadata", found.generation, known.state.generation)?;
            if let (Some(head), Some(seen)) = (found.log, known.state.log) {
                self.not_older(volume, "log", head.number, seen.number)?;
                if head.number == seen.number && head.commitment != seen.commitment {
                    return self.forked(
                        volume,
                        format!(
                            "log object {} is not the one that this machine has seen",
                            head.number
                        ),
                    );
                }
            }
        }
        let Some(expect) = &self.expect else {
            return Ok(());
        };
        expect.check(volume, found, log_at).map_err(|why| {
            Failure::new(
                Exit::NotExpected,
                format!("the volume is {why}"),
                "do not trust this store; without --expect its state would be believed",
            )
        })
    }

    /// Notes a state that was found and checked.
    pub fn note(&self, found: &Known) {
        warn_if_failed(self.memory.note(found));
    }

    /// Notes a newer state of the volume that is mounted from here.
    pub fn note_state(&self, volume: VolumeId, state: &StateSeen) {
        warn_if_failed(self.memory.note_state(volume, state));
    }

    /// Notes the state that a mount found first. A state that the user accepted takes the place of
    /// the known one.
    pub fn adopt(&self, found: &Known) {
        if self.accept == Accept::default() {
            self.note(found);
        } else {
            self.replace(found);
        }
    }

    /// Notes a header that was checked, or written since. The knowledge of the metadata stays.
    pub fn adopt_header(&self, header: &VolumeHeader) {
        let mut found = Known::of_header(header);
        if let Some(known) = self.known(header.volume()) {
            found.state = known.state;
        }
        self.adopt(&found);
    }

    /// Notes that a volume was made here.
    pub fn replace(&self, found: &Known) {
        warn_if_failed(self.memory.replace(found));
    }

    /// Adds to a refusal where the newer state was seen, if that was not here. A bucket at a new
    /// place is compared with what is known of its volume from others, because it may be the same
    /// one under a new name, whose provider would be free to roll it back otherwise. So a copy has
    /// to be accepted once by its user.
    pub fn name_place(&self, volume: VolumeId, refusal: Failure) -> Failure {
        let Some(place) = self.memory.known_from(volume) else {
            return refusal;
        };
        let place = match place.split_once(' ') {
            Some((endpoint, url)) => format!("{url} on {endpoint}"),
            None => place,
        };
        Failure::new(
            refusal.exit,
            format!(
                "{}; that was at {place}, and at this URL the volume was never met",
                refusal.what
            ),
            "if this is a copy of it, use --allow-rollback once, and each URL is remembered by itself from then on; else find out \
             who put an old state here",
        )
    }

    fn not_older(
        &self,
        volume: VolumeId,
        what: &str,
        found: u64,
        seen: u64,
    ) -> Result<(), Failure> {
        if found >= seen {
            return Ok(());
        }
        accepted(
            self.accept.allow_rollback,
            self.name_place(volume, Failure::new(
                Exit::RolledBack,
                format!(
                    "the volume went back in time: its {what} is at {found}, this machine has seen {seen}"
                ),
                "find out who put an old state back; use --allow-rollback if it was you",
            )),
        )
    }

    fn forked(&self, volume: VolumeId, how: impl Display) -> Result<(), Failure> {
        accepted(
            self.accept.allow_rollback,
            self.name_place(volume, Failure::new(
                Exit::Forked,
                format!("the volume has two histories: {how}"),
                "find out which of them is yours; use --allow-rollback to go on with the one that is there",
            )),
        )
    }
}

fn accepted(accepts: bool, refusal: Failure) -> Result<(), Failure> {
    if !accepts {
        return Err(refusal);
    }
    tracing::warn!("{}; accepted as asked", refusal.what);
    Ok(())
}

fn warn_if_failed(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!("the state of the volume cannot be noted: {error}");
    }
}
