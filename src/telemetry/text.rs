//! Text from outside, made fit for a terminal and a log.
//!
//! The store, the header of a volume, another host and another process may send any text.
//! Characters that a terminal would obey, and those that would make text look like other text, are
//! shown escaped.

use std::borrow::Cow;

/// `text` as one line of printable characters, cut after `chars_max` of them. Line breaks and tabs
/// become spaces, other control characters and those that change the direction of text or cannot
/// be seen become `\u{...}`.
pub fn shown(text: &str, chars_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(chars_max));
    for (count, character) in text.chars().enumerate() {
        if count == chars_max {
            line.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            _ if is_unprintable(character) => line.extend(character.escape_unicode()),
            _ => line.push(character),
        }
    }
    line
}

/// JSON text with the same characters escaped as JSON does it. They can only stand in its strings.
pub fn shown_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !is_unprintable(character) {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// A log record treated as by [`shown`], uncut, except for the line break at its end.
pub(super) fn record(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (text, end) = match bytes.strip_suffix(b"\n") {
        Some(text) => (text, "\n"),
        None => (bytes, ""),
    };
    if text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Cow::Borrowed(bytes);
    }
    let mut line = shown(&String::from_utf8_lossy(text), usize::MAX);
    line.push_str(end);
    Cow::Owned(line.into_bytes())
}

/// Control characters (C0, DEL, C1), and the format characters of Unicode that hide or reorder.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A size for people: three digits and a binary unit.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut name = "KiB";
    for unit in UNITS {
        name = unit;
        if value < 1023.5 {
            break;
        }
        if unit != "PiB" {
            value /= 1024.0;
        }
    }
    if value < 9.95 {
        format!("{value:.1} {name}")
    } else {
        format!("{value:.0} {name}")
    }
}

/// A moment in UTC, such as `2026-01-31T12:00:00Z`.
pub fn moment(unix_seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|moment| {
            moment
                .format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_else(|| format!("second {unix_seconds}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_is_kept() {
        for (text, line) in [
            ("a\nb\tc", "a b c"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
            ("naïve  文", "naïve  文"),
        ] {
            assert_eq!(shown(text, 100), line);
        }
        assert_eq!(shown("abcdef", 3), "abc…");
        assert_eq!(shown("abc", 3), "abc");
    }

    #[test]
    fn json_stays_what_it_means() {
        let value = serde_json::json!({"a": "x\u{9b}31m\u{202e}\u{e0041}", "b": "naïve"});
        let text = shown_json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(
            !text.chars().any(|c| c != '\n' && is_unprintable(c)),
            "{text:?}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).ok(),
            Some(value)
        );
    }

    #[test]
    fn a_log_record_stays_one_line() {
        assert_eq!(*record(b"plain\n"), *b"plain\n");
        assert!(matches!(record(b"plain\n"), Cow::Borrowed(_)));
        assert_eq!(*record(b"two\nlines\x1b[2J\n"), *b"two lines\\u{1b}[2J\n");
        assert_eq!(*record(b"\xff\n"), *"\u{fffd}\n".as_bytes());
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human_size(17), "17 B");
        assert_eq!(human_size(1536), "1.5 KiB");
        assert_eq!(human_size(512 << 20), "512 MiB");
        assert_eq!(human_size(3 << 40), "3.0 TiB");
        assert_eq!(human_size((1 << 20) - 1), "1.0 MiB");
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
    }
}
