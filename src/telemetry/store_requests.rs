//! Requests to the store, counted by operation and outcome, and how long they took.

use std::time::Duration;

use super::{Counter, Histogram, HistogramCounts};

/// The operations of S3 that are used, by the names that it gives them.
const OPERATIONS: [&str; 16] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "GetBucketLifecycleConfiguration",
    "GetBucketVersioning",
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListMultipartUploads",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "UploadPart",
];

/// How one attempt of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked for.
    Ok,
    /// There is no such object or upload.
    NotFound,
    /// The condition does not hold.
    Precondition,
    /// The store refuses: the key, its secret, its rights, the bucket.
    Denied,
    /// The store answers that it cannot just now, or its answer broke off.
    Unavailable,
    /// No answer came, or no connection.
    Unreachable,
    /// Another answer.
    Other,
    /// Nobody waited for the answer any longer.
    Cancelled,
}

impl Outcome {
    const ALL: [Outcome; 8] = [
        Outcome::Ok,
        Outcome::NotFound,
        Outcome::Precondition,
        Outcome::Denied,
        Outcome::Unavailable,
        Outcome::Unreachable,
        Outcome::Other,
        Outcome::Cancelled,
    ];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::NotFound => "not_found",
            Outcome::Precondition => "precondition",
            Outcome::Denied => "denied",
            Outcome::Unavailable => "unavailable",
            Outcome::Unreachable => "unreachable",
            Outcome::Other => "other",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// Attempts of requests to the store.
#[derive(Debug, Default)]
pub struct StoreRequests {
    operations: [Attempts; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Attempts {
    outcomes: [Counter; Outcome::ALL.len()],
    durations: Histogram,
}

impl StoreRequests {
    /// Counts an attempt of `operation` that took so long. One that was cancelled says nothing of
    /// how fast the store is, so its duration does not count.
    pub fn ended(&self, operation: &str, outcome: Outcome, took: Duration) {
        let index = OPERATIONS.binary_search(&operation);
        debug_assert!(index.is_ok(), "{operation} is not in the table");
        let attempts = index.ok().and_then(|index| self.operations.get(index));
        let Some(attempts) = attempts else { return };
        if let Some(counter) = attempts.outcomes.get(outcome as usize) {
            counter.increment();
        }
        if outcome != Outcome::Cancelled {
            attempts.durations.observe(took);
        }
    }

    /// For each operation and outcome, how often.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let operations = OPERATIONS.iter().zip(&self.operations);
        operations.flat_map(|(operation, attempts)| {
            let outcomes = Outcome::ALL.iter().zip(&attempts.outcomes);
            outcomes.map(|(outcome, counter)| (*operation, outcome.name(), counter.get()))
        })
    }

    /// How long the attempts of each operation took.
    pub fn durations(&self) -> impl Iterator<Item = (&'static str, HistogramCounts)> {
        let operations = OPERATIONS.iter().zip(&self.operations);
        operations.map(|(operation, attempts)| (*operation, attempts.durations.counts()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_and_outcome_has_a_counter_of_its_own() {
        assert!(OPERATIONS.is_sorted(), "it is searched by halves");
        let requests = StoreRequests::default();
        for (index, operation) in OPERATIONS.iter().enumerate() {
            for outcome in Outcome::ALL {
                for _ in 0..=index + outcome as usize {
                    requests.ended(operation, outcome, Duration::ZERO);
                }
            }
        }
        for (at, (operation, outcome, count)) in requests.outcomes().enumerate() {
            let (index, number) = (at / Outcome::ALL.len(), at % Outcome::ALL.len());
            assert_eq!(
                (operation, outcome),
                (OPERATIONS[index], Outcome::ALL[number].name())
            );
            assert_eq!(count, (index + number + 1) as u64);
        }
    }

    #[test]
    fn the_duration_of_a_cancelled_attempt_does_not_count() {
        let requests = StoreRequests::default();
        requests.ended("GetObject", Outcome::Ok, Duration::from_millis(3));
        requests.ended("GetObject", Outcome::Cancelled, Duration::from_secs(3));
        let counted: Vec<_> = requests
            .durations()
            .filter(|(_, counts)| counts.total() > 0)
            .collect();
        let [("GetObject", counts)] = counted[..] else {
            panic!("{counted:?}");
        };
        assert_eq!(
            (counts.total(), counts.sum()),
            (1, Duration::from_millis(3))
        );
    }
}
