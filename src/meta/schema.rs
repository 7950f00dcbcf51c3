//! Keys and values in the database, and nothing else (`docs/format.md` has the same as tables).
//!
//! A key is one tag byte and big-endian integers, so the rows of one directory and of one file lie next to each other in the
//! order in which they are listed and read. A value starts with a form byte; what does not decode exactly is an error.
//!
//! Extents are keyed by where they *end*: a scan from `a` meets first the one extent that may begin before `a`.
//! Extents name an object's session by a small number (the session table has the 16 bytes), which halves them.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Dentry, DirEntry, FileKind, Ino, Inode, MetaError, ObjectRecord, SessionId, Timestamp, Totals,
    varint::{Decoder, Encoder},
};
use crate::seal::{
    codec::{ObjectKind, SealParams},
    keys::Epoch,
};

/// The version of this schema, in its own row.
pub(super) const SCHEMA_VERSION: u8 = 1;
/// The form byte of every value of this version.
const FORM: u8 = 1;
/// Form byte of an extent whose bytes are in the row.
const FORM_INLINE: u8 = 2;

/// Longest name of an entry or an attribute, bytes (Linux `NAME_MAX`, `XATTR_NAME_MAX`).
pub(super) const NAME_LEN_MAX: usize = 255;

/// One per table.
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
    Table::Inode.with(first.0)..Table::Inode.with(last.0.saturating_add(1))
}

pub(super) fn dentry_key(dir: Ino, name: &[u8]) -> Vec<u8> {
    Table::Dentry.with_name(dir.0, name)
}

pub(super) fn listing_key(dir: Ino, cookie: u64) -> Vec<u8> {
    Table::Listing.with_two(dir.0, cookie)
}

pub(super) fn listing_range(dir: Ino, after_cookie: u64) -> Range<Vec<u8>> {
    listing_key(dir, after_cookie.saturating_add(1))..Table::Listing.with(dir.0 + 1)
}

pub(super) fn extent_key(ino: Ino, end: u64) -> Vec<u8> {
    Table::Extent.with_two(ino.0, end)
}

/// Extents of `ino` that end at `first_end` or later.
pub(super) fn extent_range(ino: Ino, first_end: u64) -> Range<Vec<u8>> {
    extent_key(ino, first_end)..Table::Extent.with(ino.0 + 1)
}

pub(super) fn xattr_key(ino: Ino, name: &[u8]) -> Vec<u8> {
    Table::Xattr.with_name(ino.0, name)
}

