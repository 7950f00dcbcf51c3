//! Values on the command line: sizes, durations, levels of the log.

use std::time::Duration;

use crate::{
    session::{MemorySize, slot_notes::LABEL_CHARS_MAX},
    store::RATE_MIN,
    telemetry::log,
};

/// Parses a size in bytes: a whole number with an optional unit. `K`, `M`, `G`, `T` and `KiB`,
/// `MiB`, ... are powers of 1024; `kB`, `MB`, `GB`, `TB` powers of 1000. Case does not matter but
/// for `KB`, which counts as `kB`.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a size such as 512MiB"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        other => return Err(format!("'{other}' is not a unit; use KiB, MiB, GiB or TiB")),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("'{text}' is too large"))
}

/// Parses bytes a second: a size, which `/s` may follow.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.trim();
    let rate = parse_size(size.strip_suffix("/s").unwrap_or(size))?;
    match rate >= RATE_MIN {
        true => Ok(rate),
        false => Err(format!("'{text}' is less than 16KiB a second")),
    }
}

/// Parses `--memory`: a size, or a percentage such as `50%`.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_memory(text: &str) -> Result<MemorySize, String> {
    let Some(number) = text.trim().strip_suffix('%') else {
        return parse_size(text).map(MemorySize::Bytes);
    };
    match number.trim().parse() {
        Ok(percent @ 1..=100) => Ok(MemorySize::Percent(percent)),
        _ => Err(format!("'{text}' is not a percentage from 1% to 100%")),
    }
}

/// Parses a duration: a whole number with `ms`, `s`, `m` or `h`; seconds without a unit.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a duration such as 30s"))?;
    let milliseconds = match unit.trim() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        other => return Err(format!("'{other}' is not a unit; use ms, s, m or h")),
    };
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is too long"))
}

/// The shortest and the longest time between two looks of a follower. Each look is a request; and
/// the state that a follower reads may be as old as the time between two of them, which has to be
/// well below the time that a deleted object stays (two minutes).
const FOLLOW_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30);

/// Parses how often a follower looks: a duration from 100ms to 30s.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_follow_every(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    match FOLLOW_EVERY.contains(&every) {
        true => Ok(every),
        false => Err(format!("'{text}' is not between 100ms and 30s")),
    }
}

/// Parses the label of a key slot.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_label(text: &str) -> Result<String, String> {
    if text.chars().count() > LABEL_CHARS_MAX {
        return Err(format!("a label has at most {LABEL_CHARS_MAX} characters"));
    }
    match text.chars().any(char::is_control) {
        true => Err("a label is one line of text".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Parses how much is logged.
///
/// # Errors
/// One line that names the values.
pub fn parse_log_level(text: &str) -> Result<String, String> {
    log::check(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_a_second_and_not_tiny() {
        assert_eq!(parse_rate("5MiB"), Ok(5 << 20));
        assert_eq!(parse_rate(" 5MB/s"), Ok(5_000_000));
        assert_eq!(parse_rate("16KiB"), Ok(RATE_MIN));
        for text in ["0", "16383", "fast", "5Mbit", "/s", ""] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("512m"), Ok(512 << 20));
        assert_eq!(parse_size("2 GB"), Ok(2_000_000_000));
        assert_eq!(parse_size("7"), Ok(7));
        assert!(parse_size("lots").is_err());
        assert!(parse_size("5 parsecs").is_err());
        assert!(parse_size("99999999999999TiB").is_err());
        assert!(parse_size("-1").is_err());
    }

    #[test]
    fn memory_is_a_size_or_a_percentage() {
        assert_eq!(parse_memory("256MiB"), Ok(MemorySize::Bytes(256 << 20)));
        assert_eq!(parse_memory("50%"), Ok(MemorySize::Percent(50)));
        for text in ["0%", "101%", "%", "-1%", "lots"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_know_milliseconds_to_hours() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("3 fortnights").is_err());
    }

    #[test]
    fn a_follower_looks_neither_all_the_time_nor_hardly_ever() {
        assert_eq!(parse_follow_every("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_follow_every("100ms").is_ok() && parse_follow_every("30s").is_ok());
        for text in ["0", "99ms", "31s", "1h", "often"] {
            assert!(parse_follow_every(text).is_err(), "{text}");
        }
    }
}
