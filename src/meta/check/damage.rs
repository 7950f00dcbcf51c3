//! The files that damaged objects hurt.

use std::{collections::BTreeMap, ops::Range};

use super::{cursor::Cursor, objects::ino_of};
use crate::meta::{
    Extent, ExtentSource, Ino, Meta, MetaError, ObjectId,
    schema::{self, ObjectKey, RowSource, Table},
};

/// Ranges of one file that are returned at a time.
const RANGES_MAX: usize = 1024;

/// An object that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The object.
    pub object: ObjectId,
    /// The reason.
    pub why: String,
    /// Ranges of plaintext that cannot be read, in order. None if all of it can be read all the
    /// same.
    pub bad: Vec<Range<u64>>,
}

/// A file with bytes in a damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hurt {
    /// The file.
    pub ino: Ino,
    /// Ranges of it that cannot be read, in order; none if it can be read all the same.
    pub ranges: Vec<Range<u64>>,
    /// There are more ranges than these.
    pub has_more: bool,
    /// The first object at fault.
    pub object: ObjectId,
}

impl Hurt {
    /// The part of `extent` (a range of the file whose bytes begin at `at` in the object) that
    /// `damaged` takes away.
    fn add(&mut self, extent: Range<u64>, at: u64, damaged: &Damaged) {
        for bad in &damaged.bad {
            let len = extent.end - extent.start;
            let (from, to) = (bad.start.max(at), bad.end.min(at.saturating_add(len)));
            if from >= to {
                continue;
            }
            let range = extent.start + (from - at)..extent.start + (to - at);
            let is_full = self.ranges.len() >= RANGES_MAX;
            match self.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ if is_full => self.has_more = true,
                _ => self.ranges.push(range),
            }
        }
    }
}

impl Meta {
    /// The files with bytes in any of `damaged`, in the order of their numbers, after `after`; at
    /// most `max`. If an object has unreadable ranges, only the files that need those are returned.
    /// Goes through all extents once.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn hurt_by(
        &self,
        damaged: &[Damaged],
        after: Option<Ino>,
        max: usize,
    ) -> Result<Vec<Hurt>, MetaError> {
        let by_key = self.by_key(damaged).await?;
        let mut hurt: Vec<Hurt> = Vec::new();
        let first = after.map_or(0, |after| after.0 + 1);
        let range = schema::extent_key(Ino(first), 0)..Table::Extent.all().end;
        let mut rows = Cursor::open(&self.inner, range).await?;
        while let Some((key, value)) = rows.next().await? {
            let ino = Ino(ino_of(&key));
            let Some((end, row)) = decode(&key, &value) else {
                continue;
            };
            let RowSource::Object { object, at } = row.source else {
                continue;
            };
            let Some(damaged) = by_key.get(&object) else {
                continue;
            };
            let mut one = Hurt {
                ino,
                ranges: Vec::new(),
                has_more: false,
                object: damaged.object,
            };
            match hurt.last_mut() {
                Some(last) if last.ino == ino => last.add(row.start..end, at, damaged),
                _ => {
                    one.add(row.start..end, at, damaged);
                    if one.ranges.is_empty() && !damaged.bad.is_empty() {
                        continue;
                    }
                    if hurt.len() >= max {
                        break;
                    }
                    hurt.push(one);
                }
            }
        }
        Ok(hurt)
    }

    /// The extents that name any of `damaged`, after (`ino`, `end`) of the last one that was
    /// given; at most `max`.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn extents_in(
        &self,
        damaged: &[Damaged],
        after: Option<(Ino, u64)>,
        max: usize,
    ) -> Result<Vec<(Ino, Extent)>, MetaError> {
        let by_key = self.by_key(damaged).await?;
        let mut from = Table::Extent.single();
        if let Some((ino, end)) = after {
            from = schema::extent_key(ino, end);
            from.push(0);
        }
        let mut rows = Cursor::open(&self.inner, from..Table::Extent.all().end).await?;
        let mut extents = Vec::new();
        while extents.len() < max {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let Some((end, row)) = decode(&key, &value) else {
                continue;
            };
            if let RowSource::Object { object, at } = row.source
                && let Some(damaged) = by_key.get(&object)
            {
                let extent = Extent {
                    offset: row.start,
                    len: end - row.start,
                    source: ExtentSource::Object {
                        object: damaged.object,
                        at,
                    },
                };
                extents.push((Ino(ino_of(&key)), extent));
            }
        }
        Ok(extents)
    }

    async fn by_key<'a>(
        &self,
        damaged: &'a [Damaged],
    ) -> Result<BTreeMap<ObjectKey, &'a Damaged>, MetaError> {
        let mut by_key = BTreeMap::new();
        for damaged in damaged {
            if let Some(key) = self.object_key(damaged.object).await? {
                by_key.insert(key, damaged);
            }
        }
        Ok(by_key)
    }
}

fn decode(key: &[u8], value: &[u8]) -> Option<(u64, schema::ExtentRow)> {
    let end = schema::second_of_key(key).ok()?;
    Some((end, schema::decode_extent(end, value).ok()?))
}
