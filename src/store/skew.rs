//! Clocks that differ: stores refuse requests that were signed at a time other than theirs, and not
//! all of them say that this is why.

use aws_smithy_types::date_time::{DateTime, Format};

/// A smaller difference is no reason to refuse: S3 allows 15 minutes, some stores 5.
pub const SKEW_SECONDS_MIN: u64 = 5 * 60;

/// The seconds since 1970 of a date as HTTP writes it.
pub(super) fn seconds(date: &str) -> Option<i64> {
    let date = DateTime::from_str(date, Format::HttpDate).ok()?;
    Some(date.secs())
}

/// The difference between this machine's clock and the `Date` of an answer, in words; `None` if it
/// is too small to matter, or unknown.
pub(super) fn skew(date: Option<&str>, now_unix_seconds: i64) -> Option<String> {
    let theirs = seconds(date?)?;
    let seconds = now_unix_seconds.abs_diff(theirs);
    let minutes = (seconds + 30) / 60;
    let side = match now_unix_seconds < theirs {
        true => "behind",
        false => "ahead of",
    };
    (seconds >= SKEW_SECONDS_MIN)
        .then(|| format!("this machine's clock is {minutes} minutes {side} that of the store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_five_minutes_is_told_and_a_smaller_one_is_not() {
        let date = Some("Thu, 01 Jan 1970 01:00:00 GMT");
        for now in [3600, 3600 - 299, 3600 + 299] {
            assert_eq!(skew(date, now), None, "{now}");
        }
        assert_eq!(skew(None, 0), None);
        assert_eq!(skew(Some("yesterday"), 0), None);
        let behind = skew(date, 3600 - 17 * 60).unwrap();
        assert!(behind.contains("is 17 minutes behind"), "{behind}");
        let ahead = skew(date, 3600 + 301).unwrap();
        assert!(ahead.contains("is 5 minutes ahead of"), "{ahead}");
    }
}
