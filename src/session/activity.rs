//! The answer to `strongroom top`: the report, and what a live view needs besides.
//!
//! All figures only grow; the viewer compares two answers. As in the report, fields are added and
//! never renamed. Paths are among them: the socket is its user's alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::status::StatusReport;
use crate::{
    fs::Fs,
    telemetry::{HistogramCounts, Metrics, shown},
};

/// A longer path is cut.
const PATH_CHARS_MAX: usize = 512;

/// Files that are told of.
const FILES_MAX: usize = 32;

/// Everything that `strongroom top` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// The report.
    pub status: StatusReport,
    /// The upper bounds of the buckets in microseconds; the last bucket, which has none, is not
    /// among them. Empty if the mount is of a version that tells only its report.
    #[serde(default)]
    pub bounds_us: Vec<u64>,
    /// Requests of the kernel, by kind; kinds of which there were none are left out.
    #[serde(default)]
    pub kernel: BTreeMap<String, Timed>,
    /// Attempts of requests to the store, by operation; likewise.
    #[serde(default)]
    pub store: BTreeMap<String, Timed>,
    /// Attempts that did not succeed, by outcome.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// Open files that most was moved of.
    #[serde(default)]
    pub files: Vec<FileActivity>,
}

/// Requests of one kind since the mount began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Those that have begun; of the store those that have ended.
    pub begun: u64,
    /// Those that were answered, by how long that took.
    pub buckets: Vec<u64>,
}

impl Timed {
    /// Those that were answered.
    pub fn answered(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn new(begun: u64, counts: &HistogramCounts) -> Timed {
        Timed {
            begun,
            buckets: counts.buckets_alone().to_vec(),
        }
    }
}

/// An open file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileActivity {
    /// The inode.
    pub ino: u64,
    /// Its path from the mount's root, as far as it is known.
    pub path: String,
    /// Handles.
    pub handles: u32,
    /// Bytes read through them.
    pub read_bytes: u64,
    /// Bytes written through them.
    pub written_bytes: u64,
}

/// Everything, measured now.
pub(super) fn measure(status: StatusReport, metrics: &Metrics, fs: &Fs) -> Activity {
    let (requests, kernel) = (&metrics.store_requests, &metrics.kernel_requests);
    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for (operation, outcome, count) in requests.outcomes().filter(|(.., count)| *count > 0) {
        *ended.entry(operation).or_default() += count;
        if outcome != "ok" {
            *failures.entry(outcome.to_owned()).or_default() += count;
        }
    }
    // Answers are counted before beginnings are, so that none has more of the former.
    let answered: Vec<_> = kernel.durations().collect();
    let kinds = kernel.by_kind().zip(answered);
    let kinds = kinds.filter(|((_, begun), _)| *begun > 0);
    let kinds = kinds.map(|((kind, begun), (_, counts))| {
        // A request without an answer does not wait for one.
        let begun = if kind == "forget" {
            counts.total()
        } else {
            begun
        };
        (kind.to_owned(), Timed::new(begun, &counts))
    });
    let operations = requests.durations().filter_map(|(operation, counts)| {
        let ended = ended.get(operation)?;
        Some((operation.to_owned(), Timed::new(*ended, &counts)))
    });
    Activity {
        status,
        bounds_us: HistogramCounts::BOUNDS_US.to_vec(),
        kernel: kinds.collect(),
        store: operations.collect(),
        failures,
        files: files(fs),
    }
}

fn files(fs: &Fs) -> Vec<FileActivity> {
    let mut files = fs.busiest();
    files.sort_by_key(|file| std::cmp::Reverse(file.read_bytes + file.written_bytes));
    files.truncate(FILES_MAX);
    let told = files.into_iter().map(|file| FileActivity {
        ino: file.ino.0,
        path: shown(&fs.known_path(file.ino), PATH_CHARS_MAX),
        handles: file.handles,
        read_bytes: file.read_bytes,
        written_bytes: file.written_bytes,
    });
    told.collect()
}
