//! The kind of object that a key names, whatever the volume's prefix is.
//!
//! The store's client and the embedded server both know no more than a key with some prefix, so it
//! is told by the last parts of the key.

use serde::{Deserialize, Serialize};

/// The kind of an object of a volume's, or of the objects in a folder that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Contents of files.
    Data,
    /// A log object of the metadata.
    Log,
    /// A table of the metadata.
    Table,
    /// A manifest of the metadata.
    Manifest,
    /// The metadata's notes about compaction and collection.
    Upkeep,
    /// The volume's header, or its copy.
    Header,
    /// The lease.
    Lease,
    /// A note of a read-only mount.
    Note,
    /// Any other.
    Other,
}

/// Digits of a session, and of an object in it (`docs/format.md`).
const SESSION_DIGITS: usize = 32;
const OBJECT_DIGITS: usize = 16;

/// The kind of object under `key`, or in the folder of that prefix, which then ends with a slash.
pub fn kind_of(key: &str) -> Kind {
    let is_folder = key.ends_with('/');
    let mut parts = key.trim_end_matches('/').rsplit('/');
    let last = parts.next().unwrap_or_default();
    let (before, first) = (parts.next(), parts.next());
    if is_folder {
        return folder(last, before);
    }
    match (first, before, last) {
        (Some("data"), Some(session), object)
            if is_hex(session, SESSION_DIGITS) && is_hex(object, OBJECT_DIGITS) =>
        {
            Kind::Data
        }
        (Some("meta"), Some(name), _) => metadata(name),
        (_, _, "strongroom.json" | "strongroom.copy.json") => Kind::Header,
        (_, _, "lease") => Kind::Lease,
        (_, Some("readers"), _) => Kind::Note,
        _ => Kind::Other,
    }
}

fn folder(last: &str, before: Option<&str>) -> Kind {
    match (before, last) {
        (_, "data") => Kind::Data,
        (Some("data"), session) if is_hex(session, SESSION_DIGITS) => Kind::Data,
        (Some("meta"), name) => metadata(name),
        (_, "readers") => Kind::Note,
        _ => Kind::Other,
    }
}

/// Kinds of the metadata, by the folder.
fn metadata(folder: &str) -> Kind {
    match folder {
        "wal" => Kind::Log,
        "compacted" => Kind::Table,
        "manifest" => Kind::Manifest,
        "compactions" | "gc" => Kind::Upkeep,
        _ => Kind::Other,
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{LEASE, READERS_PREFIX, object_key},
        meta::{ObjectId, SessionId},
        seal::{
            object_store::ROOT,
            volume::{COPY_KEY, PRIMARY_KEY},
        },
    };

    #[test]
    fn keys_have_the_kind_that_their_makers_gave_them_below_any_prefix() {
        let object = object_key(ObjectId {
            session: SessionId([0xab; 16]),
            number: 77,
        });
        let root = ROOT.trim_end_matches('/');
        let (session, _) = object.rsplit_once('/').expect("a folder");
        for (key, kind) in [
            (object.clone(), Kind::Data),
            (format!("{session}/"), Kind::Data),
            ("data/".to_owned(), Kind::Data),
            (format!("{root}/wal/{:020}.sst", 9), Kind::Log),
            (format!("{root}/wal/"), Kind::Log),
            (format!("{root}/compacted/01J.sst"), Kind::Table),
            (
                format!("{root}/manifest/{:020}.manifest", 3),
                Kind::Manifest,
            ),
            (format!("{root}/gc/wal.boundary"), Kind::Upkeep),
            (PRIMARY_KEY.to_owned(), Kind::Header),
            (COPY_KEY.to_owned(), Kind::Header),
            (LEASE.to_owned(), Kind::Lease),
            (format!("{READERS_PREFIX}{}", "ab".repeat(16)), Kind::Note),
            ("holiday.jpg".to_owned(), Kind::Other),
            ("data/holiday.jpg".to_owned(), Kind::Other),
            (String::new(), Kind::Other),
        ] {
            for prefix in ["", "laptop/", "a/data/b/"] {
                assert_eq!(kind_of(&format!("{prefix}{key}")), kind, "{prefix}{key}");
            }
        }
    }
}
