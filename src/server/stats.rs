//! Counters: requests by operation, bytes, connections; and the record of one request.
//!
//! Every counter is an atomic, so counting never waits. The counters are exact once the connections
//! that did the work are idle.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::config::RequestLog;

/// The operations that are counted by name; anything else counts as `Other`.
const OPERATIONS: [&str; 21] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteBucket",
    "DeleteObject",
    "DeleteObjects",
    "GetBucketLocation",
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "UploadPart",
    "UploadPartCopy",
    // Refused before the operation was known: bad signature, unknown access key, malformed.
    "Rejected",
    "Other",
];

/// The name that an operation is counted by.
pub(super) fn known_operation(name: &str) -> &'static str {
    OPERATIONS
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("Other")
}

/// The counters of one server.
#[derive(Default)]
pub(super) struct Stats {
    requests: [AtomicU64; OPERATIONS.len()],
    errors: [AtomicU64; OPERATIONS.len()],
    by_status: Mutex<BTreeMap<u16, u64>>,
    pub(super) body_bytes_in: AtomicU64,
    pub(super) body_bytes_out: AtomicU64,
    pub(super) socket_bytes_read: AtomicU64,
    pub(super) socket_bytes_written: AtomicU64,
    pub(super) connections_accepted: AtomicU64,
    pub(super) connections_open: AtomicI64,
    pub(super) tls_handshakes: AtomicU64,
    pub(super) requests_aborted: AtomicU64,
    pub(super) requests_in_flight: AtomicI64,
}

/// A moment's counters, as `GET /stats` sends them. Bytes are bytes, the rest are counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsSnapshot {
    /// Requests by S3 operation (`GetObject`, ...); `Rejected` did not get as far as an operation.
    /// An operation that was never asked for is absent.
    pub requests: BTreeMap<String, u64>,
    /// Requests answered with a status of 400 or more, by operation.
    pub errors: BTreeMap<String, u64>,
    /// Answers by HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Payload of PutObject and UploadPart received, without framing.
    pub body_bytes_in: u64,
    /// Bytes of answers' bodies handed to connections, whether or not they reached the client.
    pub body_bytes_out: u64,
    /// Bytes read from the S3 port's sockets, HTTP and TLS included.
    pub socket_bytes_read: u64,
    /// Bytes the kernel accepted for the S3 port's sockets, HTTP and TLS included.
    pub socket_bytes_written: u64,
    /// TCP connections accepted on the S3 port.
    pub connections_accepted: u64,
    /// Of these, those open now.
    pub connections_open: i64,
    /// TLS handshakes completed.
    pub tls_handshakes: u64,
    /// Requests whose connection ended before their answer did.
    pub requests_aborted: u64,
    /// Requests being handled now.
    pub requests_in_flight: i64,
}

impl StatsSnapshot {
    /// Requests of one operation.
    #[must_use]
    pub fn count(&self, operation: &str) -> u64 {
        self.requests.get(operation).copied().unwrap_or(0)
    }

    /// Requests of all operations.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.requests.values().sum()
    }
}

