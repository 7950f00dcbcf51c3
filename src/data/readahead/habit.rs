//! How far files are read: whoever read the last ones to their end will read the next one to its
//! end.
//!
//! A reader that is not known yet gets little ahead, lest it stops: 20 ms away a file of 16 MiB
//! then takes some fifteen round trips. But backups are checked and restored, and trees are copied,
//! file after file from beginning to end. One handle that stopped before ends the habit.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many handles in a row make a habit.
const IN_A_ROW: u32 = 3;

/// The habit of all who read from this mount.
#[derive(Default)]
pub(crate) struct Habit {
    to_the_end: AtomicU32,
}

impl Habit {
    /// A handle is closed that was read to the end, or not.
    pub(crate) fn note(&self, to_the_end: bool) {
        let count = |row: u32| Some(if to_the_end { row.saturating_add(1) } else { 0 });
        // It never declines.
        let _ = self
            .to_the_end
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Will the next file be read to its end?
    pub(crate) fn is_to_read_to_the_end(&self) -> bool {
        self.to_the_end.load(Ordering::Relaxed) >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_in_a_row_make_a_habit_and_one_that_stops_ends_it() {
        let habit = Habit::default();
        for _ in 0..IN_A_ROW {
            assert!(!habit.is_to_read_to_the_end());
            habit.note(true);
        }
        assert!(habit.is_to_read_to_the_end());
        habit.note(false);
        assert!(!habit.is_to_read_to_the_end());
    }
}
