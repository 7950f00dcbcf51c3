//! One file's extents while an operation changes them: a window of the stored rows, edited in
//! memory, whose differences become the batch.
//!
//! Promises: extents in a window never overlap; bytes that lose their extent are counted exactly
//! once; runs that continue each other in one object become one row. Never: reads or writes the
//! database itself.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;

use super::ledger::Ledger;
use crate::meta::{
    Ino,
    schema::{self, ExtentRow, RowSource},
    state::{change::Change, crowding::Count},
};

/// A window on a file's extents, by their ends.
pub(in crate::meta) struct Window {
    ino: Ino,
    /// As stored.
    stored: BTreeMap<u64, ExtentRow>,
    /// As they will be stored.
    edited: BTreeMap<u64, ExtentRow>,
    /// Bytes of extents, gained minus lost.
    pub allocated: i64,
}

impl Window {
    pub fn new(ino: Ino) -> Window {
        Window {
            ino,
            stored: BTreeMap::new(),
            edited: BTreeMap::new(),
            allocated: 0,
        }
    }

    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Adds a row that was read. A row that the window has already stays as it is in the window.
    pub fn load(&mut self, end: u64, row: ExtentRow) {
        if let Entry::Vacant(entry) = self.stored.entry(end) {
            entry.insert(row.clone());
            self.edited.insert(end, row);
        }
    }

    /// Counts the edited extents by region.
    pub fn count(&self) -> Count {
        let mut count = Count::of(self.ino);
        for row in self.edited.values() {
            count.extent_from(row.start);
        }
        count
    }

    /// Rows that the window holds.
    pub fn len(&self) -> usize {
        self.stored.len() + self.edited.len()
    }

    /// Takes `from..to` away from the extents that cover it.
    pub fn clear(&mut self, from: u64, to: u64, ledger: &mut Ledger) {
        if from >= to {
            return;
        }
        let hit: Vec<u64> = self
            .edited
            .range(from + 1..)
            .take_while(|(_, row)| row.start < to)
            .map(|(end, _)| *end)
            .collect();
        for end in hit {
            let Some(row) = self.edited.remove(&end) else {
                continue;
            };
            let (cut_from, cut_to) = (row.start.max(from), end.min(to));
            self.allocated -= (cut_to - cut_from) as i64;
            ledger.free(&row.source, cut_to - cut_from);
            if row.start < cut_from {
                self.edited
                    .insert(cut_from, row.part(end, row.start, cut_from));
            }
            if cut_to < end {
                self.edited.insert(end, row.part(end, cut_to, end));
            }
        }
    }

    /// Puts `from..to` in place of the extents there.
    pub fn put(&mut self, from: u64, to: u64, source: RowSource, ledger: &mut Ledger) {
        self.clear(from, to, ledger);
        ledger.name(self.ino, &source, to - from);
        self.allocated += (to - from) as i64;
        let (mut end, mut row) = (
            to,
            ExtentRow {
                start: from,
                source,
            },
        );
        if let Some(before) = self.edited.get(&from)
            && before.continues_into(from, &row)
            && let Some(before) = self.edited.remove(&from)
        {
            row = before;
        }
        let after = self
            .edited
            .range(to + 1..)
            .next()
            .filter(|(_, next)| next.start == to)
            .map(|(end, _)| *end);
        if let Some(after) = after
            && self
                .edited
                .get(&after)
                .is_some_and(|next| row.continues_into(end, next))
        {
            self.edited.remove(&after);
            end = after;
        }
        self.edited.insert(end, row);
    }

    /// Writes the differences and begins anew. The last row stays, so that what follows can
    /// continue it.
    pub fn emit(&mut self, change: &mut Change) {
        for end in self
            .stored
            .keys()
            .filter(|end| !self.edited.contains_key(end))
        {
            change.delete(schema::extent_key(self.ino, *end));
        }
        for (end, row) in &self.edited {
            if self.stored.get(end) != Some(row) {
                change.put_extent(self.ino, *end, row);
            }
        }
        self.stored = std::mem::take(&mut self.edited)
            .into_iter()
            .next_back()
            .into_iter()
            .collect();
        self.edited = self.stored.clone();
        self.allocated = 0;
    }
}

impl ExtentRow {
    /// The part `from..to` of a row that ends at `end`.
    pub fn part(&self, end: u64, from: u64, to: u64) -> ExtentRow {
        let source = match &self.source {
            RowSource::Object { object, at } => RowSource::Object {
                object: *object,
                at: at + (from - self.start),
            },
            RowSource::Inline(bytes) => {
                let whole = bytes.len() as u64;
                debug_assert_eq!(whole, end - self.start);
                // Both are within the row's bytes, which are at most a few KiB.
                let (skip, keep) = ((from - self.start) as usize, (to - from) as usize);
                RowSource::Inline(Bytes::copy_from_slice(
                    bytes.get(skip..skip + keep).unwrap_or_default(),
                ))
            }
        };
        ExtentRow {
            start: from,
            source,
        }
    }

    /// Whether `next` begins where this row ends, in the file and in the same object.
    fn continues_into(&self, end: u64, next: &ExtentRow) -> bool {
        match (&self.source, &next.source) {
            (
                RowSource::Object { object, at },
                RowSource::Object {
                    object: next_object,
                    at: next_at,
                },
            ) => object == next_object && at + (end - self.start) == *next_at && next.start == end,
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