pub(super) fn xattr_range(ino: Ino) -> Range<Vec<u8>> {
    Table::Xattr.with(ino.0)..Table::Xattr.with(ino.0 + 1)
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

/// Garbage that died at or before.
pub(super) fn garbage_range(before_unix_seconds: i64) -> Range<Vec<u8>> {
    let end = before_unix_seconds.saturating_add(1) as u64 ^ (1 << 63);
    Table::Garbage.single()..Table::Garbage.with(end)
}

pub(super) fn orphan_key(ino: Ino) -> Vec<u8> {
    Table::Orphan.with(ino.0)
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

// ---- inodes ----

fn kind_byte(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    }
}

fn decode_kind(decoder: &mut Decoder<'_>) -> Result<FileKind, MetaError> {
    Ok(match decoder.byte()? {
        1 => FileKind::File,
        2 => FileKind::Directory,
        3 => FileKind::Symlink,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        6 => FileKind::CharDevice,
        7 => FileKind::BlockDevice,
        _ => return Err(decoder.bad()),
    })
}

/// Bits of the inode's flag byte.
const HAS_XATTRS: u8 = 1;
/// ctime, btime and atime are stored only where they differ from mtime: most files never get a second timestamp.
const OWN_CTIME: u8 = 2;
const OWN_BTIME: u8 = 4;
const OWN_ATIME: u8 = 8;

fn encode_time(out: Encoder, time: Timestamp) -> Encoder {
    out.signed(time.seconds).unsigned(u64::from(time.nanos))
}

fn decode_time(decoder: &mut Decoder<'_>) -> Result<Timestamp, MetaError> {
    let (seconds, nanos) = (decoder.signed()?, decoder.unsigned32()?);
    if nanos >= 1_000_000_000 {
        return Err(decoder.bad());
    }
    Ok(Timestamp { seconds, nanos })
}

pub(super) fn encode_inode(inode: &Inode) -> Vec<u8> {
    let own = |time: Timestamp, flag: u8| if time == inode.mtime { 0 } else { flag };
    let flags = if inode.has_xattrs { HAS_XATTRS } else { 0 }
        | own(inode.ctime, OWN_CTIME)
        | own(inode.btime, OWN_BTIME)
        | own(inode.atime, OWN_ATIME);
    let mut out = Encoder::new(FORM)
        .byte(kind_byte(inode.kind))
        .byte(flags)
        .unsigned(u64::from(inode.mode))
        .unsigned(u64::from(inode.uid))
        .unsigned(u64::from(inode.gid))
        .unsigned(u64::from(inode.nlink));
    out = encode_time(out, inode.mtime);
    for (time, flag) in [
        (inode.ctime, OWN_CTIME),
        (inode.btime, OWN_BTIME),
        (inode.atime, OWN_ATIME),
    ] {
        if flags & flag != 0 {
            out = encode_time(out, time);
        }
    }
    out = match inode.kind {
        FileKind::File => out.unsigned(inode.size).unsigned(inode.allocated),
        FileKind::Directory => out.unsigned(inode.parent.0).unsigned(inode.entries),
        FileKind::Symlink => out.bytes(&inode.target),
        FileKind::CharDevice | FileKind::BlockDevice => out.unsigned(u64::from(inode.rdev)),
        FileKind::Fifo | FileKind::Socket => out,
    };
    out.finish()
}

pub(super) fn decode_inode(ino: Ino, value: &[u8]) -> Result<Inode, MetaError> {
    let mut decoder = Decoder::new(value, "an inode record");
    decoder.form(FORM)?;
    let kind = decode_kind(&mut decoder)?;
    let flags = decoder.byte()?;
    if flags & !(HAS_XATTRS | OWN_CTIME | OWN_BTIME | OWN_ATIME) != 0 {
        return Err(decoder.bad());
    }
    let (mode, uid, gid, nlink) = (
        decoder.unsigned32()?,
        decoder.unsigned32()?,
        decoder.unsigned32()?,
        decoder.unsigned32()?,
    );
    let mtime = decode_time(&mut decoder)?;
    let mut own = |flag: u8| {
        if flags & flag != 0 {
            decode_time(&mut decoder)
        } else {
            Ok(mtime)
        }
    };
    let (ctime, btime, atime) = (own(OWN_CTIME)?, own(OWN_BTIME)?, own(OWN_ATIME)?);
    let mut inode = Inode {
        ino,
        kind,
        mode,
        uid,
        gid,
        nlink,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime,
        mtime,
        ctime,
        btime,
        parent: Ino(0),
        entries: 0,
        target: Bytes::new(),
        has_xattrs: flags & HAS_XATTRS != 0,
    };
    match kind {
        FileKind::File => {
            (inode.size, inode.allocated) = (decoder.unsigned()?, decoder.unsigned()?)
        }
        FileKind::Directory => {
            (inode.parent, inode.entries) = (Ino(decoder.unsigned()?), decoder.unsigned()?)
        }
        FileKind::Symlink => {
            inode.target = Bytes::copy_from_slice(decoder.rest());
            inode.size = inode.target.len() as u64;
        }
        FileKind::CharDevice | FileKind::BlockDevice => inode.rdev = decoder.unsigned32()?,
        FileKind::Fifo | FileKind::Socket => {}
    }
    decoder.end()?;
    Ok(inode)
}

// ---- names ----

/// Stored as 0 where the cookie is the inode's own number, as it is for everything but hard links and what was renamed over them.
fn cookie_or_zero(ino: Ino, cookie: u64) -> u64 {
    if cookie == ino.0 { 0 } else { cookie }
}

pub(super) fn encode_dentry(dentry: &Dentry) -> Vec<u8> {
    Encoder::new(FORM)
        .byte(kind_byte(dentry.kind))
        .unsigned(dentry.ino.0)
        .unsigned(cookie_or_zero(dentry.ino, dentry.cookie))
        .finish()
}

pub(super) fn decode_dentry(value: &[u8]) -> Result<Dentry, MetaError> {
    let mut decoder = Decoder::new(value, "a directory entry");
    decoder.form(FORM)?;
    let kind = decode_kind(&mut decoder)?;
    let ino = Ino(decoder.unsigned()?);
    let cookie = decoder.unsigned()?;
    decoder.end()?;
    Ok(Dentry {
        ino,
        kind,
        cookie: if cookie == 0 { ino.0 } else { cookie },
    })
}

pub(super) fn encode_listing(dentry: &Dentry, name: &[u8]) -> Vec<u8> {
    let ino = if dentry.cookie == dentry.ino.0 {
        0
    } else {
        dentry.ino.0
    };
    Encoder::new(FORM)
        .byte(kind_byte(dentry.kind))
        .unsigned(ino)
        .bytes(name)
        .finish()
}

pub(super) fn decode_listing(cookie: u64, value: &[u8]) -> Result<DirEntry, MetaError> {
    let mut decoder = Decoder::new(value, "a listing entry");
    decoder.form(FORM)?;
    let kind = decode_kind(&mut decoder)?;
    let ino = decoder.unsigned()?;
    let name = Bytes::copy_from_slice(decoder.rest());
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(decoder.bad());
    }
    Ok(DirEntry {
        cookie,
        name,
        ino: Ino(if ino == 0 { cookie } else { ino }),
        kind,
    })
}

