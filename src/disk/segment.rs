//! One file of entries, appended to and never written over.
//!
//! ```text
//! entry    magic "SRFC", length of the sealed frame (4 bytes), object (24), frame (8),
//!          CRC of these 40 (8); the sealed frame; zeros up to a multiple of 16
//! table    the headers of all entries, in order
//! trailer  magic "SRFT", number of entries (4), zeros (24), where the table begins (8),
//!          CRC of the table and these 40 (8)
//! ```
//!
//! Numbers are big-endian. Table and trailer are there once the segment is full or the mount has
//! ended. The CRCs notice torn writes. Forged frames are noticed by their own tags, which are not
//! looked at here.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use super::{FRAME_BYTES_MAX, FrameKey, OBJECT_LEN};

pub(super) const ENTRY_HEADER_LEN: u64 = 48;
const HEADER: usize = ENTRY_HEADER_LEN as usize;
const CHECKED: usize = HEADER - 8;

const ENTRY_MAGIC: [u8; 4] = *b"SRFC";
const TABLE_MAGIC: [u8; 4] = *b"SRFT";

/// Entries begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 16;

/// Entries that a table may have when it is read back; tables are never written with so many.
const TABLE_ENTRIES_MAX: u64 = 1 << 20;

/// An entry for a sealed frame of `sealed_len` bytes, whole.
pub(super) fn entry_len(sealed_len: u64) -> u64 {
    (ENTRY_HEADER_LEN + sealed_len).next_multiple_of(ALIGNMENT)
}

/// Length of the end of a segment of `entries`.
pub(super) fn table_len(entries: u64) -> u64 {
    (entries + 1) * ENTRY_HEADER_LEN
}

/// A segment that can be read from.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) file: File,
}

/// One entry of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: FrameKey,
    pub(super) at: u64,
    pub(super) sealed_len: u64,
}

impl Entry {
    /// The place of its sealed frame.
    pub(super) fn sealed(&self) -> Range<u64> {
        let start = self.at + ENTRY_HEADER_LEN;
        start..start + self.sealed_len
    }
}

/// The bytes of an entry.
pub(super) fn encode(key: &FrameKey, sealed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entry_len(sealed.len() as u64) as usize);
    bytes.extend_from_slice(&ENTRY_MAGIC);
    bytes.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&key.object);
    bytes.extend_from_slice(&key.frame.to_be_bytes());
    bytes.extend_from_slice(&crc(&[&bytes]).to_be_bytes());
    bytes.extend_from_slice(sealed);
    bytes.resize(entry_len(sealed.len() as u64) as usize, 0);
    bytes
}

/// The header among the bytes of an entry.
pub(super) fn header_of(entry: &[u8]) -> &[u8] {
    entry.get(..HEADER).unwrap_or_default()
}

/// The end of a segment: its table, made of the headers, and the trailer.
pub(super) fn encode_table(headers: &[u8], table_at: u64) -> Vec<u8> {
    let mut bytes = headers.to_vec();
    bytes.extend_from_slice(&TABLE_MAGIC);
    bytes.extend_from_slice(&((headers.len() / HEADER) as u32).to_be_bytes());
    bytes.extend_from_slice(&[0; OBJECT_LEN]);
    bytes.extend_from_slice(&table_at.to_be_bytes());
    let crc = crc(&[&bytes]);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// The entries of a segment of `len` bytes that can be found: from its table, or else from their
/// headers up to the first that is not whole.
pub(super) fn entries(file: &File, len: u64) -> io::Result<Vec<Entry>> {
    if let Some(entries) = table(file, len)? {
        return Ok(entries);
    }
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(entry) = read_entry(file, at, len)? {
        at += entry_len(entry.sealed_len);
        entries.push(entry);
    }
    Ok(entries)
}

/// The entry at `at`, if a whole one is there.
pub(super) fn read_entry(file: &File, at: u64, len: u64) -> io::Result<Option<Entry>> {
    if at + ENTRY_HEADER_LEN > len {
        return Ok(None);
    }
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, at)?;
    Ok(decode(&header, at).filter(|entry| entry.sealed().end <= len))
}

fn table(file: &File, len: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(trailer_at) = len.checked_sub(ENTRY_HEADER_LEN) else {
        return Ok(None);
    };
    let mut trailer = [0; HEADER];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let Some(fields) = Fields::split(&trailer) else {
        return Ok(None);
    };
    let (count, table_at) = (u64::from(fields.number), fields.position);
    let is_table = fields.magic == TABLE_MAGIC
        && count <= TABLE_ENTRIES_MAX
        && table_at.checked_add(table_len(count)) == Some(len);
    if !is_table {
        return Ok(None);
    }
    let mut headers = vec![0; (count * ENTRY_HEADER_LEN) as usize];
    file.read_exact_at(&mut headers, table_at)?;
    if crc(&[&headers, fields.checked]) != fields.crc {
        return Ok(None);
    }
    let mut entries = Vec::with_capacity(count as usize);
    let mut at = 0;
    for header in headers.chunks_exact(HEADER) {
        match decode(header, at).filter(|entry| entry.sealed().end <= table_at) {
            Some(entry) => entries.push(entry),
            None => return Ok(None),
        }
        at += entries
            .last()
            .map_or(0, |entry| entry_len(entry.sealed_len));
    }
    Ok(Some(entries))
}

fn decode(header: &[u8], at: u64) -> Option<Entry> {
    let fields = Fields::split(header)?;
    let is_whole = fields.magic == ENTRY_MAGIC
        && u64::from(fields.number) <= FRAME_BYTES_MAX
        && crc(&[fields.checked]) == fields.crc;
    is_whole.then_some(Entry {
        key: FrameKey {
            object: fields.object,
            frame: fields.position,
        },
        at,
        sealed_len: u64::from(fields.number),
    })
}

/// A header or a trailer.
struct Fields<'a> {
    checked: &'a [u8],
    magic: [u8; 4],
    number: u32,
    object: [u8; OBJECT_LEN],
    position: u64,
    crc: u64,
}

impl Fields<'_> {
    fn split(bytes: &[u8]) -> Option<Fields<'_>> {
        let (checked, crc) = bytes.split_at_checked(CHECKED)?;
        let (magic, rest) = checked.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let (object, position) = rest.split_first_chunk::<OBJECT_LEN>()?;
        Some(Fields {
            checked,
            magic: *magic,
            number: u32::from_be_bytes(*number),
            object: *object,
            position: u64::from_be_bytes(position.try_into().ok()?),
            crc: u64::from_be_bytes(crc.try_into().ok()?),
        })
    }
}

fn crc(parts: &[&[u8]]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}
