//! `strongroom.json`: the volume header with its key slots; and unlocking it (`docs/format.md`).
//!
//! Promises: a header always has a slot. An unlocked header was authenticated as a whole, by a MAC
//! under the master key. Derivation parameters out of bounds are refused before anything is
//! derived. Damage is told apart from a wrong secret. Never: asks for a secret, keeps one longer
//! than a call, prints one.

mod epochs;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod json;
mod persist;
mod recovery;
mod secret;
#[cfg(test)]
mod secret_tests;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub use epochs::TooManyEpochs;
pub use persist::{
    COPY_KEY, HeaderSource, LoadError, LoadedHeader, PRIMARY_KEY, SLOT_NOTES_KEY, SaveError,
};
pub use recovery::RecoveryKey;
pub use secret::{
    KEY_FILE_LEN_MAX, KEY_FILE_LEN_MIN, PASSPHRASE_LEN_MAX, Secret, SecretError, read_secret_file,
};
pub use slot::{Argon2Params, SlotId, SlotKind};

use super::keys::{Epoch, MasterKey, Purpose, VolumeId, VolumeKeys};
use epochs::WrappedEpoch;
use slot::Slot;

/// The one format there is.
pub const FORMAT: u64 = 1;
/// Bytes of `strongroom.json`, at most: 32 slots and 256 epochs take less than 60,000.
pub const HEADER_FILE_LEN_MAX: u64 = 64 * 1024;
/// Slots of a header, at most: each one of the kind that is tried costs a derivation.
pub const SLOTS_MAX: usize = 32;
/// Passes times KiB of all slots together, at most: 32 slots of the default cost, 6 GiB-passes. So
/// every volume that this program makes opens, and a wrong passphrase takes some ten seconds at
/// most.
pub const DERIVATION_MAX_KIB_PASSES: u64 = SLOTS_MAX as u64 * 3 * 64 * 1024;
/// Trying one secret takes no longer than this, plus the derivation that is under way then. So a
/// header from a stranger does not hold a slow machine.
pub const DERIVATION_TIME_MAX: Duration = Duration::from_secs(60);
/// Epochs of a header, at most.
pub const EPOCHS_MAX: usize = 256;

/// The volume header: key slots and wrapped keys. It holds nothing secret.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeHeader {
    volume: VolumeId,
    revision: u64,
    epochs: Vec<WrappedEpoch>,
    slots: Vec<Slot>,
    mac: [u8; 32],
}

/// The result of unlocking.
#[derive(Clone, Debug)]
pub struct Unlocked {
    /// The master key, which is needed to change slots. Drop it unless slots are to be changed.
    pub master: MasterKey,
    /// The keys that objects are sealed and opened with.
    pub keys: Arc<VolumeKeys>,
    /// The slot that the secret opened.
    pub slot: SlotId,
}

/// The facts about a slot that may be shown without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its number.
    pub id: SlotId,
    /// The kind of secret that opens it.
    pub kind: SlotKind,
    /// Passphrase slots: the cost of a guess.
    pub argon2: Option<Argon2Params>,
}

/// Reasons why bytes are not a volume header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are no header, or not as it was written.
    #[error("the volume header is damaged: {0}")]
    Damaged(String),
    /// Written by a later program.
    #[error(
        "the volume has format {0}, this program knows format {FORMAT}: use a newer strongroom"
    )]
    NewerFormat(u64),
}

/// Reasons why a header does not unlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// No slot of that kind.
    #[error("the volume has no {0} slot: unlock it with another kind of secret")]
    NoSlot(SlotKind),
    /// No slot of that kind opens.
    #[error("wrong {0}")]
    WrongSecret(SlotKind),
    /// No slot opened, and this one was not tried.
    #[error(
        "key slot {slot} takes {} MiB to derive its key, more than there is",
        .needed_bytes >> 20
    )]
    Memory {
        /// The slot.
        slot: SlotId,
        /// The memory that its derivation takes.
        needed_bytes: u64,
    },
    /// No slot opened in [`DERIVATION_TIME_MAX`], and some were not tried.
    #[error("no slot opened within {} s of key derivation", DERIVATION_TIME_MAX.as_secs())]
    Time,
    /// The secret is right, but the header was changed since it was written.
    #[error("the volume header was changed by somebody without the key: refusing it")]
    Tampered,
}

