//! The clock on the wall: the one place that reads it for times that are stored or compared with
//! stored ones. Spans of time are measured with `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 (may be negative) and nanoseconds 0..1e9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, always counted forward from `seconds`.
    pub nanos: u32,
}

impl Timestamp {
    /// The present time of this machine's clock. A clock before 1970 is a broken one: 1970 serves
    /// as well.
    pub fn now() -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }
}

/// The present time in seconds since 1970.
pub fn unix_seconds() -> i64 {
    Timestamp::now().seconds
}
