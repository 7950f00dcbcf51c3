//! Keys and values in the database, and nothing else (`docs/format.md` has the same as tables).
//! Keys here, values in `values`.
//!
//! A key is one tag byte and big-endian integers, so the rows of one directory and of one file lie
//! next to each other in the order in which they are listed and read. A value starts with a form
//! byte; a value that does not decode exactly is an error.
//!
//! Extents are keyed by their *end*, so a scan from `a` first meets the one extent that may begin
//! before `a`. Extents name an object's session by a small number (the session table has the 16
//! bytes), which halves them.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod names;
mod values;
mod varint;

use std::ops::Range;

use bytes::Bytes;

use self::varint::Decoder;
use super::{Ino, MetaError};
pub(super) use names::*;
pub(super) use values::*;

/// The version of this schema, in its own row. Version 2 knows names with a fallback. A program
/// that knows only version 1 would delete the files that they fall back to, so a writable mount
/// raises the number, and such a program refuses the volume.
pub(super) const SCHEMA_VERSION: u8 = 2;
/// The oldest version that is read; its rows mean the same.
pub(super) const SCHEMA_VERSION_MIN: u8 = 1;

/// The first byte of the keys of each table.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Table {
    Schema = 0x01,
    Counters = 0x02,
    Totals = 0x03,
    Inode = 0x10,
    Dentry = 0x20,
    Listing = 0x21,
    Extent = 0x30,
    Xattr = 0x38,
    Object = 0x40,
    Members = 0x41,
    Sparse = 0x42,
    Garbage = 0x43,
    Orphan = 0x50,
    Session = 0x51,
    Replacement = 0x52,
}

impl Table {
    /// The key of a table that has only one row.
    pub fn single(self) -> Vec<u8> {
        vec![self as u8]
    }

    /// The key range of all its rows.
    pub fn all(self) -> Range<Vec<u8>> {
        vec![self as u8]..vec![self as u8 + 1]
    }

    /// The first key behind all rows of a number.
    fn behind(self, number: u64) -> Vec<u8> {
        match number.checked_add(1) {
            Some(next) => self.with(next),
            None => vec![self as u8 + 1],
        }
    }

    fn with(self, number: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(17);
        key.push(self as u8);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    fn with_two(self, number: u64, second: u64) -> Vec<u8> {
        let mut key = self.with(number);
        key.extend_from_slice(&second.to_be_bytes());
        key
    }

    fn with_name(self, number: u64, name: &[u8]) -> Vec<u8> {
        let mut key = self.with(number);
        key.extend_from_slice(name);
        key
    }
}

/// An object as the database names it: the session by its number in the session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub session: u32,
    pub number: u64,
}

impl ObjectKey {
    fn append(self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.session.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
    }

    fn in_table(self, table: Table) -> Vec<u8> {
        let mut key = vec![table as u8];
        self.append(&mut key);
        key
    }
}

// ---- keys ----

pub(super) fn inode_key(ino: Ino) -> Vec<u8> {
    Table::Inode.with(ino.0)
}

pub(super) fn inode_range(first: Ino, last: Ino) -> Range<Vec<u8>> {
    Table::Inode.with(first.0)..Table::Inode.behind(last.0)
}

pub(super) fn dentry_key(dir: Ino, name: &[u8]) -> Vec<u8> {
    Table::Dentry.with_name(dir.0, name)
}

/// The names of a directory that sort after `name`.
pub(super) fn names_after(dir: Ino, name: &[u8]) -> Range<Vec<u8>> {
    let mut start = dentry_key(dir, name);
    // The next key in order.
    start.push(0);
    start..Table::Dentry.behind(dir.0)
}

pub(super) fn listing_key(dir: Ino, cookie: u64) -> Vec<u8> {
    Table::Listing.with_two(dir.0, cookie)
}

pub(super) fn listing_range(dir: Ino, after_cookie: u64) -> Range<Vec<u8>> {
    listing_key(dir, after_cookie.saturating_add(1))..Table::Listing.behind(dir.0)
}

pub(super) fn extent_key(ino: Ino, end: u64) -> Vec<u8> {
    Table::Extent.with_two(ino.0, end)
}

/// Extents of `ino` that end at `first_end` or later.
pub(super) fn extent_range(ino: Ino, first_end: u64) -> Range<Vec<u8>> {
    extent_key(ino, first_end)..Table::Extent.behind(ino.0)
}