impl Stats {
    pub(super) fn snapshot(&self) -> StatsSnapshot {
        let named = |counters: &[AtomicU64]| {
            OPERATIONS
                .iter()
                .zip(counters)
                .map(|(name, counter)| ((*name).to_owned(), counter.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count != 0)
                .collect()
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            requests: named(&self.requests),
            errors: named(&self.errors),
            by_status: self.by_status.lock().clone(),
            body_bytes_in: load(&self.body_bytes_in),
            body_bytes_out: load(&self.body_bytes_out),
            socket_bytes_read: load(&self.socket_bytes_read),
            socket_bytes_written: load(&self.socket_bytes_written),
            connections_accepted: load(&self.connections_accepted),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            tls_handshakes: load(&self.tls_handshakes),
            requests_aborted: load(&self.requests_aborted),
            requests_in_flight: self.requests_in_flight.load(Ordering::Relaxed),
        }
    }

    /// Sets all counts to zero; gauges (open connections, requests in flight) stay.
    pub(super) fn reset(&self) {
        for counter in self.requests.iter().chain(&self.errors).chain([
            &self.body_bytes_in,
            &self.body_bytes_out,
            &self.socket_bytes_read,
            &self.socket_bytes_written,
            &self.connections_accepted,
            &self.tls_handshakes,
            &self.requests_aborted,
        ]) {
            counter.store(0, Ordering::Relaxed);
        }
        self.by_status.lock().clear();
    }

    fn count(counters: &[AtomicU64; OPERATIONS.len()], operation: &str) {
        let index = OPERATIONS
            .iter()
            .position(|name| *name == operation)
            .unwrap_or(OPERATIONS.len() - 1);
        if let Some(counter) = counters.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request whose operation is now known.
    pub(super) fn started(&self, operation: &str) {
        Self::count(&self.requests, operation);
    }

    /// Counts the answer's status.
    pub(super) fn answered(&self, operation: &str, status: u16) {
        *self.by_status.lock().entry(status).or_default() += 1;
        if status >= 400 {
            Self::count(&self.errors, operation);
        }
    }
}

/// Where a cut connection is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Once so many bytes of the request's body were read.
    Request(u64),
    /// After the request took effect, before the first byte of the answer.
    BeforeAnswer,
    /// Within the answer's body; the number chooses where.
    Answer(u64),
    /// After so many bytes of the answer's body nothing more comes. The connection stays.
    Stop(u64),
}

/// One request from its head to the end of its answer.
pub(super) struct Record {
    started: Instant,
    /// `METHOD /path`, and the range asked for.
    path: String,
    range: Option<String>,
    operation: OnceLock<&'static str>,
    status: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    finished: AtomicBool,
    cut: OnceLock<Cut>,
}

impl Record {
    pub(super) fn new(path: &str, range: Option<&str>) -> Self {
        Self {
            started: Instant::now(),
            path: path.to_owned(),
            range: range.map(str::to_owned),
            operation: OnceLock::new(),
            status: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            cut: OnceLock::new(),
        }
    }

    pub(super) fn operation(&self) -> &'static str {
        self.operation.get().copied().unwrap_or("Rejected")
    }

    /// Remembers the operation; the first call counts.
    pub(super) fn set_operation(&self, name: &'static str) {
        // A second call would be a second judgement of the same request, which there is not.
        let _first = self.operation.set(name);
    }

    pub(super) fn set_status(&self, status: u16) {
        self.status.store(u64::from(status), Ordering::Relaxed);
    }

    pub(super) fn add_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_cut(&self, cut: Cut) {
        let _first = self.cut.set(cut);
    }

    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    /// The answer was sent to its end.
    pub(super) fn set_finished(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    fn line(&self) -> String {
        let status = match (self.is_finished(), self.status.load(Ordering::Relaxed)) {
            (true, status) => status.to_string(),
            (false, 0) => "aborted".to_owned(),
            (false, status) => format!("{status}/aborted"),
        };
        format!(
            "{} {} {} {} {} {} {:.2}\n",
            self.operation(),
            self.path,
            self.range.as_deref().unwrap_or("-"),
            status,
            self.bytes_in.load(Ordering::Relaxed),
            self.bytes_out.load(Ordering::Relaxed),
            self.started.elapsed().as_secs_f64() * 1000.0,
        )
    }
}

/// The request log, opened.
pub(super) enum LogSink {
    Off,
    Stderr,
    File(Mutex<std::fs::File>),
}

impl LogSink {
    pub(super) fn open(log: &RequestLog) -> std::io::Result<Self> {
        Ok(match log {
            RequestLog::Off => Self::Off,
            RequestLog::Stderr => Self::Stderr,
            RequestLog::File(path) => Self::File(Mutex::new(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)?,
            )),
        })
    }

    /// Writes the line of a request that has ended. A log that can't be written loses lines, not
    /// requests.
    pub(super) fn write(&self, record: &Record) {
        let _lost = match self {
            Self::Off => Ok(()),
            Self::Stderr => std::io::stderr().lock().write_all(record.line().as_bytes()),
            Self::File(file) => file.lock().write_all(record.line().as_bytes()),
        };
    }
}
