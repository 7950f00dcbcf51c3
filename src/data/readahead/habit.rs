//! How far files are read: whoever read the last ones to their end will read the next one to its
//! end.
//!
//! A reader that is not known yet gets little ahead, lest it stops: 20 ms away a file of 16 MiB
//! then takes some fifteen round trips. But backups are checked and restored, and trees are copied,
//! file after file from beginning to end. Files that are read so in a row count as one long
//! reading, which may have a quarter of what it has read ahead of it, also where the next file
//! begins. One handle that stopped before ends the habit.

use parking_lot::Mutex;

/// So many handles in a row make a habit.
const IN_A_ROW: u32 = 3;

/// The first window of the next file has a quarter of the bytes of the row, within these bounds. So
/// much is moved too much by a handle that stops at once, and by each that was opened before that
/// one was closed.
const ROW_SHARE: u64 = 4;
pub(crate) const EXPECTED_MIN: u64 = 4 << 20;
const EXPECTED_MAX: u64 = 32 << 20;

/// The habit of all who read from this mount.
#[derive(Default)]
pub(crate) struct Habit {
    row: Mutex<Row>,
}

/// The last handles in a row that were read to their end.
#[derive(Default)]
struct Row {
    handles: u32,
    bytes: u64,
}

impl Habit {
    /// A handle is closed on a file that was read to the end, of so many bytes, or not.
    pub(crate) fn note(&self, to_the_end: Option<u64>) {
        let mut row = self.row.lock();
        match to_the_end {
            Some(bytes) => {
                row.handles = row.handles.saturating_add(1);
                row.bytes = row.bytes.saturating_add(bytes);
            }
            None => *row = Row::default(),
        }
    }

    /// If the next file will be read to its end: how much of it to bring with its first read.
    pub(crate) fn expected_bytes(&self) -> Option<u64> {
        let row = self.row.lock();
        let expected = (row.bytes / ROW_SHARE).clamp(EXPECTED_MIN, EXPECTED_MAX);
        (row.handles >= IN_A_ROW).then_some(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_in_a_row_make_a_habit_and_one_that_stops_ends_it() {
        let habit = Habit::default();
        for _ in 0..IN_A_ROW {
            assert_eq!(habit.expected_bytes(), None);
            habit.note(Some(1 << 20));
        }
        assert_eq!(habit.expected_bytes(), Some(EXPECTED_MIN));
        habit.note(None);
        assert_eq!(habit.expected_bytes(), None);
    }

    #[test]
    fn a_quarter_of_what_the_row_has_read_is_expected_up_to_a_bound() {
        let habit = Habit::default();
        for _ in 0..IN_A_ROW {
            habit.note(Some(16 << 20));
        }
        assert_eq!(habit.expected_bytes(), Some(12 << 20));
        habit.note(Some(1 << 40));
        assert_eq!(habit.expected_bytes(), Some(EXPECTED_MAX));
        habit.note(None);
        (0..IN_A_ROW).for_each(|_| habit.note(Some(16 << 20)));
        assert_eq!(habit.expected_bytes(), Some(12 << 20), "a new row");
    }
}
