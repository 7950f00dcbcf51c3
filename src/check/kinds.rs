//! The kinds of objects below a volume's prefix, by their keys alone.

use crate::{
    data::{LEASE, READERS_PREFIX, object_of, session_of},
    meta::ObjectId,
    seal::{
        object_store::ROOT,
        volume::{COPY_KEY, PRIMARY_KEY, SLOT_NOTES_KEY},
    },
};

/// The meaning of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyShape {
    /// Contents of files.
    Data(ObjectId),
    /// A log object of the metadata, by its number.
    Log(u64),
    /// A table of the metadata, by its name.
    Table(String),
    /// A state of the metadata: which tables and which log it consists of.
    Manifest,
    /// The metadata's notes about compaction and collection.
    Upkeep,
    /// The volume header, its copy, or the notes on its slots.
    Header,
    /// The lease.
    Lease,
    /// A note of a read-only mount.
    Note,
    /// A key that this program does not make.
    Foreign,
}

/// The meaning of a volume-relative key.
pub(super) fn shape_of(key: &str) -> KeyShape {
    match key {
        PRIMARY_KEY | COPY_KEY | SLOT_NOTES_KEY => return KeyShape::Header,
        LEASE => return KeyShape::Lease,
        _ => {}
    }
    let shape = match key.split_once('/') {
        Some(("data", _)) => data_shape(key),
        Some(_) if key.starts_with(ROOT) => metadata_shape(key),
        Some((_, name)) if key.starts_with(READERS_PREFIX) && !name.contains('/') => {
            Some(KeyShape::Note)
        }
        _ => None,
    };
    shape.unwrap_or(KeyShape::Foreign)
}

fn data_shape(key: &str) -> Option<KeyShape> {
    let (prefix, _) = key.rsplit_once('/')?;
    object_of(session_of(prefix)?, key).map(KeyShape::Data)
}

fn metadata_shape(key: &str) -> Option<KeyShape> {
    let (folder, name) = key.strip_prefix(ROOT)?.split_once('/')?;
    if name.contains('/') {
        return None;
    }
    match folder {
        "wal" => {
            let number = name.strip_suffix(".sst")?.parse().ok()?;
            Some(KeyShape::Log(number))
        }
        "compacted" => Some(KeyShape::Table(name.strip_suffix(".sst")?.to_owned())),
        "manifest" => name.strip_suffix(".manifest").map(|_| KeyShape::Manifest),
        "compactions" | "gc" => Some(KeyShape::Upkeep),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::object_key, meta::SessionId};

    #[test]
    fn a_key_has_the_kind_that_its_maker_gave_it_and_any_other_is_foreign() {
        let object = ObjectId {
            session: SessionId([0xab; 16]),
            number: 77,
        };
        for (key, shape) in [
            (object_key(object), KeyShape::Data(object)),
            (object_key(object).to_uppercase(), KeyShape::Foreign),
            (format!("{}0", object_key(object)), KeyShape::Foreign),
            ("data/readme".to_owned(), KeyShape::Foreign),
            (format!("meta/wal/{:020}.sst", 9), KeyShape::Log(9)),
            ("meta/wal/nine.sst".to_owned(), KeyShape::Foreign),
            (
                "meta/compacted/01J.sst".to_owned(),
                KeyShape::Table("01J".to_owned()),
            ),
            (
                format!("meta/manifest/{:020}.manifest", 3),
                KeyShape::Manifest,
            ),
            ("meta/gc/wal.boundary".to_owned(), KeyShape::Upkeep),
            ("meta/other".to_owned(), KeyShape::Foreign),
            ("meta/wal/sub/1.sst".to_owned(), KeyShape::Foreign),
            ("lease".to_owned(), KeyShape::Lease),
            ("strongroom.json".to_owned(), KeyShape::Header),
            ("strongroom.copy.json".to_owned(), KeyShape::Header),
            (format!("readers/{}", "ab".repeat(16)), KeyShape::Note),
            ("holiday.jpg".to_owned(), KeyShape::Foreign),
        ] {
            assert_eq!(shape_of(&key), shape, "{key}");
        }
    }
}
