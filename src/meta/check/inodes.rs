//! The tables that are keyed by an inode number, joined.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
};

use bytes::Bytes;

use super::{Collector, Counted, Fault, Halt, cursor::Cursor};
use crate::meta::{
    Dentry, FileKind, Ino, Inode, Meta, MetaError,
    names::rules::check_name,
    schema::{self, Fallback, Reader, Table},
    volume::Inner,
};

/// The tables, side by side.
struct Tables<'a> {
    inodes: Cursor<'a>,
    entries: Cursor<'a>,
    listing: Cursor<'a>,
    extents: Cursor<'a>,
    attributes: Cursor<'a>,
    orphans: Cursor<'a>,
}

impl<'a> Tables<'a> {
    async fn open(inner: &'a Inner) -> Result<Tables<'a>, MetaError> {
        Ok(Tables {
            inodes: Cursor::open(inner, Table::Inode.all()).await?,
            entries: Cursor::open(inner, Table::Dentry.all()).await?,
            listing: Cursor::open(inner, Table::Listing.all()).await?,
            extents: Cursor::open(inner, Table::Extent.all()).await?,
            attributes: Cursor::open(inner, Table::Xattr.all()).await?,
            orphans: Cursor::open(inner, Table::Orphan.all()).await?,
        })
    }

    /// The lowest inode number that any table goes on with.
    fn next(&self) -> Option<u64> {
        let heads = [
            self.inodes.number(),
            self.entries.number(),
            self.listing.number(),
            self.extents.number(),
            self.attributes.number(),
            self.orphans.number(),
        ];
        heads.into_iter().flatten().min()
    }
}

/// The state of the inode whose rows are being read.
enum Record {
    Missing,
    /// It is there but does not decode, so its other rows are no faults.
    Undecodable,
    Known(Box<Inode>),
}

impl Record {
    fn exists(&self) -> bool {
        !matches!(self, Record::Missing)
    }

    /// Whether rows that only inodes of `kind` have may belong to it.
    fn may_be(&self, kind: FileKind) -> bool {
        match self {
            Record::Missing => false,
            Record::Undecodable => true,
            Record::Known(inode) => inode.kind == kind,
        }
    }

    fn of_kind(&self, kind: FileKind) -> Option<&Inode> {
        match self {
            Record::Known(inode) if inode.kind == kind => Some(inode),
            _ => None,
        }
    }
}

/// An order-independent sum over the lines of a directory. The entries by name and those of the
/// listing give the same sum exactly when they are the same (but for 2^-64).
struct Lines {
    count: u64,
    sum: u64,
}

/// A line as both tables tell it: name, cookie, the inode that it names, the one that a follower
/// sees.
type Line<'a> = (&'a [u8], u64, (u64, FileKind), (u64, FileKind));

impl Lines {
    fn new() -> Lines {
        Lines { count: 0, sum: 0 }
    }

    fn add(&mut self, hasher: &RandomState, line: Line<'_>) {
        self.count += 1;
        let mut state = hasher.build_hasher();
        line.hash(&mut state);
        self.sum = self.sum.wrapping_add(std::hash::Hasher::finish(&state));
    }
}

/// The hash of a line of the listing, as [`Lines`] adds it up.
struct ListingRow {
    name: Bytes,
    named: (u64, FileKind),
    follower: (u64, FileKind),
}

fn decode_listing_row(cookie: u64, value: &[u8]) -> Result<ListingRow, MetaError> {
    let writer = schema::decode_listing(cookie, value, Reader::Writer)?;
    let follower = schema::decode_listing(cookie, value, Reader::Follower)?;
    Ok(ListingRow {
        name: writer.name,
        named: (writer.ino.0, writer.kind),
        follower: (follower.ino.0, follower.kind),
    })
}

fn line_of(name: &[u8], dentry: Dentry, fallback: Option<Fallback>) -> Line<'_> {
    let named = (dentry.ino.0, dentry.kind);
    let follower = fallback.map_or(named, |fallback| (fallback.ino.0, fallback.kind));
    (name, dentry.cookie, named, follower)
}

