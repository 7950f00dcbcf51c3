//! Fuzz targets of what followers note, and of the keys of data objects.

use super::space::{RECORD_LEN, ReaderRecord};
use crate::{
    data::{object_key as object_key_of, object_number},
    meta::{ObjectId, SessionId},
};

/// The contents of a reader's note, once it has authenticated.
pub(crate) fn reader_note(bytes: &[u8]) {
    if let Some(record) = ReaderRecord::decode(bytes) {
        let again = record.encode();
        assert_eq!(ReaderRecord::decode(&again), Some(record));
        assert_eq!(bytes.len(), RECORD_LEN);
        assert_eq!(bytes[8..], again[8..]);
    }
}

/// Keys that a listing names below `data/`: a number is read only from a key that it makes.
pub(crate) fn object_key(bytes: &[u8]) {
    let key = String::from_utf8_lossy(bytes);
    let Some(number) = object_number(&key) else {
        return;
    };
    let made = object_key_of(ObjectId {
        session: SessionId([0; 16]),
        number,
    });
    let name = |key: &str| key.rsplit_once('/').unwrap().1.to_owned();
    assert_eq!(name(&made), name(&key), "two names of one object");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut note = b"r".to_vec();
    note.extend_from_slice(&ReaderRecord::of(5, u64::MAX).encode());
    vec![
        note,
        b"kdata/0123456789abcdef0123456789abcdef/00000000000000ff".to_vec(),
    ]
}
