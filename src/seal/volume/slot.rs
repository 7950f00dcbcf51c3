//! One key slot: the derivation of a key from a secret, and the master key wrapped under that key.

use std::{fmt, hint::black_box, ops::RangeInclusive};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::{Secret, SlotError, SlotInfo};
use crate::seal::keys::{
    KEY_LEN, KeyBytes, MasterKey, VolumeId, WRAPPED_LEN, derive, random, unwrap, wrap,
};

/// Number of a key slot in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of secret that opens a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// A passphrase, stretched by Argon2id.
    Passphrase = 1,
    /// A file of random bytes.
    KeyFile = 2,
    /// A printed key of 256 bits.
    RecoveryKey = 3,
}

impl SlotKind {
    /// The name in `strongroom.json`.
    pub fn name(self) -> &'static str {
        match self {
            SlotKind::Passphrase => "passphrase",
            SlotKind::KeyFile => "key-file",
            SlotKind::RecoveryKey => "recovery-key",
        }
    }

    /// From the name in `strongroom.json`.
    pub fn from_name(name: &str) -> Option<SlotKind> {
        [
            SlotKind::Passphrase,
            SlotKind::KeyFile,
            SlotKind::RecoveryKey,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }

    /// Bytes of salt that a slot of this kind has. RFC 9106 recommends 16 for Argon2; HKDF-SHA-256
    /// is best with its hash's length.
    pub(super) fn salt_len(self) -> usize {
        match self {
            SlotKind::Passphrase => 16,
            SlotKind::KeyFile | SlotKind::RecoveryKey => 32,
        }
    }
}

/// The name in a sentence.
impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlotKind::Passphrase => "passphrase",
            SlotKind::KeyFile => "key file",
            SlotKind::RecoveryKey => "recovery key",
        })
    }
}

/// The cost of one guess at a passphrase (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    /// Passes over the memory (t).
    pub passes: u32,
    /// Memory in KiB (m).
    pub memory_kib: u32,
    /// Lanes (p).
    pub lanes: u32,
}

/// RFC 9106's second recommendation: 64 MiB, three passes, four lanes.
impl Default for Argon2Params {
    fn default() -> Argon2Params {
        Argon2Params {
            passes: 3,
            memory_kib: 64 * 1024,
            lanes: 4,
        }
    }
}

impl Argon2Params {
    /// The least that is accepted: OWASP's minimum for Argon2id.
    pub const FLOOR: Argon2Params = Argon2Params {
        passes: 2,
        memory_kib: 19 * 1024,
        lanes: 1,
    };
    /// The most that is accepted of each: a header from a stranger must not take the machine.
    pub const CAP: Argon2Params = Argon2Params {
        passes: 64,
        memory_kib: 1024 * 1024,
        lanes: 64,
    };
    /// Passes times KiB of one slot, at most: 1 GiB-pass, which takes about a second.
    pub const COST_MAX_KIB_PASSES: u64 = 1024 * 1024;

    /// Passes times KiB, which the time of a derivation grows with.
    pub fn cost_kib_passes(&self) -> u64 {
        u64::from(self.passes) * u64::from(self.memory_kib)
    }

    /// Bytes of memory that a derivation takes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_kib) * 1024
    }

    /// Checks that they are within bounds.
    ///
    /// # Errors
    /// [`SlotError::Parameters`] names the one that is not.
    pub fn check(&self) -> Result<(), SlotError> {
        let (floor, cap) = (Self::FLOOR, Self::CAP);
        let bounds: [(RangeInclusive<u32>, u32, &'static str); 3] = [
            (
                floor.passes..=cap.passes,
                self.passes,
                "passes must be 2 to 64",
            ),
            (
                floor.memory_kib..=cap.memory_kib,
                self.memory_kib,
                "memory must be 19 MiB to 1 GiB",
            ),
            (floor.lanes..=cap.lanes, self.lanes, "lanes must be 1 to 64"),
        ];
        match bounds
            .into_iter()
            .find(|(range, value, _)| !range.contains(value))
        {
            Some((_, _, why)) => Err(SlotError::Parameters(why)),
            None if self.cost_kib_passes() > Self::COST_MAX_KIB_PASSES => Err(
                SlotError::Parameters("passes times memory must be at most 1 GiB"),
            ),
            None => Ok(()),
        }
    }

    /// Stretches a passphrase. The memory is wiped and freed before this returns.
    fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Option<KeyBytes> {
        self.check().ok()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        stretch(&argon2, passphrase, salt)
    }
}

/// Runs Argon2 in memory of its own, which is wiped and freed before this returns.
fn stretch(argon2: &Argon2<'_>, passphrase: &[u8], salt: &[u8]) -> Option<KeyBytes> {
    let mut blocks = vec![Block::new(); argon2.params().block_count()];
    let mut key = KeyBytes::zero();
    let result =
        argon2.hash_password_into_with_memory(passphrase, salt, key.expose_mut(), &mut blocks);
    blocks.fill(Block::new());
    black_box(&blocks);
    result.ok().map(|()| key)
}

/// One slot of the header.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub id: SlotId,
    kind: SlotKind,
    argon2: Option<Argon2Params>,
    salt: Vec<u8>,
    pub wrapped: [u8; WRAPPED_LEN],
}

