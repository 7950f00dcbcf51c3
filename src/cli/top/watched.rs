//! One mount as it is being watched: its last answer, the rates up to it, and their past.

use std::{collections::VecDeque, time::Instant};

use super::rates::{FileRate, Rates};
use crate::session::activity::Activity;

/// Answers that sparklines remember: more than any terminal is wide.
const PAST_MAX: usize = 300;

/// The order of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Read and written.
    #[default]
    Moved,
    Read,
    Written,
    Path,
}

impl Sort {
    /// The next one, in a circle.
    pub fn next(self) -> Sort {
        match self {
            Sort::Moved => Sort::Read,
            Sort::Read => Sort::Written,
            Sort::Written => Sort::Path,
            Sort::Path => Sort::Moved,
        }
    }

    /// As the heading has it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Moved => "bytes moved",
            Sort::Read => "bytes read",
            Sort::Written => "bytes written",
            Sort::Path => "path",
        }
    }

    /// The files of the last interval in this order; where rates are equal, what was moved in all
    /// decides.
    pub fn files(self, rates: &Rates) -> Vec<&FileRate> {
        let mut files: Vec<&FileRate> = rates.files.iter().collect();
        let key = |file: &FileRate| match self {
            Sort::Moved => (file.moved(), file.file.read_bytes + file.file.written_bytes),
            Sort::Read => (file.read, file.file.read_bytes),
            Sort::Written => (file.written, file.file.written_bytes),
            Sort::Path => (0.0, 0),
        };
        files.sort_by(|a, b| {
            let ((a_rate, a_all), (b_rate, b_all)) = (key(a), key(b));
            let by_rate = b_rate.total_cmp(&a_rate);
            let by_key = by_rate.then(b_all.cmp(&a_all));
            by_key.then_with(|| a.file.path.cmp(&b.file.path))
        });
        files
    }
}

/// Figures over time, the newest first, as sparklines want them.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub read: VecDeque<u64>,
    pub written: VecDeque<u64>,
    pub received: VecDeque<u64>,
    pub sent: VecDeque<u64>,
    pub dirty: VecDeque<u64>,
}

impl Past {
    fn add(&mut self, rates: &Rates, dirty_bytes: u64) {
        for (past, value) in [
            (&mut self.read, rates.read as u64),
            (&mut self.written, rates.written as u64),
            (&mut self.received, rates.received as u64),
            (&mut self.sent, rates.sent as u64),
            (&mut self.dirty, dirty_bytes),
        ] {
            past.truncate(PAST_MAX - 1);
            past.push_front(value);
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The last answer, and when it came.
    pub last: Option<(Instant, Activity)>,
    /// The changes between the last two answers; zeros before there are two.
    pub rates: Rates,
    pub past: Past,
    /// The mount does not answer at present.
    pub problem: Option<String>,
    /// How the mount ended, once it has.
    pub ended: Option<String>,
}

impl Watched {
    /// Takes in an answer that came at `at`.
    pub fn answered(&mut self, at: Instant, activity: Activity) {
        self.problem = None;
        if let Some((before, last)) = &self.last {
            let elapsed = at.saturating_duration_since(*before);
            match Rates::between(last, &activity, elapsed) {
                Some(rates) => {
                    self.past
                        .add(&rates, activity.status.durability.dirty_bytes);
                    self.rates = rates;
                }
                None => (self.rates, self.past) = Default::default(),
            }
        }
        self.last = Some((at, activity));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::activity::FileActivity;

    #[test]
    fn the_order_of_files_goes_round() {
        let file = |path: &str, read, written| FileRate {
            file: FileActivity {
                path: path.to_owned(),
                ..FileActivity::default()
            },
            read,
            written,
        };
        let rates = Rates {
            files: vec![
                file("b", 5.0, 1.0),
                file("a", 0.0, 7.0),
                file("c", 3.0, 0.0),
            ],
            ..Rates::default()
        };
        let mut sort = Sort::default();
        for order in ["abc", "bca", "abc", "abc"] {
            let files = sort.files(&rates);
            let paths: String = files.iter().map(|file| file.file.path.as_str()).collect();
            assert_eq!(paths, order, "{sort:?}");
            sort = sort.next();
        }
        assert_eq!(sort, Sort::default());
    }

    #[test]
    fn the_past_is_bounded_and_that_of_another_mount_is_forgotten() {
        let mut watched = Watched::default();
        let began = Instant::now();
        let mut activity = Activity::default();
        for second in 0..PAST_MAX as u64 + 20 {
            let counters = &mut activity.status.counters;
            counters.insert("sent_bytes".to_owned(), second * second);
            watched.answered(began + Duration::from_secs(second), activity.clone());
        }
        assert_eq!(watched.past.sent.len(), PAST_MAX);
        assert!(
            watched.past.sent[0] > watched.past.sent[1],
            "the newest first"
        );
        activity.status.mount.pid = 7;
        watched.answered(began + Duration::from_secs(1000), activity);
        assert!(watched.past.sent.is_empty() && watched.rates == Rates::default());
    }
}
