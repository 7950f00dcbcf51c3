//! Rates and latencies, computed from two answers of a mount. No I/O, and no clock.

use std::{collections::BTreeMap, time::Duration};

use crate::session::activity::{Activity, FileActivity, Timed};

/// The changes between two answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bytes a second that programs read.
    pub read: f64,
    /// Bytes a second that programs wrote.
    pub written: f64,
    /// Bytes a second from the store.
    pub received: f64,
    /// Bytes a second to the store.
    pub sent: f64,
    /// Requests of the kernel, the most frequent first.
    pub kernel: Vec<OperationRate>,
    /// Requests to the store, likewise.
    pub store: Vec<OperationRate>,
    /// Events a second: requests sent again, requests that failed for good, errors to programs.
    pub retries: f64,
    pub store_errors: f64,
    pub fuse_errors: f64,
    /// The share of frames that were found in memory; `None` if none was asked for.
    pub memory_cache: Option<f64>,
    /// The same of the cache on the local disk.
    pub disk_cache: Option<f64>,
    /// Open files, in the order of the answer.
    pub files: Vec<FileRate>,
}

/// One kind of request.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRate {
    pub name: String,
    /// Answers a second.
    pub per_second: f64,
    /// Half are faster; `None` if there was no answer.
    pub p50: Option<Duration>,
    /// One in a hundred is slower.
    pub p99: Option<Duration>,
}

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRate {
    pub file: FileActivity,
    /// Bytes a second that programs read.
    pub read: f64,
    /// Bytes a second that programs wrote.
    pub written: f64,
}

impl Rates {
    /// The rates of the time from `before` to `now`, which took `elapsed`; `None` if they are of
    /// two mounts, or no time has passed.
    pub fn between(before: &Activity, now: &Activity, elapsed: Duration) -> Option<Rates> {
        let seconds = elapsed.as_secs_f64();
        let mount = |activity: &Activity| {
            let mount = &activity.status.mount;
            (mount.pid, mount.since_unix_seconds)
        };
        if mount(before) != mount(now) || seconds <= 0.0 {
            return None;
        }
        let grown = |name: &str| {
            let of = |activity: &Activity| activity.status.counters.get(name).copied();
            since(of(before), of(now))
        };
        let rate = |name: &str| grown(name) as f64 / seconds;
        let disk = |activity: &Activity| activity.status.disk_cache.clone().unwrap_or_default();
        let (disk_before, disk_now) = (disk(before), disk(now));
        let operations =
            |before: &BTreeMap<String, Timed>, now: &BTreeMap<String, Timed>, bounds: &[u64]| {
                let rates = now.iter().map(|(name, timed)| {
                    OperationRate::between(name, before.get(name), timed, bounds, seconds)
                });
                let mut rates: Vec<OperationRate> = rates.collect();
                rates.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
                rates
            };
        let bounds = now.bounds_us.as_slice();
        Some(Rates {
            read: rate("fuse_read_bytes"),
            written: rate("fuse_written_bytes"),
            received: rate("received_bytes"),
            sent: rate("sent_bytes"),
            kernel: operations(&before.kernel, &now.kernel, bounds),
            store: operations(&before.store, &now.store, bounds),
            retries: rate("retries"),
            store_errors: rate("store_errors"),
            fuse_errors: rate("fuse_errors"),
            memory_cache: share(grown("cache_hits"), grown("cache_misses")),
            disk_cache: share(
                disk_now.hits.saturating_sub(disk_before.hits),
                disk_now.misses.saturating_sub(disk_before.misses),
            ),
            files: now
                .files
                .iter()
                .map(|file| FileRate::between(&before.files, file, seconds))
                .collect(),
        })
    }
}

impl OperationRate {
    fn between(
        name: &str,
        before: Option<&Timed>,
        now: &Timed,
        bounds: &[u64],
        seconds: f64,
    ) -> OperationRate {
        let old = |index: usize| before.and_then(|timed| timed.buckets.get(index)).copied();
        let buckets = now.buckets.iter().enumerate();
        let buckets: Vec<u64> = buckets
            .map(|(index, count)| since(old(index), Some(*count)))
            .collect();
        OperationRate {
            name: name.to_owned(),
            per_second: buckets.iter().sum::<u64>() as f64 / seconds,
            p50: quantile(&buckets, bounds, 0.5),
            p99: quantile(&buckets, bounds, 0.99),
        }
    }
}

impl FileRate {
    /// A file that was not there before counts as opened just now, unless it was crowded out.
    fn between(before: &[FileActivity], now: &FileActivity, seconds: f64) -> FileRate {
        let old = before.iter().find(|file| file.ino == now.ino);
        let rate =
            |of: fn(&FileActivity) -> u64| since(old.map(of), Some(of(now))) as f64 / seconds;
        FileRate {
            file: now.clone(),
            read: rate(|file| file.read_bytes),
            written: rate(|file| file.written_bytes),
        }
    }