/// Reasons why a slot cannot be added, changed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// There is no such slot.
    #[error("there is no key slot {0}")]
    NoSuchSlot(SlotId),
    /// It would leave nobody able to unlock the volume.
    #[error("slot {0} is the last one: add another before removing it")]
    LastSlot(SlotId),
    /// There are as many as there may be.
    #[error(
        "the volume has {SLOTS_MAX} key slots, which is as many as there can be: remove one first"
    )]
    TooManySlots,
    /// Argon2 parameters out of bounds.
    #[error("Argon2id parameters out of bounds: {0}")]
    Parameters(&'static str),
}

impl VolumeHeader {
    /// A new volume with one slot, for `secret`.
    ///
    /// # Errors
    /// [`SlotError::Parameters`].
    pub fn create(
        secret: &Secret,
        argon2: Argon2Params,
    ) -> Result<(VolumeHeader, Unlocked), SlotError> {
        let volume = VolumeId::generate();
        let master = MasterKey::generate();
        let keys = VolumeKeys::generate(volume);
        let slot = SlotId(1);
        let wrapping = master.derive(volume, Purpose::EpochWrap);
        let epochs = keys
            .epochs()
            .map(|(epoch, key)| WrappedEpoch::wrap(volume, &wrapping, epoch, key))
            .collect();
        let slots = vec![Slot::seal(volume, slot, secret, argon2, &master)?];
        let mut header = VolumeHeader {
            volume,
            revision: 0,
            epochs,
            slots,
            mac: [0; 32],
        };
        header.commit(&master);
        Ok((header, Unlocked { master, keys, slot }))
    }

    /// Reads a header; nothing in it is authenticated before [`VolumeHeader::unlock`].
    ///
    /// # Errors
    /// Damage is told apart from a format that is newer than this program.
    pub fn parse(bytes: &[u8]) -> Result<VolumeHeader, HeaderError> {
        json::parse(bytes)
    }

    /// The bytes of `strongroom.json`.
    pub fn encode(&self) -> Vec<u8> {
        json::encode(self)
    }

    /// The volume.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Grows by one with every change of the header. Clients refuse one lower than they have seen.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The MAC under the master key. Two headers with one revision and different MACs belong to two
    /// histories.
    pub fn mac(&self) -> [u8; 32] {
        self.mac
    }

    /// The slots, by number.
    pub fn slots(&self) -> impl Iterator<Item = SlotInfo> {
        self.slots.iter().map(Slot::info)
    }

    /// The slots, by number, as `key list` shows them.
    pub fn list(&self) -> Vec<SlotInfo> {
        self.slots().collect()
    }

    /// The salt of a slot, which tells it from a later one of the same number.
    pub fn slot_salt(&self, id: SlotId) -> Option<&[u8]> {
        let slot = self.slots.iter().find(|slot| slot.id == id);
        slot.map(Slot::salt)
    }

