//! The values of rows: one encoding and one decoding for each record, exact or an error.

use bytes::Bytes;

use super::{
    ObjectKey, SCHEMA_VERSION,
    varint::{Decoder, Encoder},
};
use crate::{
    meta::{FileKind, Ino, Inode, MetaError, ObjectRecord, SessionId, Timestamp, Totals},
    seal::{
        codec::{ObjectKind, SealParams},
        keys::Epoch,
    },
};

/// The form byte of every value of this version.
pub(super) const FORM: u8 = 1;
/// Form byte of an extent whose bytes are in the row.
pub(super) const FORM_INLINE: u8 = 2;

// ---- inodes ----

pub(super) fn kind_byte(kind: FileKind) -> u8 {
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

pub(super) fn decode_kind(decoder: &mut Decoder<'_>) -> Result<FileKind, MetaError> {
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
/// ctime, btime and atime are stored only where they differ from mtime: most files never get a
/// second timestamp.
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

pub(in crate::meta) fn encode_inode(inode: &Inode) -> Vec<u8> {
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

pub(in crate::meta) fn decode_inode(ino: Ino, value: &[u8]) -> Result<Inode, MetaError> {
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

// ---- extended attributes ----

pub(in crate::meta) fn encode_xattr(value: &[u8]) -> Vec<u8> {
    Encoder::new(FORM).bytes(value).finish()
}

pub(in crate::meta) fn decode_xattr(value: &[u8]) -> Result<Bytes, MetaError> {
    let mut decoder = Decoder::new(value, "an extended attribute");
    decoder.form(FORM)?;
    Ok(Bytes::copy_from_slice(decoder.rest()))
}

// ---- extents ----

/// Where a stored extent's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::meta) enum RowSource {
    Object { object: ObjectKey, at: u64 },
    Inline(Bytes),
}

/// A stored extent; its end is in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::meta) struct ExtentRow {
    pub start: u64,
    pub source: RowSource,
}

pub(in crate::meta) fn encode_extent(end: u64, row: &ExtentRow) -> Vec<u8> {
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

pub(in crate::meta) fn decode_extent(end: u64, value: &[u8]) -> Result<ExtentRow, MetaError> {
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

/// An object record, with the field that only the metadata needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::meta) struct StoredObject {
    pub record: ObjectRecord,
    /// When its last live byte was freed.
    pub died_unix_seconds: Option<i64>,
}

pub(in crate::meta) fn encode_object(object: &StoredObject) -> Vec<u8> {
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

pub(in crate::meta) fn decode_object(value: &[u8]) -> Result<StoredObject, MetaError> {
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

/// The inodes whose extents named an object when it was committed, ascending, stored as
/// differences.
pub(in crate::meta) fn encode_members(inos: &[Ino]) -> Vec<u8> {
    let mut out = Encoder::new(FORM);
    let mut last = 0;
    for ino in inos {
        out = out.unsigned(ino.0 - last);
        last = ino.0;
    }
    out.finish()
}

pub(in crate::meta) fn decode_members(value: &[u8]) -> Result<Vec<Ino>, MetaError> {
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

pub(in crate::meta) fn encode_schema() -> Vec<u8> {
    vec![SCHEMA_VERSION]
}

/// A row of the session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct SessionRow {
    pub session: SessionId,
    /// Ended cleanly, or its leftovers were cleared away.
    pub ended: bool,
    /// Object records that name it; an ended session with none is forgotten.
    pub objects: u64,
}

pub(in crate::meta) fn encode_session(row: &SessionRow) -> Vec<u8> {
    Encoder::new(FORM)
        .byte(u8::from(row.ended))
        .bytes(&row.session.0)
        .unsigned(row.objects)
        .finish()
}

pub(in crate::meta) fn decode_session(value: &[u8]) -> Result<SessionRow, MetaError> {
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
pub(in crate::meta) fn encode_orphan(session: u32) -> Vec<u8> {
    Encoder::new(FORM).unsigned(u64::from(session)).finish()
}

pub(in crate::meta) fn decode_orphan(value: &[u8]) -> Result<u32, MetaError> {
    let mut decoder = Decoder::new(value, "an orphan record");
    decoder.form(FORM)?;
    let session = decoder.unsigned32()?;
    decoder.end()?;
    Ok(session)
}

pub(in crate::meta) fn encode_totals(totals: &Totals) -> Vec<u8> {
    Encoder::new(FORM)
        .unsigned(totals.inodes)
        .unsigned(totals.bytes)
        .finish()
}

pub(in crate::meta) fn decode_totals(value: &[u8]) -> Result<Totals, MetaError> {
    let mut decoder = Decoder::new(value, "the totals");
    decoder.form(FORM)?;
    let totals = Totals {
        inodes: decoder.unsigned()?,
        bytes: decoder.unsigned()?,
    };
    decoder.end()?;
    Ok(totals)
}

/// Numbers that must never be given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Counters {
    /// Inode numbers and cookies below this one may be in use.
    pub ids_end: u64,
    /// The next session's number.
    pub next_session: u32,
}

pub(in crate::meta) fn encode_counters(counters: &Counters) -> Vec<u8> {
    Encoder::new(FORM)
        .unsigned(counters.ids_end)
        .unsigned(u64::from(counters.next_session))
        .finish()
}

pub(in crate::meta) fn decode_counters(value: &[u8]) -> Result<Counters, MetaError> {
    let mut decoder = Decoder::new(value, "the counters");
    decoder.form(FORM)?;
    let counters = Counters {
        ids_end: decoder.unsigned()?,
        next_session: decoder.unsigned32()?,
    };
    decoder.end()?;
    Ok(counters)
}