    /// Both together.
    pub fn moved(&self) -> f64 {
        self.read + self.written
    }
}

/// The growth of a counter; one that has shrunk has begun anew.
fn since(before: Option<u64>, now: Option<u64>) -> u64 {
    now.unwrap_or(0).saturating_sub(before.unwrap_or(0))
}

fn share(hits: u64, misses: u64) -> Option<f64> {
    let all = hits + misses;
    (all > 0).then(|| hits as f64 / all as f64)
}

/// The duration that this share of all does not exceed, as Prometheus estimates it: along a
/// straight line through the bucket that it falls into. What is in the last bucket, which has no
/// end, took at least as long as its beginning.
fn quantile(buckets: &[u64], bounds_us: &[u64], share: f64) -> Option<Duration> {
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = share * total as f64;
    let mut below = 0;
    for (index, count) in buckets.iter().enumerate() {
        let upto = below + count;
        if *count > 0 && upto as f64 >= wanted {
            let bound = |index: usize| bounds_us.get(index).map(|us| *us as f64);
            let from = index.checked_sub(1).and_then(bound).unwrap_or(0.0);
            let to = bound(index).unwrap_or(from);
            let us = from + (to - from) * (wanted - below as f64) / *count as f64;
            return Some(Duration::from_micros(us as u64));
        }
        below = upto;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn activity(counters: &[(&str, u64)]) -> Activity {
        let mut activity = Activity {
            bounds_us: vec![100, 1_000, 10_000],
            ..Activity::default()
        };
        for (name, count) in counters {
            activity.status.counters.insert((*name).to_owned(), *count);
        }
        activity
    }

    fn timed(buckets: [u64; 4]) -> Timed {
        Timed {
            begun: buckets.iter().sum(),
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn rates_are_what_was_added_by_the_time_that_it_took() {
        let before = activity(&[
            ("fuse_read_bytes", 1_000),
            ("retries", 5),
            ("cache_hits", 10),
        ]);
        let now = activity(&[
            ("fuse_read_bytes", 5_000),
            ("sent_bytes", 300),
            ("retries", 5),
            ("cache_hits", 13),
            ("cache_misses", 1),
        ]);
        let rates = Rates::between(&before, &now, 2 * SECOND).expect("rates");
        assert_eq!(
            (rates.read, rates.sent, rates.retries),
            (2_000.0, 150.0, 0.0)
        );
        assert_eq!((rates.memory_cache, rates.disk_cache), (Some(0.75), None));
    }

    #[test]
    fn latencies_are_those_of_the_interval_and_not_of_all_time() {
        let (mut before, mut now) = (activity(&[]), activity(&[]));
        before
            .kernel
            .insert("read".to_owned(), timed([0, 0, 500, 0]));
        now.kernel
            .insert("read".to_owned(), timed([100, 0, 500, 0]));
        now.kernel.insert("write".to_owned(), timed([0, 98, 0, 2]));
        let rates = Rates::between(&before, &now, SECOND).expect("rates");
        let us = |us| Some(Duration::from_micros(us));
        let [read, write] = &rates.kernel[..] else {
            panic!("{rates:?}");
        };
        assert_eq!((read.name.as_str(), read.per_second), ("read", 100.0));
        assert_eq!((read.p50, read.p99), (us(50), us(99)));
        assert_eq!(
            (write.per_second, write.p50),
            (100.0, us(100 + 900 * 50 / 98))
        );
        assert_eq!(write.p99, us(10_000), "the last bucket has no end");
        let idle = Rates::between(&now, &now, SECOND).expect("rates");
        assert!(idle.kernel.iter().all(|rate| rate.p99.is_none()));
    }

    #[test]
    fn two_mounts_have_no_rates_and_a_counter_that_shrank_has_none() {
        let before = activity(&[("sent_bytes", 10)]);
        let mut other = activity(&[("sent_bytes", 20)]);
        other.status.mount.pid = 7;
        assert_eq!(Rates::between(&before, &other, SECOND), None);
        assert_eq!(Rates::between(&before, &before, Duration::ZERO), None);
        let shrunk = activity(&[("sent_bytes", 3)]);
        let rates = Rates::between(&before, &shrunk, SECOND).expect("rates");
        assert_eq!(rates.sent, 0.0);
    }

    #[test]
    fn a_file_is_known_again_by_its_inode() {
        let file = |ino, read_bytes| FileActivity {
            ino,
            read_bytes,
            ..FileActivity::default()
        };
        let (mut before, mut now) = (activity(&[]), activity(&[]));
        before.files = vec![file(1, 100), file(2, 50)];
        now.files = vec![file(2, 90), file(3, 8), file(1, 60)];
        let rates = Rates::between(&before, &now, SECOND).expect("rates");
        let moved: Vec<_> = rates.files.iter().map(FileRate::moved).collect();
        assert_eq!(moved, [40.0, 8.0, 0.0]);
    }
}
