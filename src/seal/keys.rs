//! The keys of an unlocked volume: master key, epoch keys, and keys derived from them.
//!
//! Promises: key bytes live on the heap in one place and are zeroized when their holder goes; no
//! `Debug` shows them; each purpose has its own derived key, made with its own label.
//! Never: writes a key anywhere, hands one out unwrapped beyond `seal`.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of every symmetric key here.
pub const KEY_LEN: usize = 32;
/// Length of nonce, wrapped key and tag, which [`wrap`] returns.
pub const WRAPPED_LEN: usize = WRAP_NONCE_LEN + KEY_LEN + 16;
/// Nonce length of AES-256-GCM (RFC 5116).
const WRAP_NONCE_LEN: usize = 12;

/// Identifies a volume; public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VolumeId(pub [u8; 16]);

impl VolumeId {
    /// A new random one.
    pub fn generate() -> VolumeId {
        VolumeId(random())
    }
}

/// 32 lowercase hexadecimal digits.
impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Number of a key epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// `N` random bytes from the kernel.
#[expect(
    clippy::expect_used,
    reason = "getrandom(2) without flags cannot fail on a kernel that has it, and nothing can be sealed without randomness"
)]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has a random number generator");
    bytes
}

/// 32 secret bytes: on the heap so that moving does not copy them, zeroized on drop, invisible to
/// `Debug`.
#[derive(Clone)]
pub struct KeyBytes(Box<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// Fresh random bytes.
    pub fn generate() -> KeyBytes {
        let mut key = KeyBytes::zero();
        key.0.copy_from_slice(&*Zeroizing::new(random::<KEY_LEN>()));
        key
    }

    /// All zero, to be filled in place.
    pub(crate) fn zero() -> KeyBytes {
        KeyBytes(Box::new(Zeroizing::new([0; KEY_LEN])))
    }

    /// A copy of `bytes`; `None` unless there are 32 of them.
    pub fn from_slice(bytes: &[u8]) -> Option<KeyBytes> {
        let mut key = KeyBytes::zero();
        if bytes.len() != KEY_LEN {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    pub(crate) fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; KEY_LEN] {
        &mut self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(..)")
    }
}

/// HKDF-SHA-256 to 32 bytes.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA-256 can make 8,160 bytes, and 32 are asked for"
)]
pub(crate) fn derive(ikm: &[u8], salt: &[u8], info: &[u8]) -> KeyBytes {
    let mut key = KeyBytes::zero();
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, key.expose_mut())
        .expect("32 is a valid length");
    key
}

/// Wraps a key with AES-256-GCM: a random nonce, the sealed key, the tag.
#[expect(
    clippy::expect_used,
    reason = "AES-GCM refuses only messages beyond 64 GiB"
)]
pub(crate) fn wrap(with: &KeyBytes, aad: &[u8], key: &KeyBytes) -> [u8; WRAPPED_LEN] {
    let nonce = random::<WRAP_NONCE_LEN>();
    let sealed = seal(with, &nonce, aad, key.expose()).expect("32 bytes are not too many");
    let mut wrapped = [0; WRAPPED_LEN];
    let (nonce_part, sealed_part) = wrapped.split_at_mut(WRAP_NONCE_LEN);
    nonce_part.copy_from_slice(&nonce);
    sealed_part.copy_from_slice(&sealed);
    wrapped
}

/// Undoes [`wrap`]; `None` if anything differs.
pub(crate) fn unwrap(with: &KeyBytes, aad: &[u8], wrapped: &[u8]) -> Option<KeyBytes> {
    let (nonce, sealed) = wrapped.split_first_chunk::<WRAP_NONCE_LEN>()?;
    KeyBytes::from_slice(&open(with, nonce, aad, sealed)?)
}