/// Sums over all inodes.
#[derive(Default)]
struct Sums {
    inodes: u64,
    bytes: u64,
    extents: u64,
    /// The highest inode number or cookie.
    id_max: u64,
    /// Records that do not decode were passed over, so the sums say nothing.
    is_short: bool,
}

impl Meta {
    pub(super) async fn check_inodes(&self, found: &mut Collector<'_>) -> Result<Counted, Halt> {
        let inner = &*self.inner;
        let hasher = RandomState::new();
        let mut tables = Tables::open(inner).await?;
        let mut sums = Sums::default();
        if tables
            .inodes
            .number()
            .is_none_or(|first| first > Ino::ROOT.0)
        {
            found.add(Fault::NoRoot)?;
        }
        while let Some(number) = tables.next() {
            self.check_inode(Ino(number), &mut tables, &hasher, &mut sums, found)
                .await?;
        }
        drop(tables);
        self.check_fallbacks(found).await?;
        let missing = || Halt::Failed(MetaError::Missing);
        let totals = inner.get(&Table::Totals.single()).await?;
        let totals = schema::decode_totals(&totals.ok_or_else(missing)?)?;
        if !sums.is_short && (totals.inodes, totals.bytes) != (sums.inodes, sums.bytes) {
            found.add(Fault::Totals {
                recorded: (totals.inodes, totals.bytes),
                found: (sums.inodes, sums.bytes),
            })?;
        }
        let counters = inner.get(&Table::Counters.single()).await?;
        let counters = schema::decode_counters(&counters.ok_or_else(missing)?)?;
        let sessions_end = self.check_sessions_end();
        if counters.ids_end <= sums.id_max || counters.next_session < sessions_end {
            found.add(Fault::Counters {
                ids_end: sums.id_max + 1,
                next_session: sessions_end,
            })?;
        }
        Ok(Counted {
            inodes: sums.inodes,
            extents: sums.extents,
            ..Counted::default()
        })
    }

    async fn check_inode(
        &self,
        ino: Ino,
        tables: &mut Tables<'_>,
        hasher: &RandomState,
        sums: &mut Sums,
        found: &mut Collector<'_>,
    ) -> Result<(), Halt> {
        let record = match tables.inodes.next_of(ino.0).await? {
            None => Record::Missing,
            Some((key, value)) => {
                sums.inodes += 1;
                match schema::ino_of_key(&key).and_then(|ino| schema::decode_inode(ino, &value)) {
                    Ok(inode) => Record::Known(Box::new(inode)),
                    Err(_) => {
                        sums.is_short = true;
                        found.add(Fault::Undecodable {
                            what: "an inode record",
                            key,
                            ino: Some(ino),
                        })?;
                        Record::Undecodable
                    }
                }
            }
        };
        if record.exists() {
            sums.id_max = sums.id_max.max(ino.0);
        }
        if ino == Ino::ROOT && !record.may_be(FileKind::Directory) && record.exists() {
            found.add(Fault::NoRoot)?;
        }
        self.check_directory(ino, &record, tables, hasher, sums, found)
            .await?;
        check_contents(ino, &record, &mut tables.extents, sums, found).await?;
        check_attributes(ino, &record, &mut tables.attributes, found).await?;
        while let Some((key, value)) = tables.orphans.next_of(ino.0).await? {
            if schema::decode_orphan(&value).is_err() || key.len() != 9 {
                found.add(Fault::Undecodable {
                    what: "an orphan record",
                    key,
                    ino: Some(ino),
                })?;
            } else if !record.exists() {
                found.add(Fault::Stray {
                    what: "an orphan record",
                    ino,
                    exists: false,
                })?;
            }
        }
        Ok(())
    }