// ---- extents ----

/// Where a stored extent's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowSource {
    Object { object: ObjectKey, at: u64 },
    Inline(Bytes),
}

/// A stored extent; its end is in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtentRow {
    pub start: u64,
    pub source: RowSource,
}

pub(super) fn encode_extent(end: u64, row: &ExtentRow) -> Vec<u8> {
    match &row.source {
        RowSource::Object { object, at } => Encoder::new(FORM)
            .unsigned(end - row.start)
            .unsigned(u64::from(object.session))
            .unsigned(object.number)
            .unsigned(*at)
            .finish(),
        RowSource::Inline(bytes) => Encoder::new(FORM_INLINE).bytes(bytes).finish(),
    }
}

pub(super) fn decode_extent(end: u64, value: &[u8]) -> Result<ExtentRow, MetaError> {
    let mut decoder = Decoder::new(value, "an extent");
    let (len, source) = match decoder.byte()? {
        FORM => {
            let len = decoder.unsigned()?;
            let object = ObjectKey {
                session: decoder.unsigned32()?,
                number: decoder.unsigned()?,
            };
            (
                len,
                RowSource::Object {
                    object,
                    at: decoder.unsigned()?,
                },
            )
        }
        FORM_INLINE => {
            let bytes = Bytes::copy_from_slice(decoder.rest());
            (bytes.len() as u64, RowSource::Inline(bytes))
        }
        _ => return Err(decoder.bad()),
    };
    let start = end
        .checked_sub(len)
        .filter(|_| len > 0)
        .ok_or_else(|| decoder.bad())?;
    decoder.end()?;
    Ok(ExtentRow { start, source })
}

// ---- objects ----

/// An object record with what only this module needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredObject {
    pub record: ObjectRecord,
    /// When its last live byte was freed.
    pub died_unix_seconds: Option<i64>,
}

impl StoredObject {
    /// Below half live, and not dead: worth repacking.
    pub fn is_sparse(&self) -> bool {
        self.record.live_bytes > 0 && self.record.live_bytes < self.record.plaintext_len.div_ceil(2)
    }
}

pub(super) fn encode_object(object: &StoredObject) -> Vec<u8> {
    let record = &object.record;
    let mut out = Encoder::new(FORM)
        .byte(record.params.kind as u8)
        .byte(record.params.frame_log2)
        .bytes(&record.params.salt)
        .unsigned(u64::from(record.params.epoch.0))
        .unsigned(record.plaintext_len)
        .unsigned(record.live_bytes);
    if let Some(died) = object.died_unix_seconds {
        out = out.signed(died);
    }
    out.finish()
}