/// Ciphertext and tag; `None` for more than AES-GCM takes. The nonce must be new for the key.
fn seal(with: &KeyBytes, nonce: &[u8; WRAP_NONCE_LEN], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new(with.expose().into());
    let sealed = cipher.encrypt(&(*nonce).into(), Payload { msg, aad });
    sealed.ok()
}

/// Undoes [`seal`]; `None` if anything differs.
fn open(
    with: &KeyBytes,
    nonce: &[u8; WRAP_NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = Aes256Gcm::new(with.expose().into());
    let payload = Payload { msg: sealed, aad };
    let opened = cipher.decrypt(&(*nonce).into(), payload);
    opened.ok().map(Zeroizing::new)
}

/// The purpose of a key derived from the master key. Each has a label of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Wrapping epoch keys.
    EpochWrap,
    /// The MAC over the volume header.
    HeaderMac,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::EpochWrap => b"strongroom/1/epoch-wrap",
            Purpose::HeaderMac => b"strongroom/1/header-mac",
        }
    }
}

/// The key at the root of a volume. Every key slot wraps this one.
#[derive(Clone, Debug)]
pub struct MasterKey(pub(crate) KeyBytes);

impl MasterKey {
    /// A fresh random one.
    pub fn generate() -> MasterKey {
        MasterKey(KeyBytes::generate())
    }

    /// The key for one purpose in one volume.
    pub(crate) fn derive(&self, volume: VolumeId, purpose: Purpose) -> KeyBytes {
        derive(self.0.expose(), &volume.0, purpose.label())
    }
}

/// The epoch keys of an unlocked volume, shared by `Arc`; zeroized when the last holder goes.
pub struct VolumeKeys {
    volume: VolumeId,
    current: Epoch,
    epochs: BTreeMap<Epoch, KeyBytes>,
}

impl VolumeKeys {
    /// Random keys for tests and for `init`: epoch 1 only.
    pub fn generate(volume: VolumeId) -> Arc<VolumeKeys> {
        let epochs = BTreeMap::from([(Epoch(1), KeyBytes::generate())]);
        Arc::new(VolumeKeys {
            volume,
            current: Epoch(1),
            epochs,
        })
    }

    /// The given epochs, the highest being the current one; `None` if there is none.
    pub fn from_epochs(
        volume: VolumeId,
        epochs: impl IntoIterator<Item = (Epoch, KeyBytes)>,
    ) -> Option<Arc<VolumeKeys>> {
        let epochs: BTreeMap<_, _> = epochs.into_iter().collect();
        let (&current, _) = epochs.last_key_value()?;
        Some(Arc::new(VolumeKeys {
            volume,
            current,
            epochs,
        }))
    }

    /// The volume that these keys open.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The epoch that new objects are sealed under.
    pub fn current_epoch(&self) -> Epoch {
        self.current
    }

    /// The key of one epoch.
    pub(crate) fn epoch(&self, epoch: Epoch) -> Option<&KeyBytes> {
        self.epochs.get(&epoch)
    }

    /// All epochs.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (Epoch, &KeyBytes)> {
        self.epochs.iter().map(|(epoch, key)| (*epoch, key))
    }

    /// The key that new objects are sealed under.
    #[expect(
        clippy::expect_used,
        reason = "both constructors take `current` from the map, which never changes"
    )]
    pub(crate) fn current_key(&self) -> &KeyBytes {
        self.epochs
            .get(&self.current)
            .expect("the current epoch has a key")
    }
}

impl fmt::Debug for VolumeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeKeys")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

