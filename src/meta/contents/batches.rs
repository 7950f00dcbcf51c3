//! A change of contents, in one batch or several. It holds the ledger of the objects and the batch
//! under construction, and moves the window on a file's extents into both.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{ledger::Ledger, window::Window};
use crate::meta::{
    Inode, Meta, MetaError, NewObject,
    database::backing::Scan,
    schema::{self, ObjectKey},
    state::{change::Change, locks::Held},
};

/// Rows that a window loads at once.
pub(in crate::meta) const WINDOW_ROWS: usize = 2048;

/// A change of contents that may take several batches, each consistent in itself.
pub(in crate::meta) struct Batches<'a> {
    meta: &'a Meta,
    held: Held,
    pub change: Change,
    pub ledger: Ledger,
    /// Objects that may not have a record yet.
    pub new: BTreeMap<ObjectKey, NewObject>,
}

impl<'a> Batches<'a> {
    /// A change under the locks `held`; nothing is in it yet.
    pub fn new(meta: &'a Meta, held: Held) -> Batches<'a> {
        Batches {
            meta,
            held,
            change: Change::default(),
            ledger: Ledger::default(),
            new: BTreeMap::new(),
        }
    }

    /// Writes the batch so far. The reclaim lock is held from reading object records until they are
    /// written.
    pub async fn write(&mut self, last: bool) -> Result<(), MetaError> {
        let held = self.held.clone().and(self.meta.inner.locks.reclaim().await);
        let (mut change, ledger) = (
            std::mem::take(&mut self.change),
            std::mem::take(&mut self.ledger),
        );
        self.meta
            .settle(ledger, &mut self.new, last, &mut change)
            .await?;
        self.meta.commit(change, held).await
    }

    /// Adds to the batch the differences of the window, and the inode as it is with them.
    pub fn emit(&mut self, window: &mut Window, inode: &mut Inode) {
        inode.allocated = inode.allocated.saturating_add_signed(window.allocated);
        self.change.count_allocated(window.allocated);
        self.meta.inner.crowded.lock().note(window.count());
        window.emit(&mut self.change);
        self.change.put_inode(&Arc::new(inode.clone()));
    }

    /// Loads the stored extents that touch `range` into the window. Returns how far it got: to the
    /// end of the range, or to the end of the last row that there was room for. Rows that the batch
    /// under construction cuts off at `stored_end` are loaded as they will be.
    pub async fn load(
        &self,
        window: &mut Window,
        range: Range<u64>,
        stored_end: u64,
    ) -> Result<u64, MetaError> {
        // An extent that ends where the range begins is loaded too, because the bytes that are put
        // there may continue it.
        let mut rows = self
            .meta
            .inner
            .scan(schema::extent_range(window.ino(), range.start), Scan::Near)
            .await?;
        let mut last_end = range.start + 1;
        for _ in 0..WINDOW_ROWS {
            let Some((key, value)) = rows.next().await? else {
                return Ok(range.end);
            };
            let stored = schema::second_of_key(&key)?;
            let mut row = schema::decode_extent(stored, &value)?;
            let end = stored.min(stored_end);
            let is_beyond = row.start > range.end || row.start >= stored_end;
            if !is_beyond {
                if end < stored {
                    row = row.part(stored, row.start, end);
                }
                window.load(end, row);
            }
            if is_beyond || end >= range.end {
                // The row after one that ends exactly there may continue it, which is not worth
                // another row read.
                return Ok(range.end);
            }
            last_end = end.max(last_end);
        }
        Ok(last_end)
    }

    /// Takes all extents from `size` on away, from the back. It goes into the batch under way if
    /// there is room in it, else into several, of which all but the last are written. The inode's
    /// size follows.
    pub async fn cut(&mut self, mut inode: Inode, size: u64) -> Result<Inode, MetaError> {
        let mut range = schema::extent_range(inode.ino, size + 1);
        loop {
            let mut window = Window::new(inode.ino);
            let mut rows = self.meta.inner.scan(range.clone(), Scan::Backward).await?;
            let mut lowest = None;
            for _ in 0..WINDOW_ROWS {
                let Some((key, value)) = rows.next().await? else {
                    lowest = None;
                    break;
                };
                let end = schema::second_of_key(&key)?;
                let row = schema::decode_extent(end, &value)?;
                lowest = Some((row.start, key));
                window.load(end, row);
            }
            let from = lowest
                .as_ref()
                .map_or(size, |(lowest, _)| (*lowest).max(size));
            window.clear(from, u64::MAX - 1, &mut self.ledger);
            inode.size = from;
            self.emit(&mut window, &mut inode);
            match lowest {
                // Rows that were cleared stay in the database until the batch is written, so the
                // next scan ends before them.
                Some((_, key)) if from > size => range.end = key.to_vec(),
                _ => {
                    inode.size = size;
                    return Ok(inode);
                }
            }
            if self.change.is_full() {
                self.write(false).await?;
            }
        }
    }

    /// Settles the rest of the ledger, and hands the last batch over unwritten, with the locks that
    /// it was settled under.
    pub async fn into_change(mut self) -> Result<(Change, Held), MetaError> {
        let held = self.held.and(self.meta.inner.locks.reclaim().await);
        self.meta
            .settle(self.ledger, &mut self.new, true, &mut self.change)
            .await?;
        Ok((self.change, held))
    }
}
