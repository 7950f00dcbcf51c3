//! Sweeps over a file's dirty bytes, whole or in slices.

use std::time::Instant;

use super::content::{Content, SweepUnderWay};

impl Content {
    /// A sweep that began at `began` ended at `swept_to`. If nothing is dirty behind that, what is
    /// dirty now was written meanwhile; else some of it may be older, and stays due.
    pub(crate) fn note_sweep(&mut self, began: Instant, swept_to: u64) {
        self.sweep = None;
        if self.is_clean_from(swept_to) {
            self.dirty_since = self.dirty_since.map(|_| began);
            self.writes.begin_span();
        }
    }

    fn is_clean_from(&self, offset: u64) -> bool {
        self.overlay.dirty_pieces(offset..u64::MAX, 1).is_empty()
    }

    /// Where the next slice of the sweep over the file begins; the sweep begins anew where it has
    /// nothing left.
    pub(crate) fn next_slice(&mut self, now: Instant) -> u64 {
        match self.sweep {
            Some(sweep) if !self.is_clean_from(sweep.to) => sweep.to,
            _ => {
                self.sweep = Some(SweepUnderWay { began: now, to: 0 });
                0
            }
        }
    }

    /// The slice that [`Content::next_slice`] began went up to `to`.
    pub(crate) fn slice_ended(&mut self, to: u64) {
        let Some(sweep) = &mut self.sweep else { return };
        sweep.to = to;
        let began = sweep.began;
        if self.is_clean_from(to) {
            self.note_sweep(began, to);
        }
    }
}