/// No core dumps and no tracing by the user's other processes: call before the first secret is
/// read.
///
/// # Errors
/// The kernel refuses; the caller decides whether to go on.
pub fn make_process_undumpable() -> io::Result<()> {
    use nix::sys::{
        prctl::set_dumpable,
        resource::{Resource, setrlimit},
    };
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::vectors;

    #[test]
    fn a_wrapped_key_opens_only_with_its_key_and_its_context() {
        let (with, key) = (KeyBytes::generate(), KeyBytes::generate());
        let wrapped = wrap(&with, b"here", &key);
        assert_eq!(wrapped.len(), WRAPPED_LEN);
        assert_eq!(
            unwrap(&with, b"here", &wrapped).unwrap().expose(),
            key.expose()
        );
        assert!(unwrap(&with, b"there", &wrapped).is_none());
        assert!(unwrap(&KeyBytes::generate(), b"here", &wrapped).is_none());
        for at in 0..wrapped.len() {
            let mut flipped = wrapped;
            flipped[at] ^= 1;
            assert!(unwrap(&with, b"here", &flipped).is_none());
            assert!(unwrap(&with, b"here", &wrapped[..at]).is_none());
        }
    }

    #[test]
    fn published_vectors_of_the_cipher_hold_for_wrapping() {
        let (mut opened, mut refused) = (0, 0);
        for vector in vectors::gcm() {
            let with = KeyBytes::from_slice(&vector.key).unwrap();
            let result = open(&with, &vector.nonce, &vector.aad, &vector.sealed);
            if vector.valid {
                let sealed = seal(&with, &vector.nonce, &vector.aad, &vector.msg).unwrap();
                assert_eq!(sealed, vector.sealed, "{}", vector.name);
                assert_eq!(*result.unwrap(), vector.msg, "{}", vector.name);
                opened += 1;
            } else {
                assert!(result.is_none(), "{}", vector.name);
                refused += 1;
            }
        }
        println!("AES-256-GCM (aes-gcm): {opened} opened, {refused} refused");
        assert_eq!((opened, refused), vectors::GCM_COUNTS);
    }

    #[test]
    fn published_vectors_of_key_derivation_hold() {
        let vectors = vectors::hkdf();
        for vector in &vectors {
            let made = derive(&vector.ikm, &vector.salt, &vector.info);
            // A shorter output is the beginning of a longer one.
            let len = vector.okm.len().min(KEY_LEN);
            assert_eq!(made.expose()[..len], vector.okm[..len], "{}", vector.name);
        }
        println!("HKDF-SHA-256 (hkdf): {} derived", vectors.len());
        assert_eq!(vectors.len(), vectors::HKDF_COUNT);
    }

    #[test]
    fn each_purpose_and_each_volume_has_its_own_key() {
        let master = MasterKey::generate();
        let (one, two) = (VolumeId::generate(), VolumeId::generate());
        let keys = [
            master.derive(one, Purpose::EpochWrap),
            master.derive(one, Purpose::HeaderMac),
            master.derive(two, Purpose::EpochWrap),
            master.derive(two, Purpose::HeaderMac),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a.expose() != b.expose()));
        }
    }

    #[test]
    fn debug_output_shows_no_key_byte() {
        let key = KeyBytes::from_slice(&[0xab; KEY_LEN]).unwrap();
        let keys = VolumeKeys::from_epochs(VolumeId([1; 16]), [(Epoch(1), key.clone())]).unwrap();
        for shown in [
            format!("{key:?}"),
            format!("{:?}", MasterKey(key)),
            format!("{keys:#?}"),
        ] {
            assert!(!shown.contains("ab") && !shown.contains("171"), "{shown}");
        }
    }

    #[test]
    fn the_highest_epoch_is_the_current_one() {
        let keys = VolumeKeys::from_epochs(
            VolumeId([1; 16]),
            [2, 7, 3].map(|n| (Epoch(n), KeyBytes::generate())),
        )
        .unwrap();
        assert_eq!(keys.current_epoch(), Epoch(7));
        assert!(VolumeKeys::from_epochs(VolumeId([1; 16]), []).is_none());
    }

    #[test]
    fn an_undumpable_process_leaves_no_core_behind() {
        use nix::sys::{prctl, resource};
        make_process_undumpable().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        assert_eq!(
            resource::getrlimit(resource::Resource::RLIMIT_CORE).unwrap(),
            (0, 0)
        );
    }
}
