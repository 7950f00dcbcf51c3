//! The records of objects, parts and uploads, and the files that hold them.
//!
//! Every file is its data (from offset 0, possibly none), then its record as JSON, then a footer:
//!
//! ```text
//! data | JSON | JSON length u32 | data length u64 | CRC-32 of the JSON u32 | "SRS3REC1"     (little endian)
//! ```
//!
//! A file gets its name by a rename once it is complete, so one that has a name is whole; the
//! footer finds the damage that a rename can't prevent (a failing disk, [`SyncPolicy::Never`] and a
//! power cut).
//!
//! [`SyncPolicy::Never`]: super::super::SyncPolicy::Never

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use s3s::crypto::{Checksum as _, Crc32};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"SRS3REC1";
const FOOTER_BYTES: usize = 24;
/// Bytes of a file's end that are read at first; they hold most records whole.
const TAIL_BYTES: u64 = 4096;

/// Headers that come back with the object as they came with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<SystemTime>,
    /// `x-amz-meta-*`, without the prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The checksum in base64, as on the wire, if the client sent one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksums {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crc32: Option<String>,
    /// It is a checksum of the parts' checksums, not of the object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) composite: bool,
}

/// One part of an upload, or of the object it became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    /// 1 to 10,000.
    pub(crate) number: u16,
    pub(crate) size: u64,
    /// Without quotes; unique to this upload of the part.
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    #[serde(default)]
    pub(crate) checksums: Checksums,
}

/// The upload an object was made by, and the parts its data is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompletedUpload {
    pub(crate) id: String,
    pub(crate) parts: Vec<PartRecord>,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRecord {
    pub(crate) key: String,
    /// Without quotes; unique to this write.
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    #[serde(default)]
    pub(crate) headers: Headers,
    #[serde(default)]
    pub(crate) checksums: Checksums,
    /// Set when the data is in parts and not in this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload: Option<CompletedUpload>,
}

/// A multipart upload that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) initiated: SystemTime,
    #[serde(default)]
    pub(crate) headers: Headers,
    /// `CRC32`, if the parts' checksums are to be combined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum_algorithm: Option<String>,
    /// Whether to the checksum of the whole object, rather than of the parts' checksums.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) full_object_checksum: bool,
}

/// Appends record and footer to a file that holds `data_len` bytes of data.
pub(super) fn append<T: Serialize>(mut file: &File, data_len: u64, record: &T) -> io::Result<()> {
    let mut tail = serde_json::to_vec(record)?;
    let json_len =
        u32::try_from(tail.len()).map_err(|_| io::Error::other("a record of over 4 GiB"))?;
    let crc = Crc32::checksum_u32(&tail);
    tail.extend_from_slice(&json_len.to_le_bytes());
    tail.extend_from_slice(&data_len.to_le_bytes());
    tail.extend_from_slice(&crc.to_le_bytes());
    tail.extend_from_slice(MAGIC);
    file.write_all(&tail)
}

/// Reads the record of a file, checking that both are whole.
pub(super) fn load<T: DeserializeOwned>(file: &File) -> io::Result<T> {
    let damaged = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("damaged record: {what}"),
        )
    };
    let file_len = file.metadata()?.len();
    let tail_len = file_len.min(TAIL_BYTES);
    let mut tail = vec![0; usize::try_from(tail_len).unwrap_or(0)];
    file.read_exact_at(&mut tail, file_len - tail_len)?;
    let footer = tail
        .last_chunk::<FOOTER_BYTES>()
        .ok_or_else(|| damaged("too short"))?;
    let [
        l0,
        l1,
        l2,
        l3,
        d0,
        d1,
        d2,
        d3,
        d4,
        d5,
        d6,
        d7,
        c0,
        c1,
        c2,
        c3,
        magic @ ..,
    ] = *footer;
    if magic != *MAGIC {
        return Err(damaged("no footer"));
    }
    let json_len = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let data_len = u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]);
    if data_len.checked_add(json_len + FOOTER_BYTES as u64) != Some(file_len) {
        return Err(damaged("lengths do not add up"));
    }
    let mut json = vec![0; usize::try_from(json_len).map_err(|_| damaged("too long"))?];
    file.read_exact_at(&mut json, data_len)?;
    if Crc32::checksum(&json) != u32::from_le_bytes([c0, c1, c2, c3]).to_be_bytes() {
        return Err(damaged("checksum"));
    }
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let part = PartRecord {
            number: 3,
            size: 4,
            etag: "e".into(),
            modified: SystemTime::UNIX_EPOCH,
            checksums: Checksums {
                crc32: Some("x".repeat(6000)),
                ..Checksums::default()
            },
        };
        std::fs::write(&path, b"data").unwrap();
        let file = File::options().append(true).read(true).open(&path).unwrap();
        append(&file, 4, &part).unwrap();
        assert_eq!(load::<PartRecord>(&file).unwrap(), part);

        let whole = std::fs::read(&path).unwrap();
        for (at, len) in [
            (10, whole.len()),
            (whole.len() - 1, whole.len()),
            (0, whole.len() - 1),
            (0, 3),
            (0, 0),
        ] {
            let mut bytes = whole.clone();
            bytes[at] ^= if len == whole.len() { 1 } else { 0 };
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(
                load::<PartRecord>(&File::open(&path).unwrap()).is_err(),
                "at {at}, length {len}"
            );
        }
    }
}