    async fn check_directory(
        &self,
        ino: Ino,
        record: &Record,
        tables: &mut Tables<'_>,
        hasher: &RandomState,
        sums: &mut Sums,
        found: &mut Collector<'_>,
    ) -> Result<(), Halt> {
        let is_directory = record.may_be(FileKind::Directory);
        let (mut entries, mut listed) = (Lines::new(), Lines::new());
        let undecodable = |what, key| Fault::Undecodable {
            what,
            key,
            ino: record.exists().then_some(ino),
        };
        while let Some((key, value)) = tables.entries.next_of(ino.0).await? {
            let name = schema::name_of_key(&key)?;
            let Ok((dentry, fallback)) = schema::decode_dentry_row(&value) else {
                entries.count += 1;
                found.add(undecodable("a directory entry", key))?;
                continue;
            };
            sums.id_max = sums.id_max.max(dentry.cookie);
            entries.add(hasher, line_of(&name, dentry, fallback));
            if is_directory && check_name(&name).is_err() {
                found.add(Fault::BadName {
                    dir: ino,
                    name: name.clone(),
                })?;
            }
            if let Some(fallback) = fallback
                && !self
                    .fallback_is_listed(ino, &name, dentry, fallback)
                    .await?
            {
                found.add(Fault::Fallback { dir: ino, name })?;
            }
        }
        while let Some((key, value)) = tables.listing.next_of(ino.0).await? {
            let row = schema::second_of_key(&key)
                .and_then(|cookie| Ok((cookie, decode_listing_row(cookie, &value)?)));
            let Ok((cookie, row)) = row else {
                listed.count += 1;
                found.add(undecodable("a listing entry", key))?;
                continue;
            };
            sums.id_max = sums.id_max.max(cookie);
            listed.add(hasher, (&row.name, cookie, row.named, row.follower));
        }
        if !is_directory {
            if entries.count + listed.count > 0 {
                found.add(Fault::Stray {
                    what: "directory entries",
                    ino,
                    exists: record.exists(),
                })?;
            }
            return Ok(());
        }
        if (entries.count, entries.sum) != (listed.count, listed.sum) {
            self.compare_listing(ino, found).await?;
        }
        if let Some(inode) = record.of_kind(FileKind::Directory)
            && inode.entries != entries.count
        {
            found.add(Fault::Entries {
                dir: ino,
                recorded: inode.entries,
                found: entries.count,
            })?;
        }
        Ok(())
    }

    /// Finds the entries of one directory that differ from its listing, and the other way round.
    async fn compare_listing(&self, dir: Ino, found: &mut Collector<'_>) -> Result<(), Halt> {
        let inner = &*self.inner;
        let range = schema::dentry_key(dir, b"")..schema::dentry_key(Ino(dir.0 + 1), b"");
        let mut entries = Cursor::open(inner, range).await?;
        while let Some((key, value)) = entries.next().await? {
            let name = schema::name_of_key(&key)?;
            let Ok((dentry, fallback)) = schema::decode_dentry_row(&value) else {
                continue;
            };
            let stored = inner.get(&schema::listing_key(dir, dentry.cookie)).await?;
            if stored.as_deref() != Some(&*schema::encode_listing(&dentry, &name, fallback)) {
                found.add(Fault::Unlisted { dir, name })?;
            }
        }
        drop(entries);
        let mut listing = Cursor::open(inner, schema::listing_range(dir, 0)).await?;
        while let Some((key, value)) = listing.next().await? {
            let cookie = schema::second_of_key(&key)?;
            let Ok(row) = decode_listing_row(cookie, &value) else {
                continue;
            };
            let entry = inner.get(&schema::dentry_key(dir, &row.name)).await?;
            let entry = entry.map(|value| schema::decode_dentry_row(&value));
            let is_there = match &entry {
                Some(Ok((dentry, _))) => dentry.cookie == cookie,
                Some(Err(_)) => true,
                None => false,
            };
            if !is_there {
                found.add(Fault::ListedOnly {
                    dir,
                    cookie,
                    name: row.name,
                })?;
            }
        }
        Ok(())
    }

