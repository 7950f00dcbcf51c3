//! The recording's key: names for the keys of objects, and hashes of bodies.
//!
//! The key is random, made when a recording begins, kept in memory only and never written. So one
//! object has one name within a recording, another in the next one, and nobody who has a recording
//! can find out whether it tells of an object that they know.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::kind::{Kind, kind_of};

/// Bytes of the key: those of the hash.
const KEY_BYTES: usize = 32;

/// Hashes of keys and of bodies never meet.
const OF_A_KEY: &[u8] = b"key\0";
const OF_A_BODY: &[u8] = b"body\0";

/// An object, or a folder, by its kind and by names that mean nothing outside of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The kind.
    pub kind: Kind,
    /// The session, of contents of files.
    pub folder: Option<u64>,
    /// The object; a folder that is listed has none.
    pub object: Option<u64>,
}

impl KeyName {
    /// No object at all.
    pub const NONE: KeyName = KeyName {
        kind: Kind::Other,
        folder: None,
        object: None,
    };
}

/// Makes the names and the hashes of one recording.
pub struct Pseudonyms {
    key: hmac::Key,
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

impl Pseudonyms {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Pseudonyms, getrandom::Error> {
        let mut random = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(random.as_mut_slice())?;
        Ok(Pseudonyms {
            key: hmac::Key::new(hmac::HMAC_SHA256, random.as_slice()),
        })
    }

    /// The name of an object's key, or of the prefix of a listing.
    pub fn name(&self, key: &str) -> KeyName {
        let kind = kind_of(key);
        let is_folder = key.ends_with('/') || key.is_empty();
        let path = key.trim_end_matches('/');
        let folder = match (kind, is_folder) {
            (Kind::Data, true) => (!path.ends_with("data")).then_some(path),
            (Kind::Data, false) => path.rsplit_once('/').map(|(folder, _)| folder),
            _ => None,
        };
        KeyName {
            kind,
            folder: folder.map(|folder| self.hash(folder)),
            object: (!is_folder).then(|| self.hash(path)),
        }
    }

    fn hash(&self, path: &str) -> u64 {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(OF_A_KEY);
        context.update(path.as_bytes());
        first_bytes(&context.sign())
    }

    /// Begins the hash of a body.
    pub fn body(&self) -> BodyHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(OF_A_BODY);
        BodyHash(context)
    }
}

/// The hash of a body that moves.
#[derive(Debug)]
pub struct BodyHash(hmac::Context);

impl BodyHash {
    /// More of it moved.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of what moved.
    pub fn value(&self) -> u64 {
        first_bytes(&self.0.clone().sign())
    }
}

fn first_bytes(tag: &hmac::Tag) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_name_in_a_recording_and_another_in_the_next() {
        let session = format!("laptop/data/{}", "ab".repeat(16));
        let key = format!("{session}/{}", "cd".repeat(8));
        let (one, other) = (
            Pseudonyms::new().expect("a key"),
            Pseudonyms::new().expect("a key"),
        );
        assert_eq!(one.name(&key), one.name(&key));
        assert_ne!(one.name(&key), other.name(&key));
        let (object, folder) = (one.name(&key), one.name(&format!("{session}/")));
        assert_eq!((object.kind, folder.kind), (Kind::Data, Kind::Data));
        assert_eq!(object.folder, folder.folder, "the session is recognised");
        assert!(object.folder.is_some() && object.object.is_some() && folder.object.is_none());
        assert_eq!(one.name("laptop/data/").folder, None);
        assert_ne!(
            one.name("laptop/meta/wal/1.sst").object,
            one.name("laptop/meta/wal/2.sst").object
        );
    }

    #[test]
    fn a_body_has_the_hash_of_its_bytes_however_they_come() {
        let names = Pseudonyms::new().expect("a key");
        let (mut whole, mut pieces) = (names.body(), names.body());
        whole.update(b"contents");
        pieces.update(b"con");
        pieces.update(b"tents");
        assert_eq!(whole.value(), pieces.value());
        pieces.update(b"!");
        assert_ne!(whole.value(), pieces.value());
        assert_ne!(Some(whole.value()), names.name("contents").object);
    }
}
