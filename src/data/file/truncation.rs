//! Truncations and holes in contents that are not committed.

use std::ops::Range;

use super::content::Content;

impl Content {
    /// Sets the size. What is cut off in the store goes with the next take.
    pub(crate) fn truncate(&mut self, size: u64) {
        let mut cuts = size < self.visible_size();
        let mut is_less = false;
        self.overlay.cut(size..u64::MAX);
        for entry in &mut self.in_flight {
            entry.runs.cut(size..u64::MAX);
            // Nothing is left of what was to replace the contents that it cuts off: they stay until
            // what comes now does.
            let is_void = entry.cut.take_if(|cut| size <= *cut).is_some();
            cuts |= is_void;
            is_less |= is_void || size < entry.size;
            entry.size = entry.size.min(size);
            if is_less {
                // Whoever waits for what it took, or for what came after, waits for what replaces
                // that.
                entry.covers = None;
            }
        }
        if cuts {
            self.cut = Some(size);
        }
        self.size = size;
    }

    /// Takes `range` out of everything that is not committed; the caller punches what is.
    pub(crate) fn punch(&mut self, range: Range<u64>) {
        self.overlay.cut(range.clone());
        for entry in &mut self.in_flight {
            entry.runs.cut(range.clone());
        }
    }
}
