//! Directory entries, by name and by place in the listing, with their fallbacks.

use bytes::Bytes;

use super::{
    FORM, decode_kind, kind_byte,
    varint::{Decoder, Encoder},
};
use crate::limits::NAME_LEN_MAX;
use crate::meta::{Dentry, DirEntry, FileKind, Ino, MetaError};

/// Form byte of a directory entry, by name or in the listing, that has a fallback.
const FORM_FALLBACK: u8 = 2;

/// The cookie is stored as 0 where it is the inode's own number: for all entries except hard links,
/// and entries that were renamed over others.
fn cookie_or_zero(ino: Ino, cookie: u64) -> u64 {
    if cookie == ino.0 { 0 } else { cookie }
}

/// The inode that a name stands for while the contents of the file that replaced it are not
/// committed. The mount that writes them sees the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Fallback {
    pub ino: Ino,
    pub kind: FileKind,
}

/// The reader of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) enum Reader {
    /// The mount that writes: it has the contents that are not committed.
    Writer,
    /// A follower: it has the durable state only.
    Follower,
}

impl Reader {
    fn kind_and_ino(self, kind: FileKind, ino: Ino, fallback: Option<Fallback>) -> (FileKind, Ino) {
        match fallback.filter(|_| self == Reader::Follower) {
            Some(fallback) => (fallback.kind, fallback.ino),
            None => (kind, ino),
        }
    }
}

fn form_with(fallback: Option<Fallback>) -> u8 {
    if fallback.is_some() {
        FORM_FALLBACK
    } else {
        FORM
    }
}

fn encode_fallback(out: Encoder, fallback: Option<Fallback>) -> Encoder {
    match fallback {
        Some(fallback) => out.byte(kind_byte(fallback.kind)).unsigned(fallback.ino.0),
        None => out,
    }
}

/// Whether an entry has a fallback, by its form byte.
fn decode_entry_form(decoder: &mut Decoder<'_>) -> Result<bool, MetaError> {
    match decoder.byte()? {
        FORM => Ok(false),
        FORM_FALLBACK => Ok(true),
        _ => Err(decoder.bad()),
    }
}

fn decode_fallback(
    decoder: &mut Decoder<'_>,
    has_fallback: bool,
) -> Result<Option<Fallback>, MetaError> {
    if !has_fallback {
        return Ok(None);
    }
    let kind = decode_kind(decoder)?;
    let ino = Ino(decoder.unsigned()?);
    Ok(Some(Fallback { ino, kind }))
}

pub(in crate::meta) fn encode_dentry(dentry: &Dentry, fallback: Option<Fallback>) -> Vec<u8> {
    let out = Encoder::new(form_with(fallback))
        .byte(kind_byte(dentry.kind))
        .unsigned(dentry.ino.0)
        .unsigned(cookie_or_zero(dentry.ino, dentry.cookie));
    encode_fallback(out, fallback).finish()
}

/// An entry as stored, with its fallback.
pub(in crate::meta) fn decode_dentry_row(
    value: &[u8],
) -> Result<(Dentry, Option<Fallback>), MetaError> {
    let mut decoder = Decoder::new(value, "a directory entry");
    let has_fallback = decode_entry_form(&mut decoder)?;
    let kind = decode_kind(&mut decoder)?;
    let ino = Ino(decoder.unsigned()?);
    let cookie = decoder.unsigned()?;
    let fallback = decode_fallback(&mut decoder, has_fallback)?;
    decoder.end()?;
    let dentry = Dentry {
        ino,
        kind,
        cookie: if cookie == 0 { ino.0 } else { cookie },
    };
    Ok((dentry, fallback))
}

/// An entry as `reader` sees it.
pub(in crate::meta) fn decode_dentry(value: &[u8], reader: Reader) -> Result<Dentry, MetaError> {
    let (dentry, fallback) = decode_dentry_row(value)?;
    let (kind, ino) = reader.kind_and_ino(dentry.kind, dentry.ino, fallback);
    Ok(Dentry {
        ino,
        kind,
        ..dentry
    })
}

pub(in crate::meta) fn encode_listing(
    dentry: &Dentry,
    name: &[u8],
    fallback: Option<Fallback>,
) -> Vec<u8> {
    let ino = if dentry.cookie == dentry.ino.0 {
        0
    } else {
        dentry.ino.0
    };
    let out = Encoder::new(form_with(fallback))
        .byte(kind_byte(dentry.kind))
        .unsigned(ino);
    encode_fallback(out, fallback).bytes(name).finish()
}

/// A line of a listing as `reader` sees it.
pub(in crate::meta) fn decode_listing(
    cookie: u64,
    value: &[u8],
    reader: Reader,
) -> Result<DirEntry, MetaError> {
    let mut decoder = Decoder::new(value, "a listing entry");
    let has_fallback = decode_entry_form(&mut decoder)?;
    let kind = decode_kind(&mut decoder)?;
    let ino = decoder.unsigned()?;
    let ino = Ino(if ino == 0 { cookie } else { ino });
    let fallback = decode_fallback(&mut decoder, has_fallback)?;
    let (kind, ino) = reader.kind_and_ino(kind, ino, fallback);
    let name = Bytes::copy_from_slice(decoder.rest());
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(decoder.bad());
    }
    Ok(DirEntry {
        cookie,
        name,
        ino,
        kind,
    })
}

/// A name that has a fallback, recorded for the mount after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::meta) struct ReplacementRow {
    pub dir: Ino,
    pub name: Bytes,
    pub old: Fallback,
}

pub(in crate::meta) fn encode_replacement(dir: Ino, name: &[u8], old: Fallback) -> Vec<u8> {
    let out = Encoder::new(FORM).unsigned(dir.0);
    encode_fallback(out, Some(old)).bytes(name).finish()
}

pub(in crate::meta) fn decode_replacement(value: &[u8]) -> Result<ReplacementRow, MetaError> {
    let mut decoder = Decoder::new(value, "a replacement record");
    decoder.form(FORM)?;
    let dir = Ino(decoder.unsigned()?);
    let old = Fallback {
        kind: decode_kind(&mut decoder)?,
        ino: Ino(decoder.unsigned()?),
    };
    let name = Bytes::copy_from_slice(decoder.rest());
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(decoder.bad());
    }
    Ok(ReplacementRow { dir, name, old })
}
