//! Truncations and holes in contents that are not committed.

use std::ops::Range;

use super::content::Content;

impl Content {
    /// Sets the size. Committed extents that are cut off go with the next write-back.
    pub(crate) fn truncate(&mut self, size: u64) {
        let mut cuts = size < self.visible_size();
        let mut is_less = false;
        self.overlay.cut(size..u64::MAX);
        for entry in &mut self.in_flight {
            entry.runs.cut(size..u64::MAX);
            // Nothing is left of the bytes that were to replace the contents which it cuts off.
            // Those contents stay until newer bytes replace them.
            let is_void = entry.cut.take_if(|cut| size <= *cut).is_some();
            cuts |= is_void;
            is_less |= is_void || size < entry.size;
            entry.size = entry.size.min(size);
            if is_less {
                // Those who wait for these bytes, or for later ones, wait for the bytes that
                // replace them.
                entry.covers = None;
            }
        }
        if cuts {
            self.cut = Some(size);
        }
        self.size = size;
    }

    /// Removes `range` from everything that is not committed; the caller punches the committed
    /// extents.
    pub(crate) fn punch(&mut self, range: Range<u64>) {
        self.overlay.cut(range.clone());
        for entry in &mut self.in_flight {
            entry.runs.cut(range.clone());
        }
    }
}
