//! Whether the reads of a handle are dense: whether they find their bytes on this machine already.

use std::sync::atomic::{AtomicU64, Ordering};

/// One read counts for so many of the last; the share is in 2^16ths.
const REMEMBERED: u64 = 32;
const WHOLE: u64 = 1 << 16;

/// Reads are dense while more than this share of them finds its bytes here.
const DENSE: u64 = WHOLE / 4;

/// The share of the last small reads of a handle that found their bytes on this machine.
#[derive(Default)]
pub struct Density(AtomicU64);

impl Density {
    /// Counts a small read; whether they are dense now.
    pub fn note(&self, was_here: bool) -> bool {
        // Two reads at once may count as one.
        let before = self.0.load(Ordering::Relaxed);
        let found = if was_here { WHOLE } else { 0 };
        let now = (before * (REMEMBERED - 1) + found) / REMEMBERED;
        self.0.store(now, Ordering::Relaxed);
        now > DENSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_dense_once_a_quarter_of_them_finds_its_bytes_here() {
        let density = Density::default();
        assert!((0..1000).all(|_| !density.note(false)), "lone reads");
        assert!(
            (0..1000).all(|turn| !density.note(turn % 8 == 0)),
            "an eighth"
        );
        let until = (0..1000).position(|turn| density.note(turn % 2 == 0));
        assert!(until.is_some_and(|until| until < 40), "{until:?}");
        let until = (0..1000).position(|_| !density.note(false));
        assert!(until.is_some_and(|until| until < 40), "{until:?}");
    }
}