pub(super) fn xattr_key(ino: Ino, name: &[u8]) -> Vec<u8> {
    Table::Xattr.with_name(ino.0, name)
}

pub(super) fn xattr_range(ino: Ino) -> Range<Vec<u8>> {
    Table::Xattr.with(ino.0)..Table::Xattr.behind(ino.0)
}

pub(super) fn object_key(object: ObjectKey) -> Vec<u8> {
    object.in_table(Table::Object)
}

pub(super) fn members_key(object: ObjectKey) -> Vec<u8> {
    object.in_table(Table::Members)
}

pub(super) fn sparse_key(object: ObjectKey) -> Vec<u8> {
    object.in_table(Table::Sparse)
}

pub(super) fn garbage_key(died_unix_seconds: i64, object: ObjectKey) -> Vec<u8> {
    let mut key = Table::Garbage.with(died_unix_seconds as u64 ^ (1 << 63));
    object.append(&mut key);
    key
}

/// Garbage that died at this second or before.
pub(super) fn garbage_range(before_unix_seconds: i64) -> Range<Vec<u8>> {
    let last = before_unix_seconds as u64 ^ (1 << 63);
    Table::Garbage.single()..Table::Garbage.behind(last)
}

pub(super) fn orphan_key(ino: Ino) -> Vec<u8> {
    Table::Orphan.with(ino.0)
}

/// A name whose replacement is not committed: the new inode, and the name's cookie.
pub(super) fn replacement_key(new: Ino, cookie: u64) -> Vec<u8> {
    Table::Replacement.with_two(new.0, cookie)
}

pub(super) fn session_key(number: u32) -> Vec<u8> {
    let mut key = Table::Session.single();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn bad_key() -> MetaError {
    MetaError::Store("a key in the database does not decode".into())
}

fn key_tail<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], MetaError> {
    key.get(at..)
        .and_then(|tail| tail.try_into().ok())
        .ok_or_else(bad_key)
}

/// The inode number of an inode or orphan key.
pub(super) fn ino_of_key(key: &[u8]) -> Result<Ino, MetaError> {
    Ok(Ino(u64::from_be_bytes(key_tail(key, 1)?)))
}

/// The second integer of a listing or extent key.
pub(super) fn second_of_key(key: &[u8]) -> Result<u64, MetaError> {
    Ok(u64::from_be_bytes(key_tail(key, 9)?))
}

/// The name in a dentry or xattr key.
pub(super) fn name_of_key(key: &[u8]) -> Result<Bytes, MetaError> {
    key.get(9..).map(Bytes::copy_from_slice).ok_or_else(bad_key)
}

/// The new inode and the cookie of a replacement key.
pub(super) fn replacement_of_key(key: &[u8]) -> Result<(Ino, u64), MetaError> {
    let tail: [u8; 16] = key_tail(key, 1)?;
    let mut decoder = Decoder::new(&tail, "a replacement key");
    let new = Ino(u64::from_be_bytes(decoder.array()?));
    Ok((new, u64::from_be_bytes(decoder.array()?)))
}

pub(super) fn session_of_key(key: &[u8]) -> Result<u32, MetaError> {
    Ok(u32::from_be_bytes(key_tail(key, 1)?))
}

/// The object of a key of the object, members or sparse table.
pub(super) fn object_of_key(key: &[u8]) -> Result<ObjectKey, MetaError> {
    let tail: [u8; 12] = key_tail(key, 1)?;
    let mut decoder = Decoder::new(&tail, "an object key");
    Ok(ObjectKey {
        session: u32::from_be_bytes(decoder.array()?),
        number: u64::from_be_bytes(decoder.array()?),
    })
}

/// Death time and object of a garbage key.
pub(super) fn garbage_of_key(key: &[u8]) -> Result<(i64, ObjectKey), MetaError> {
    let tail: [u8; 20] = key_tail(key, 1)?;
    let mut decoder = Decoder::new(&tail, "a garbage key");
    let died = (u64::from_be_bytes(decoder.array()?) ^ (1 << 63)) as i64;
    let object = ObjectKey {
        session: u32::from_be_bytes(decoder.array()?),
        number: u64::from_be_bytes(decoder.array()?),
    };
    Ok((died, object))
}

#[cfg(test)]
mod tests;
