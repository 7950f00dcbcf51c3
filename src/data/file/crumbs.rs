//! Crumbs: dirty pieces much smaller than a page. Where there are many, the part of the file around
//! them is written whole (`write_back/sweep.rs`).

use std::ops::Range;

use bytes::Bytes;

use super::{content::Content, leave::Collected, overlay::Overlay};
use crate::meta::REGION_LEN;

/// A hole of less than this between pieces is written as zeros, as a local disk would allocate it.
pub(crate) const HOLE_MIN: u64 = 4096;

/// Separate runs of dirty bytes in one region beyond which it is written whole: pages that are
/// written at random are at most every second one of the sixteen in it.
const RUNS_MAX: usize = 8;

/// A file with so many separate dirty runs that are smaller than pages on average is in crumbs.
const CRUMBS_MIN: usize = 64;

/// A part of the file that is sealed next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Pieces that begin before this belong to it.
    pub(crate) until: u64,
    /// The bytes between them in this range are written along.
    pub(crate) whole: Option<Range<u64>>,
}

impl Overlay {
    /// Are there many tiny pieces?
    pub(crate) fn is_in_crumbs(&self) -> bool {
        let (mut runs, mut bytes) = (0, 0);
        for run in self.dirty_runs(0) {
            runs += 1;
            bytes += run.end - run.start;
            if runs >= CRUMBS_MIN && bytes >= self.dirty_bytes() / 2 {
                break;
            }
        }
        runs >= CRUMBS_MIN && bytes < runs as u64 * HOLE_MIN
    }

    /// The stretch to seal from `from` on: neighbouring regions that are to be written whole, at
    /// most `whole_max` bytes of them (at least one); or else everything before the next such
    /// region, until it comes to `dirty_max` bytes.
    pub(crate) fn stretch(&self, from: u64, whole_max: u64, dirty_max: u64) -> Option<Stretch> {
        let mut runs = self.dirty_runs(from).peekable();
        let mut whole: Option<Range<u64>> = None;
        let (mut plain, mut dirty_bytes) = (None, 0);
        while let Some(first) = runs.next() {
            let region = first.start / REGION_LEN * REGION_LEN;
            let region = region.max(from)..region + REGION_LEN;
            let (mut count, mut end) = (1, first.end);
            dirty_bytes += first.end - first.start;
            while let Some(run) = runs.next_if(|run| run.start < region.end) {
                (count, end) = (count + 1, run.end);
                dirty_bytes += run.end - run.start;
            }
            match (count > RUNS_MAX, &mut whole) {
                (true, None) if plain.is_some() => {
                    return Some(Stretch {
                        until: region.start,
                        whole: None,
                    });
                }
                (true, None) => whole = Some(region),
                (true, Some(whole))
                    if whole.end == region.start && region.end - whole.start <= whole_max =>
                {
                    whole.end = region.end;
                }
                (_, Some(_)) => break,
                (false, None) => plain = Some(end),
            }
            if plain.is_some() && dirty_bytes >= dirty_max {
                break;
            }
        }
        let until = whole.as_ref().map(|whole| whole.end).or(plain)?;
        Some(Stretch { until, whole })
    }
}

impl Content {
    /// Where nothing uncommitted lies in `range`, and something committed may.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let end = range.end.min(self.visible_size());
        if range.start >= end {
            return Vec::new();
        }
        let views = self.overlay.view(range.start..end).into_iter();
        views
            .filter(|view| view.piece.is_none())
            .map(|view| view.range)
            .collect()
    }

    /// Collects what begins in `from..until`, and merges `filler` with it, where nothing was
    /// written since it was read and no dirty piece before it is left.
    pub(crate) fn collect_with(
        &self,
        filler: &[(u64, Bytes)],
        from: u64,
        until: u64,
        limit_bytes: u64,
    ) -> (Collected, Vec<(u64, Bytes)>) {
        let collected = self.collect_until(from, until, limit_bytes);
        let mut pieces = collected.pieces.clone();
        let collected_to = pieces
            .last()
            .map_or(from, |(at, bytes)| at + bytes.len() as u64);
        let left = self.overlay.first_dirty(collected_to..until);
        for (offset, bytes) in filler {
            let end = offset + bytes.len() as u64;
            if left.is_some_and(|left| left < end) {
                break;
            }
            for view in self.overlay.view(*offset..end) {
                if view.piece.is_none() {
                    let within = (view.range.start - offset) as usize;
                    let len = (view.range.end - view.range.start) as usize;
                    pieces.push((view.range.start, bytes.slice(within..within + len)));
                }
            }
        }
        pieces.sort_unstable_by_key(|(offset, _)| *offset);
        (collected, pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(pieces: &[(u64, u64)]) -> Overlay {
        let mut overlay = Overlay::default();
        for (offset, len) in pieces {
            overlay.write(*offset, vec![1; *len as usize].into());
        }
        overlay
    }

    fn crumbs(from: u64, step: u64) -> Vec<(u64, u64)> {
        (0..REGION_LEN / step)
            .map(|number| (from + number * step, 100))
            .collect()
    }

    #[test]
    fn regions_with_many_runs_are_whole_and_go_together() {
        let mut pieces = crumbs(REGION_LEN, 1000);
        pieces.extend(crumbs(2 * REGION_LEN, 5000));
        pieces.push((REGION_LEN - 300, 100));
        pieces.push((9 * REGION_LEN, 100));
        let overlay = overlay(&pieces);
        let plain = |until| Some(Stretch { until, whole: None });
        let whole = |regions: Range<u64>| {
            let range = regions.start * REGION_LEN..regions.end * REGION_LEN;
            Some(Stretch {
                until: range.end,
                whole: Some(range),
            })
        };
        assert_eq!(overlay.stretch(0, 1 << 20, 1 << 20), plain(REGION_LEN));
        assert_eq!(overlay.stretch(REGION_LEN, 1 << 20, 1 << 20), whole(1..3));
        assert_eq!(overlay.stretch(REGION_LEN, 100, 1 << 20), whole(1..2));
        let last = plain(9 * REGION_LEN + 100);
        assert_eq!(overlay.stretch(3 * REGION_LEN, 1 << 20, 1 << 20), last);
        assert_eq!(overlay.stretch(10 * REGION_LEN, 1 << 20, 1 << 20), None);
    }

    #[test]
    fn pages_are_no_crumbs_and_adjoining_writes_are_one_run() {
        let pages: Vec<(u64, u64)> = (0..64).map(|page| (page * 8192, 4096)).collect();
        let paged = overlay(&pages);
        assert!(!paged.is_in_crumbs());
        let stretch = paged.stretch(0, 1 << 20, 1 << 20);
        assert!(stretch.is_some_and(|stretch| stretch.whole.is_none()));
        let lines: Vec<(u64, u64)> = (0..1000).map(|line| (line * 50, 50)).collect();
        let appended = overlay(&lines);
        assert!(!appended.is_in_crumbs());
        let stretch = appended.stretch(0, 1 << 20, 1 << 20);
        assert!(stretch.is_some_and(|stretch| stretch.whole.is_none()));
        assert!(overlay(&crumbs(0, 500)).is_in_crumbs());
    }
}