    /// The epochs that the volume has keys of, ascending.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.iter().map(|epoch| epoch.epoch)
    }

    /// As [`VolumeHeader::unlock_within`], with all the memory that the bounds of slots allow.
    ///
    /// # Errors
    /// See [`UnlockError`].
    pub fn unlock(&self, secret: &Secret) -> Result<Unlocked, UnlockError> {
        self.unlock_within(secret, u64::MAX)
    }

    /// Tries the secret on all slots of its kind whose derivation takes `memory_bytes_max` at most,
    /// and authenticates the whole header. Takes a good part of a second for each passphrase slot
    /// and the memory that the slot names: not for a thread that others wait for.
    ///
    /// # Errors
    /// See [`UnlockError`].
    pub fn unlock_within(
        &self,
        secret: &Secret,
        memory_bytes_max: u64,
    ) -> Result<Unlocked, UnlockError> {
        let (slot, master) = self.open_a_slot(secret, memory_bytes_max)?;
        self.mac_state(&master)
            .verify_slice(&self.mac)
            .map_err(|_| UnlockError::Tampered)?;
        let wrapping = master.derive(self.volume, Purpose::EpochWrap);
        let mut epochs = Vec::with_capacity(self.epochs.len());
        for wrapped in &self.epochs {
            let key = wrapped.unwrap(self.volume, &wrapping);
            epochs.push((wrapped.epoch, key.ok_or(UnlockError::Tampered)?));
        }
        let keys = VolumeKeys::from_epochs(self.volume, epochs).ok_or(UnlockError::Tampered)?;
        Ok(Unlocked { master, keys, slot })
    }

    /// The first slot that the secret opens, and the master key.
    fn open_a_slot(
        &self,
        secret: &Secret,
        memory_bytes_max: u64,
    ) -> Result<(SlotId, MasterKey), UnlockError> {
        let kind = secret.kind();
        let began = Instant::now();
        let mut failure = UnlockError::NoSlot(kind);
        for slot in self.slots.iter().filter(|slot| slot.kind() == kind) {
            let needed_bytes = slot.argon2().map_or(0, |params| params.memory_bytes());
            if needed_bytes > memory_bytes_max {
                failure = UnlockError::Memory {
                    slot: slot.id,
                    needed_bytes,
                };
                continue;
            }
            if began.elapsed() >= DERIVATION_TIME_MAX {
                return Err(UnlockError::Time);
            }
            if let Some(master) = slot.open(self.volume, secret) {
                return Ok((slot.id, master));
            }
            if matches!(failure, UnlockError::NoSlot(_)) {
                failure = UnlockError::WrongSecret(kind);
            }
        }
        Err(failure)
    }

    /// Adds a slot. `master` must be what this header was unlocked with.
    ///
    /// # Errors
    /// [`SlotError::TooManySlots`], [`SlotError::Parameters`].
    pub fn add_slot(
        &mut self,
        master: &MasterKey,
        secret: &Secret,
        argon2: Argon2Params,
    ) -> Result<SlotId, SlotError> {
        if self.slots.len() >= SLOTS_MAX {
            return Err(SlotError::TooManySlots);
        }
        let used: BTreeSet<SlotId> = self.slots.iter().map(|slot| slot.id).collect();
        let id = (1..)
            .map(SlotId)
            .find(|id| !used.contains(id))
            .ok_or(SlotError::TooManySlots)?;
        self.slots
            .push(Slot::seal(self.volume, id, secret, argon2, master)?);
        self.slots.sort_by_key(|slot| slot.id);
        self.commit(master);
        Ok(id)
    }

    /// Removes a slot. An attacker with its secret *and* an old copy of the header can still unlock
    /// with both.
    ///
    /// # Errors
    /// [`SlotError::NoSuchSlot`], [`SlotError::LastSlot`].
    pub fn remove_slot(&mut self, master: &MasterKey, id: SlotId) -> Result<(), SlotError> {
        let at = self
            .slots
            .iter()
            .position(|slot| slot.id == id)
            .ok_or(SlotError::NoSuchSlot(id))?;
        if self.slots.len() == 1 {
            return Err(SlotError::LastSlot(id));
        }
        self.slots.remove(at);
        self.commit(master);
        Ok(())
    }

    /// Gives a slot another secret, which may be of another kind.
    ///
    /// # Errors
    /// [`SlotError::NoSuchSlot`], [`SlotError::Parameters`].
    pub fn change_slot(
        &mut self,
        master: &MasterKey,
        id: SlotId,
        secret: &Secret,
        argon2: Argon2Params,
    ) -> Result<(), SlotError> {
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.id == id)
            .ok_or(SlotError::NoSuchSlot(id))?;
        *slot = Slot::seal(self.volume, id, secret, argon2, master)?;
        self.commit(master);
        Ok(())
    }

    /// Counts the revision up and authenticates the present content.
    fn commit(&mut self, master: &MasterKey) {
        self.revision += 1;
        self.mac = self.mac_state(master).finalize().into_bytes().into();
    }

    fn mac_state(&self, master: &MasterKey) -> Hmac<Sha256> {
        let key = master.derive(self.volume, Purpose::HeaderMac);
        mac_over(key.expose(), &self.canonical())
    }

    /// Everything but the MAC, in one encoding only. Each field has a fixed length or is preceded
    /// by a count.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = b"strongroom/1/header".to_vec();
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.volume.0);
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(&(self.epochs.len() as u64).to_be_bytes());
        for WrappedEpoch { epoch, wrapped } in &self.epochs {
            bytes.extend_from_slice(&epoch.0.to_be_bytes());
            bytes.extend_from_slice(wrapped);
        }
        bytes.extend_from_slice(&(self.slots.len() as u64).to_be_bytes());
        for slot in &self.slots {
            bytes.extend_from_slice(&slot.context(self.volume));
            bytes.extend_from_slice(&slot.wrapped);
        }
        bytes
    }

    /// A checksum that tells accidents apart from wrong secrets, without a key. It does not protect
    /// against intent: an attacker can compute it too.
    fn checksum(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.canonical())
            .chain_update(self.mac)
            .finalize()
            .into()
    }
}

impl fmt::Debug for VolumeHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeHeader")
            .field("volume", &self.volume)
            .field("revision", &self.revision)
            .field("slots", &self.list())
            .finish_non_exhaustive()
    }
}

/// HMAC-SHA-256, to be compared or taken.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac_over(key: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(bytes);
    mac
}
