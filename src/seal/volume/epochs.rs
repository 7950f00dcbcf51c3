//! Epoch keys in the header, and making another one.
//!
//! Everything that is sealed from then on is sealed under the newest epoch. The older ones stay,
//! because they open what was sealed before.

use super::{EPOCHS_MAX, VolumeHeader};
use crate::seal::keys::{Epoch, KeyBytes, MasterKey, Purpose, VolumeId, WRAPPED_LEN, unwrap, wrap};

/// One epoch key, wrapped under a key derived from the master key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct WrappedEpoch {
    pub(super) epoch: Epoch,
    pub(super) wrapped: [u8; WRAPPED_LEN],
}

/// The header has no room for another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the volume has {EPOCHS_MAX} key epochs, which is as many as there can be")]
pub struct TooManyEpochs;

impl WrappedEpoch {
    pub(super) fn wrap(
        volume: VolumeId,
        wrapping: &KeyBytes,
        epoch: Epoch,
        key: &KeyBytes,
    ) -> WrappedEpoch {
        let wrapped = wrap(wrapping, &context(volume, epoch), key);
        WrappedEpoch { epoch, wrapped }
    }

    /// `None` if anything differs.
    pub(super) fn unwrap(&self, volume: VolumeId, wrapping: &KeyBytes) -> Option<KeyBytes> {
        unwrap(wrapping, &context(volume, self.epoch), &self.wrapped)
    }
}

impl VolumeHeader {
    /// The epoch that new objects are sealed under.
    pub fn newest_epoch(&self) -> Option<Epoch> {
        self.epochs.last().map(|wrapped| wrapped.epoch)
    }

    /// Adds an epoch with a random key, the newest from now on. `master` must be what this header
    /// was unlocked with.
    ///
    /// # Errors
    /// [`TooManyEpochs`].
    pub fn rotate(&mut self, master: &MasterKey) -> Result<Epoch, TooManyEpochs> {
        if self.epochs.len() >= EPOCHS_MAX {
            return Err(TooManyEpochs);
        }
        let newest = self.newest_epoch().map_or(0, |epoch| epoch.0);
        let epoch = Epoch(newest.checked_add(1).ok_or(TooManyEpochs)?);
        let wrapping = master.derive(self.volume, Purpose::EpochWrap);
        let key = KeyBytes::generate();
        self.epochs
            .push(WrappedEpoch::wrap(self.volume, &wrapping, epoch, &key));
        self.commit(master);
        Ok(epoch)
    }
}

/// The associated data of a wrapped epoch key.
fn context(volume: VolumeId, epoch: Epoch) -> Vec<u8> {
    let mut context = b"strongroom/1/epoch".to_vec();
    context.extend_from_slice(&volume.0);
    context.extend_from_slice(&epoch.0.to_be_bytes());
    context
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::seal::{
        codec::{META_FRAME_LOG2, ObjectKind, Opener, open_whole, seal_whole},
        volume::{Argon2Params, Secret},
    };

    fn secret() -> Secret {
        Secret::key_file(Zeroizing::new((0..32).collect())).unwrap()
    }

    #[test]
    fn after_a_rotation_new_objects_have_the_new_epoch_and_old_ones_still_open() {
        let (mut header, before) =
            VolumeHeader::create(&secret(), Argon2Params::default()).unwrap();
        let seal = |keys: &_, text: &[u8]| {
            seal_whole(keys, ObjectKind::Data, META_FRAME_LOG2, "data/1", text)
        };
        let old = seal(&before.keys, b"old");
        assert_eq!(header.rotate(&before.master), Ok(Epoch(2)));
        assert_eq!(header.revision(), 2);
        let header = VolumeHeader::parse(&header.encode()).unwrap();
        let after = header.unlock(&secret()).unwrap();
        assert_eq!(header.newest_epoch(), Some(Epoch(2)));
        assert_eq!(after.keys.current_epoch(), Epoch(2));
        let new = seal(&after.keys, b"new");
        let epoch = |stored: &[u8]| {
            let opener = Opener::from_header(&after.keys, "data/1", stored, stored.len() as u64);
            opener.unwrap().params().epoch
        };
        assert_eq!((epoch(&old), epoch(&new)), (Epoch(1), Epoch(2)));
        assert_eq!(open_whole(&after.keys, "data/1", &old).unwrap(), b"old");
        // The old keys alone do not open what was sealed since, and say why.
        let error = open_whole(&before.keys, "data/1", &new).unwrap_err();
        assert!(error.to_string().contains("key epoch 2"), "{error}");
        assert!(error.to_string().contains("mount it again"), "{error}");
    }

    #[test]
    fn a_header_takes_256_epochs_and_refuses_one_more_without_a_change() {
        let (mut header, unlocked) =
            VolumeHeader::create(&secret(), Argon2Params::default()).unwrap();
        for epoch in 2..=EPOCHS_MAX as u32 {
            assert_eq!(header.rotate(&unlocked.master), Ok(Epoch(epoch)));
        }
        let full = VolumeHeader::parse(&header.encode()).unwrap();
        let keys = full.unlock(&secret()).unwrap().keys;
        assert_eq!(keys.current_epoch(), Epoch(256));
        assert_eq!(keys.epochs().count(), 256);
        assert_eq!(header.rotate(&unlocked.master), Err(TooManyEpochs));
        assert!(header == full, "a refusal changed the header");
    }
}
