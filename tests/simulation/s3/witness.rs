//! Rules for the sealed objects that no sequence of requests may ever break.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;

/// Where a sealed object says which salt its key was derived with (docs/format.md).
const MAGIC: &[u8] = b"STRONGRM";
const SALT: std::ops::Range<usize> = 48..80;

/// Keys whose object never changes.
const IMMUTABLE: [&str; 4] = [
    "volume/data/",
    "volume/meta/wal/",
    "volume/meta/compacted/",
    "volume/meta/manifest/",
];

#[derive(Default)]
pub struct Witness {
    /// The bytes sealed with each salt: under which key, and the most that was seen of them.
    salts: HashMap<[u8; 32], (String, Bytes)>,
    parts: BTreeMap<(String, u32), u64>,
    stored: BTreeMap<String, u64>,
    /// Violations that were seen.
    pub faults: Vec<String>,
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Witness {
    /// Somebody sent this, whether or not it is taken: a salt belongs to these bytes from now on.
    pub fn sealed(&mut self, key: &str, bytes: &Bytes) {
        if !bytes.starts_with(MAGIC) || bytes.len() < SALT.end {
            return;
        }
        let salt: [u8; 32] = bytes[SALT].try_into().unwrap();
        match self.salts.get_mut(&salt) {
            None => {
                self.salts.insert(salt, (key.to_owned(), bytes.clone()));
            }
            // One may be the first part of the other.
            Some((there, before)) if there == key && bytes.starts_with(before) => {
                *before = bytes.clone();
            }
            Some((there, before)) if there == key && before.starts_with(bytes) => {}
            Some((there, _)) => self.faults.push(format!(
                "{key} was sealed with the salt of other bytes, of {there}"
            )),
        }
    }

    /// Watches a part: its object's salt is in the first one.
    pub fn part(&mut self, key: &str, number: u32, bytes: &Bytes) {
        let digest = digest(bytes);
        self.sealed(key, bytes);
        let place = (key.to_owned(), number);
        if self
            .parts
            .insert(place, digest)
            .is_some_and(|before| before != digest)
        {
            self.faults.push(format!(
                "part {number} of {key} was sent with other bytes than before"
            ));
        }
    }

    /// An object took its place.
    pub fn stored(&mut self, key: &str, bytes: &Bytes) {
        if !IMMUTABLE.iter().any(|prefix| key.starts_with(prefix)) {
            return;
        }
        let digest = digest(bytes);
        let before = self.stored.insert(key.to_owned(), digest);
        if before.is_some_and(|before| before != digest) {
            self.faults
                .push(format!("{key} was stored with other bytes than before"));
        }
    }
}