pub(super) fn decode_object(value: &[u8]) -> Result<StoredObject, MetaError> {
    let mut decoder = Decoder::new(value, "an object record");
    decoder.form(FORM)?;
    let kind = match decoder.byte()? {
        1 => ObjectKind::Data,
        2 => ObjectKind::Metadata,
        3 => ObjectKind::Control,
        _ => return Err(decoder.bad()),
    };
    let frame_log2 = decoder.byte()?;
    let salt = decoder.array()?;
    let params = SealParams {
        salt,
        epoch: Epoch(decoder.unsigned32()?),
        frame_log2,
        kind,
    };
    let record = ObjectRecord {
        params,
        plaintext_len: decoder.unsigned()?,
        live_bytes: decoder.unsigned()?,
    };
    let died_unix_seconds = if decoder.is_empty() {
        None
    } else {
        Some(decoder.signed()?)
    };
    decoder.end()?;
    Ok(StoredObject {
        record,
        died_unix_seconds,
    })
}

/// The inodes whose extents named an object when it was committed, ascending, stored as differences.
pub(super) fn encode_members(inos: &[Ino]) -> Vec<u8> {
    let mut out = Encoder::new(FORM);
    let mut last = 0;
    for ino in inos {
        out = out.unsigned(ino.0 - last);
        last = ino.0;
    }
    out.finish()
}

pub(super) fn decode_members(value: &[u8]) -> Result<Vec<Ino>, MetaError> {
    let mut decoder = Decoder::new(value, "an object's members");
    decoder.form(FORM)?;
    let (mut inos, mut last) = (Vec::new(), 0u64);
    while !decoder.is_empty() {
        last = last
            .checked_add(decoder.unsigned()?)
            .ok_or_else(|| decoder.bad())?;
        inos.push(Ino(last));
    }
    Ok(inos)
}

// ---- the rest ----

pub(super) fn encode_schema() -> Vec<u8> {
    vec![SCHEMA_VERSION]
}

/// A row of the session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub session: SessionId,
    /// Ended cleanly, or its leftovers were cleared away.
    pub ended: bool,
    /// Object records that name it; an ended session with none is forgotten.
    pub objects: u64,
}

pub(super) fn encode_session(row: &SessionRow) -> Vec<u8> {
    Encoder::new(FORM)
        .byte(u8::from(row.ended))
        .bytes(&row.session.0)
        .unsigned(row.objects)
        .finish()
}

pub(super) fn decode_session(value: &[u8]) -> Result<SessionRow, MetaError> {
    let mut decoder = Decoder::new(value, "a session record");
    decoder.form(FORM)?;
    let ended = match decoder.byte()? {
        0 => false,
        1 => true,
        _ => return Err(decoder.bad()),
    };
    let row = SessionRow {
        session: SessionId(decoder.array()?),
        ended,
        objects: decoder.unsigned()?,
    };
    decoder.end()?;
    Ok(row)
}

/// An orphan's row says which session made it one.
pub(super) fn encode_orphan(session: u32) -> Vec<u8> {
    Encoder::new(FORM).unsigned(u64::from(session)).finish()
}

pub(super) fn decode_orphan(value: &[u8]) -> Result<u32, MetaError> {
    let mut decoder = Decoder::new(value, "an orphan record");
    decoder.form(FORM)?;
    let session = decoder.unsigned32()?;
    decoder.end()?;
    Ok(session)
}

pub(super) fn encode_totals(totals: &Totals) -> Vec<u8> {
    Encoder::new(FORM)
        .unsigned(totals.inodes)
        .unsigned(totals.bytes)
        .finish()
}

pub(super) fn decode_totals(value: &[u8]) -> Result<Totals, MetaError> {
    let mut decoder = Decoder::new(value, "the totals");
    decoder.form(FORM)?;
    let totals = Totals {
        inodes: decoder.unsigned()?,
        bytes: decoder.unsigned()?,
    };
    decoder.end()?;
    Ok(totals)
}

/// What must never be given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// Inode numbers and cookies below this one may be in use.
    pub ids_end: u64,
    /// The next session's number.
    pub next_session: u32,
}

pub(super) fn encode_counters(counters: &Counters) -> Vec<u8> {
    Encoder::new(FORM)
        .unsigned(counters.ids_end)
        .unsigned(u64::from(counters.next_session))
        .finish()
}

pub(super) fn decode_counters(value: &[u8]) -> Result<Counters, MetaError> {
    let mut decoder = Decoder::new(value, "the counters");
    decoder.form(FORM)?;
    let counters = Counters {
        ids_end: decoder.unsigned()?,
        next_session: decoder.unsigned32()?,
    };
    decoder.end()?;
    Ok(counters)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
