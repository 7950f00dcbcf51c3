//! Copies of a recording: its last minutes as a whole document, the oldest first, without gaps.
//! One can be made of a recording that is being written, and of one whose process was killed.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::har::{BEGINNING, END};

/// A line of a recording is a page at most.
const LINE_BYTES_MAX: u64 = 64 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// The field of the first line that says how much is kept.
const MINUTES: &str = "\"_minutes\":";

/// The outcome of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries in the copy.
    pub entries: u64,
    /// Lines that are no whole entries: they were being written.
    pub torn: u64,
}

/// The fields of an entry that a copy goes by.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "startedDateTime")]
    started: &'a str,
    #[serde(rename = "_number")]
    number: u64,
}

/// Copies a recording. The last minutes are those before its newest entry.
///
/// # Errors
/// It is no recording, or one of the two cannot be read or written.
pub fn copy(from: impl Read + Seek, to: impl Write) -> io::Result<Copied> {
    let mut lines = Lines {
        from: BufReader::with_capacity(BUFFER_BYTES, from),
        at: 0,
        line: Vec::new(),
    };
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, to);
    lines.seek(0)?;
    let Some(head) = lines
        .next()?
        .filter(|line| line.starts_with(BEGINNING.as_bytes()))
    else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no recording",
        ));
    };
    let minutes = minutes(head);
    to.write_all(head)?;
    to.write_all(b"\n")?;
    let (body, found) = (lines.at, lines.survey()?);
    let since = found
        .newest
        .map(|newest| newest - time::Duration::minutes(minutes));
    let mut copied = Copied {
        torn: found.torn,
        ..Copied::default()
    };
    for (start, end) in [(found.oldest_at, u64::MAX), (body, found.oldest_at)] {
        lines.seek(start)?;
        while lines.at < end {
            let Some(line) = lines.next()? else { break };
            let is_wanted = parse(line).is_some_and(|(_, started)| Some(started) >= since);
            if is_wanted {
                if copied.entries > 0 {
                    to.write_all(b",")?;
                }
                to.write_all(entry(line))?;
                to.write_all(b"\n")?;
                copied.entries += 1;
            }
        }
    }
    to.write_all(END.as_bytes())?;
    to.flush()?;
    Ok(copied)
}

/// The lines of a recording, without the spaces around them.
struct Lines<F> {
    from: BufReader<F>,
    /// Where the next line begins.
    at: u64,
    line: Vec<u8>,
}

/// The first look at all entries.
#[derive(Default)]
struct Survey {
    newest: Option<OffsetDateTime>,
    /// Where the entry with the lowest number begins.
    oldest_at: u64,
    torn: u64,
}

impl<F: Read + Seek> Lines<F> {
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut bounded = (&mut self.from).take(LINE_BYTES_MAX);
        let len = bounded.read_until(b'\n', &mut self.line)?;
        self.at += len as u64;
        Ok((len > 0).then(|| self.line.trim_ascii()))
    }

    fn seek(&mut self, at: u64) -> io::Result<()> {
        self.at = self.from.seek(SeekFrom::Start(at))?;
        Ok(())
    }

    fn survey(&mut self) -> io::Result<Survey> {
        let mut found = Survey {
            oldest_at: self.at,
            ..Survey::default()
        };
        let mut lowest = u64::MAX;
        loop {
            let at = self.at;
            let Some(line) = self.next()? else {
                return Ok(found);
            };
            match parse(line) {
                Some((number, started)) => {
                    found.newest = found.newest.max(Some(started));
                    if number < lowest {
                        (lowest, found.oldest_at) = (number, at);
                    }
                }
                None if line.is_empty() || line == END.trim_ascii().as_bytes() => {}
                None => found.torn += 1,
            }
        }
    }
}

/// The entry of a line.
fn entry(line: &[u8]) -> &[u8] {
    line.strip_prefix(b",").unwrap_or(line)
}

/// The number and the time of the entry of a line, if it is a whole one.
fn parse(line: &[u8]) -> Option<(u64, OffsetDateTime)> {
    let line: Line<'_> = serde_json::from_slice(entry(line)).ok()?;
    let started = OffsetDateTime::parse(line.started, &Rfc3339).ok()?;
    Some((line.number, started))
}

fn minutes(head: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(head);
    let rest = text.split_once(MINUTES).map_or("", |(_, rest)| rest);
    let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next();
    let minutes = digits.and_then(|digits| digits.parse::<u32>().ok());
    minutes.unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{
        clock::Timestamp,
        record::har::{self, tests::largest},
    };

    fn at(minute: i64) -> Timestamp {
        Timestamp {
            seconds: minute * 60,
            nanos: 0,
        }
    }

    fn recording(entries: &[(u64, i64)]) -> Vec<u8> {
        let mut text = har::head(10, at(0)).into_bytes();
        text.push(b'\n');
        let mut line = Vec::new();
        for (index, (number, minute)) in entries.iter().enumerate() {
            let mut exchange = largest();
            (exchange.number, exchange.started) = (*number, at(*minute));
            har::write_entry(&exchange, &mut line);
            text.extend_from_slice(b"   \n");
            text.extend_from_slice(if index > 0 { b"," } else { b"" });
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        text.extend_from_slice(END.as_bytes());
        text
    }

    fn numbers(recording: &[u8]) -> (Vec<u64>, Copied) {
        let mut out = Vec::new();
        let copied = copy(Cursor::new(recording), &mut out).expect("copied");
        let document: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let entries = document["log"]["entries"].as_array().expect("entries");
        let numbers = entries
            .iter()
            .map(|entry| entry["_number"].as_u64().expect("a number"));
        (numbers.collect(), copied)
    }

    #[test]
    fn the_last_minutes_come_in_their_order() {
        // Written over from the beginning on: 5 and 6 are in the places of 0 and 1.
        let ring = recording(&[(5, 30), (6, 31), (2, 20), (3, 21), (4, 29)]);
        let (kept, copied) = numbers(&ring);
        assert_eq!(kept, [3, 4, 5, 6], "ten minutes before minute 31");
        assert_eq!((copied.entries, copied.torn), (4, 0));
        assert!(numbers(&recording(&[])).0.is_empty());
        let mut again = Vec::new();
        copy(Cursor::new(&ring), &mut again).expect("copied");
        assert_eq!(numbers(&again).0, [3, 4, 5, 6], "a copy is a recording");
    }

    #[test]
    fn torn_lines_are_left_out_and_counted_and_any_other_file_is_refused() {
        let mut torn = recording(&[(1, 1), (2, 2), (3, 3)]);
        let middle = torn.len() / 2;
        torn[middle..middle + 200].fill(b' ');
        let (kept, copied) = numbers(&torn);
        assert_eq!((kept, copied.torn), (vec![1, 3], 1));
        let error = copy(Cursor::new(b"{\"log\":{}}"), Vec::new()).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