    async fn fallback_is_listed(
        &self,
        dir: Ino,
        name: &[u8],
        dentry: Dentry,
        fallback: Fallback,
    ) -> Result<bool, MetaError> {
        let key = schema::replacement_key(dentry.ino, dentry.cookie);
        let row = self.inner.get(&key).await?;
        let row = row.and_then(|value| schema::decode_replacement(&value).ok());
        let fits = row.is_some_and(|row| row.dir == dir && row.name == name && row.old == fallback);
        Ok(fits
            && self
                .inner
                .get(&schema::inode_key(fallback.ino))
                .await?
                .is_some())
    }

    /// Checks that each row of the list of fallbacks belongs to an entry.
    async fn check_fallbacks(&self, found: &mut Collector<'_>) -> Result<(), Halt> {
        let inner = &*self.inner;
        let mut rows = Cursor::open(inner, Table::Replacement.all()).await?;
        while let Some((key, value)) = rows.next().await? {
            let row = schema::replacement_of_key(&key)
                .and_then(|id| Ok((id, schema::decode_replacement(&value)?)));
            let Ok(((new, cookie), row)) = row else {
                found.add(Fault::Undecodable {
                    what: "a replacement record",
                    key,
                    ino: None,
                })?;
                continue;
            };
            let entry = inner.get(&schema::dentry_key(row.dir, &row.name)).await?;
            let entry = entry.and_then(|value| schema::decode_dentry_row(&value).ok());
            let expected = Dentry {
                ino: new,
                kind: FileKind::File,
                cookie,
            };
            if entry != Some((expected, Some(row.old))) {
                found.add(Fault::StrayFallback { key })?;
            }
        }
        Ok(())
    }
}

async fn check_contents(
    ino: Ino,
    record: &Record,
    extents: &mut Cursor<'_>,
    sums: &mut Sums,
    found: &mut Collector<'_>,
) -> Result<(), Halt> {
    let (mut bytes, mut covered_to, mut rows) = (0u64, 0u64, 0u64);
    while let Some((key, value)) = extents.next_of(ino.0).await? {
        rows += 1;
        let row = schema::second_of_key(&key)
            .and_then(|end| Ok((end, schema::decode_extent(end, &value)?)));
        let Ok((end, row)) = row else {
            found.add(Fault::Undecodable {
                what: "an extent",
                key,
                ino: Some(ino),
            })?;
            continue;
        };
        bytes = bytes.saturating_add(end - row.start);
        if row.start < covered_to {
            found.add(Fault::Overlap {
                ino,
                range: row.start..covered_to,
            })?;
        }
        covered_to = end;
    }
    sums.extents += rows;
    if rows > 0 && !record.may_be(FileKind::File) {
        found.add(Fault::Stray {
            what: "extents",
            ino,
            exists: record.exists(),
        })?;
    }
    let Some(inode) = record.of_kind(FileKind::File) else {
        return Ok(());
    };
    sums.bytes = sums.bytes.saturating_add(inode.allocated);
    if covered_to > inode.size {
        found.add(Fault::BeyondSize {
            ino,
            size: inode.size,
            end: covered_to,
        })?;
    }
    if bytes != inode.allocated {
        found.add(Fault::Allocated {
            ino,
            recorded: inode.allocated,
            found: bytes,
        })?;
    }
    Ok(())
}

async fn check_attributes(
    ino: Ino,
    record: &Record,
    attributes: &mut Cursor<'_>,
    found: &mut Collector<'_>,
) -> Result<(), Halt> {
    let mut rows = 0u64;
    while let Some((key, value)) = attributes.next_of(ino.0).await? {
        rows += 1;
        let name_len = key.len().saturating_sub(9);
        let decodes = schema::decode_xattr(&value).is_ok();
        if !decodes || name_len == 0 || name_len > crate::limits::NAME_LEN_MAX {
            found.add(Fault::Undecodable {
                what: "an extended attribute",
                key,
                ino: record.exists().then_some(ino),
            })?;
        }
    }
    match record {
        Record::Missing if rows > 0 => found.add(Fault::Stray {
            what: "extended attributes",
            ino,
            exists: false,
        }),
        Record::Known(inode) if inode.has_xattrs != (rows > 0) => found.add(Fault::Attributes {
            ino,
            found: rows > 0,
        }),
        _ => Ok(()),
    }
}