impl Slot {
    /// Puts a slot together from the fields of a header; `None` unless they fit each other.
    pub fn assemble(
        id: SlotId,
        kind: SlotKind,
        argon2: Option<Argon2Params>,
        salt: Vec<u8>,
        wrapped: [u8; WRAPPED_LEN],
    ) -> Option<Slot> {
        let fits =
            argon2.is_some() == (kind == SlotKind::Passphrase) && salt.len() == kind.salt_len();
        fits.then_some(Slot {
            id,
            kind,
            argon2,
            salt,
            wrapped,
        })
    }

    /// A slot that opens with `secret`, with a fresh salt.
    pub fn seal(
        volume: VolumeId,
        id: SlotId,
        secret: &Secret,
        argon2: Argon2Params,
        master: &MasterKey,
    ) -> Result<Slot, SlotError> {
        let kind = secret.kind();
        let argon2 = (kind == SlotKind::Passphrase).then_some(argon2);
        if let Some(params) = &argon2 {
            params.check()?;
        }
        let salt = match kind.salt_len() {
            16 => random::<16>().to_vec(),
            _ => random::<32>().to_vec(),
        };
        let mut slot = Slot {
            id,
            kind,
            argon2,
            salt,
            wrapped: [0; WRAPPED_LEN],
        };
        let key = slot
            .key(secret)
            .ok_or(SlotError::Parameters("Argon2id refuses them"))?;
        slot.wrapped = wrap(&key, &slot.context(volume), &master.0);
        Ok(slot)
    }

    /// The master key, if this is the secret.
    pub fn open(&self, volume: VolumeId, secret: &Secret) -> Option<MasterKey> {
        unwrap(&self.key(secret)?, &self.context(volume), &self.wrapped).map(MasterKey)
    }

    pub fn kind(&self) -> SlotKind {
        self.kind
    }

    pub fn argon2(&self) -> Option<Argon2Params> {
        self.argon2
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub fn info(&self) -> SlotInfo {
        SlotInfo {
            id: self.id,
            kind: self.kind,
            argon2: self.argon2,
        }
    }

    /// The associated data of the wrapped master key: volume, slot, kind and every parameter of the
    /// derivation.
    pub fn context(&self, volume: VolumeId) -> Vec<u8> {
        let Argon2Params {
            passes,
            memory_kib,
            lanes,
        } = self.argon2.unwrap_or(Argon2Params {
            passes: 0,
            memory_kib: 0,
            lanes: 0,
        });
        let mut context = b"strongroom/1/slot".to_vec();
        context.extend_from_slice(&volume.0);
        context.extend_from_slice(&self.id.0.to_be_bytes());
        context.push(self.kind as u8);
        for number in [passes, memory_kib, lanes, self.salt.len() as u32] {
            context.extend_from_slice(&number.to_be_bytes());
        }
        context.extend_from_slice(&self.salt);
        context
    }

    fn key(&self, secret: &Secret) -> Option<KeyBytes> {
        match (secret, self.kind, &self.argon2) {
            (Secret::Passphrase(passphrase), SlotKind::Passphrase, Some(argon2)) => {
                argon2.derive(passphrase, &self.salt)
            }
            (Secret::KeyFile(bytes), SlotKind::KeyFile, None) => {
                Some(derive(bytes, &self.salt, b"strongroom/1/key-file"))
            }
            (Secret::RecoveryKey(key), SlotKind::RecoveryKey, None) => Some(derive(
                key.expose(),
                &self.salt,
                b"strongroom/1/recovery-key",
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    fn hex(bytes: &KeyBytes) -> String {
        data_encoding::HEXLOWER.encode(bytes.expose())
    }

    #[test]
    fn the_vector_of_rfc_9106_holds_for_stretching() {
        // Section 5.3. It has a secret and associated data, which slots do not use, and less memory
        // than a slot may have.
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .output_len(KEY_LEN)
            .build()
            .unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        assert_eq!(
            hex(&stretch(&argon2, &[1; 32], &[2; 16]).unwrap()),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }

    #[test]
    fn outputs_of_the_reference_implementation_hold_for_a_slots_parameters() {
        // Argon2id, version 0x13, of the winner of the Password Hashing Competition: those of its
        // known answers whose parameters a slot may have.
        for (passes, memory_kib, passphrase, salt, expected) in [
            (
                2,
                64 * 1024,
                "password",
                "somesalt",
                "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
            ),
            (
                4,
                64 * 1024,
                "password",
                "somesalt",
                "9025d48e68ef7395cca9079da4c4ec3affb3c8911fe4f86d1a2520856f63172c",
            ),
            (
                2,
                64 * 1024,
                "differentpassword",
                "somesalt",
                "0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
            ),
            (
                2,
                64 * 1024,
                "password",
                "diffsalt",
                "bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
            ),
        ] {
            let params = Argon2Params {
                passes,
                memory_kib,
                lanes: 1,
            };
            let key = params.derive(passphrase.as_bytes(), salt.as_bytes());
            assert_eq!(hex(&key.unwrap()), expected);
        }
    }
}
