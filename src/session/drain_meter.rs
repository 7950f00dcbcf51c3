//! How far a drain is: of the bytes that were dirty when it began, those that went out.
//!
//! Dirty bytes alone go down only when an object is whole and committed, which is once in many
//! seconds for a large file on a slow link. So the bytes that requests have sent are counted too.
//! These can be some more than the dirty bytes, since the metadata goes out as well.
//!
//! Promises: what was sent never goes down, and is never more than the total.

use parking_lot::Mutex;

use super::control::Sent;

/// Measures one drain.
#[derive(Debug, Default)]
pub(super) struct DrainMeter(Mutex<Option<Measured>>);

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Bytes that all requests had sent when the drain began.
    passed_before: u64,
    seen: Sent,
}

impl DrainMeter {
    /// Takes the present figures: bytes that are not committed, and bytes that requests have sent
    /// since the process began. The first look begins the drain.
    pub fn look(&self, dirty_bytes: u64, passed_bytes: u64) -> Sent {
        let mut measured = self.0.lock();
        let measured = measured.get_or_insert(Measured {
            passed_before: passed_bytes,
            seen: Sent {
                sent_bytes: 0,
                total_bytes: dirty_bytes,
            },
        });
        let passed = passed_bytes.saturating_sub(measured.passed_before);
        let seen = &mut measured.seen;
        seen.total_bytes = seen.total_bytes.max(dirty_bytes);
        let committed = seen.total_bytes - dirty_bytes;
        let sent = committed.max(passed.min(seen.total_bytes));
        seen.sent_bytes = seen.sent_bytes.max(sent);
        *seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_rises_with_requests_and_commits_and_ends_at_the_total() {
        let meter = DrainMeter::default();
        let look = |dirty, passed| {
            let Sent {
                sent_bytes,
                total_bytes,
            } = meter.look(dirty, passed);
            (sent_bytes, total_bytes)
        };
        assert_eq!(look(100, 7000), (0, 100));
        assert_eq!(look(100, 7030), (30, 100), "before anything is committed");
        assert_eq!(look(20, 7040), (80, 100), "sent before the drain began");
        assert_eq!(look(60, 7050), (80, 100), "never down");
        assert_eq!(look(0, 7500), (100, 100), "never beyond the end");
    }
}
