//! A recording as a list of fates, for the server that replays it.
//!
//! Keys of a recording are pseudonyms, so a request is recognised by its operation, the kind of
//! its object, and its turn among those: the third PUT of a log object meets what the third one
//! met. Answers that say what is stored (there is no such object, the condition does not hold) are
//! not replayed: they follow from what is stored, and to claim them otherwise would be a lie.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::BufReader,
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use super::{
    exchange::{Fault, Operation, known_code},
    kind::Kind,
};

/// A longer delay is cut: no client waits for so long.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is no HAR document of ours.
    #[error("it is no recording of mount --record: {0}")]
    Form(String),
}

/// The fate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Before anything else happens.
    pub delay: Duration,
    /// How it ends.
    pub end: End,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As what is stored has it.
    Answered,
    /// It is refused, and nothing is done.
    Refused {
        /// The HTTP status.
        status: u16,
        /// S3's code.
        code: Option<&'static str>,
        /// The pause that the store asks for, seconds.
        retry_after_seconds: Option<u64>,
    },
    /// The connection breaks once so many bytes of the request's body came, and nothing is done.
    BrokenRequest(u64),
    /// The connection breaks before an answer, and nothing is done.
    Broken,
    /// The connection breaks after so many bytes of the answer's body.
    BrokenAnswer(u64),
    /// Nothing more comes after so many bytes of the answer's body.
    SilentAnswer(u64),
    /// No answer ever comes.
    Silent,
}

/// The fates that are left.
#[derive(Debug, Default)]
pub struct Script {
    fates: HashMap<(Operation, Kind), VecDeque<Fate>>,
}

#[derive(Deserialize)]
struct Document {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_number")]
    number: u64,
    #[serde(rename = "_operation")]
    operation: Operation,
    #[serde(rename = "_kind")]
    kind: Kind,
    #[serde(rename = "_fault")]
    fault: Option<Fault>,
    request: Message,
    response: Message,
    timings: Timings,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    status: u16,
    #[serde(rename = "bodySize")]
    body_bytes: u64,
    headers: Vec<Field>,
    #[serde(rename = "_code")]
    code: Option<String>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Timings {
    wait: f64,
}

impl Message {
    fn number(&self, name: &str) -> Option<u64> {
        let field = self.headers.iter().find(|field| field.name == name)?;
        field.value.parse().ok()
    }
}

impl Script {
    /// Reads a recording.
    ///
    /// # Errors
    /// It cannot be read, or is none of ours.
    pub fn read(path: &Path) -> Result<Script, ScriptError> {
        let file = BufReader::new(File::open(path)?);
        let document: Document =
            serde_json::from_reader(file).map_err(|error| match error.is_io() {
                true => ScriptError::Read(error.into()),
                false => ScriptError::Form(error.to_string()),
            })?;
        let mut entries = document.log.entries;
        entries.sort_by_key(|entry| entry.number);
        let mut script = Script::default();
        for entry in entries {
            let fates = script.fates.entry((entry.operation, entry.kind));
            fates.or_default().push_back(fate(&entry));
        }
        Ok(script)
    }

    /// The fate of the next request of this operation about an object of this kind; `None` once
    /// the recording tells of no more.
    pub fn next(&mut self, operation: Operation, kind: Kind) -> Option<Fate> {
        self.fates.get_mut(&(operation, kind))?.pop_front()
    }
}

fn fate(entry: &Entry) -> Fate {
    let wait = Duration::try_from_secs_f64(entry.timings.wait / 1e3).unwrap_or_default();
    Fate {
        delay: wait.min(DELAY_MAX),
        end: end(entry),
    }
}

fn end(entry: &Entry) -> End {
    let (request, response) = (&entry.request, &entry.response);
    let code = response.code.as_deref().and_then(known_code);
    match (entry.fault, response.status) {
        // Nobody waited for it: that is the client's part.
        (None | Some(Fault::Dropped), status) if status < 400 => End::Answered,
        (_, status) if status >= 400 => match is_about_what_is_stored(status, code) {
            true => End::Answered,
            false => End::Refused {
                status,
                code,
                retry_after_seconds: response.number("retry-after"),
            },
        },
        (Some(Fault::Stalled), 0) => End::Silent,
        (Some(Fault::Stalled), _) => End::SilentAnswer(response.body_bytes),
        (_, 0) => match request.number("content-length") {
            Some(length) if request.body_bytes < length => End::BrokenRequest(request.body_bytes),
            _ => End::Broken,
        },
        _ => End::BrokenAnswer(response.body_bytes),
    }
}

fn is_about_what_is_stored(status: u16, code: Option<&str>) -> bool {
    match status {
        404 | 412 | 416 => true,
        409 => !matches!(
            code,
            Some("ConditionalRequestConflict" | "OperationAborted")
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        record::{
            exchange::{Answer, Exchange, Form, Moved},
            har::{self, tests::largest},
            pseudonyms::KeyName,
        },
    };

    fn exchange(number: u64, change: impl FnOnce(&mut Exchange)) -> Exchange {
        let mut exchange = Exchange {
            number,
            operation: Operation::PutObject,
            key: KeyName {
                kind: Kind::Log,
                folder: None,
                object: Some(number),
            },
            range: None,
            length: Some(100),
            sent: Moved {
                bytes: 100,
                hash: Some(1),
            },
            waiting: Duration::from_millis(30),
            answer: None,
            received: Moved::default(),
            fault: None,
            ..largest()
        };
        change(&mut exchange);
        exchange
    }

    fn answer(status: u16, code: Option<&'static str>) -> Option<Answer> {
        Some(Answer {
            status,
            code,
            length: Some(7),
            range: None,
            retry_after_seconds: (status == 503).then_some(4),
            form: Form::Xml,
        })
    }

    fn script(exchanges: &[Exchange]) -> Script {
        let now = Timestamp::now();
        let mut text = har::head(10, now).into_bytes();
        for (index, exchange) in exchanges.iter().enumerate() {
            let mut entry = Vec::new();
            har::write_entry(exchange, &mut entry);
            text.extend_from_slice(if index > 0 { b",".as_slice() } else { b"" });
            text.extend_from_slice(&entry);
        }
        text.extend_from_slice(har::END.as_bytes());
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("r.har");
        std::fs::write(&path, text).expect("written");
        Script::read(&path).expect("a recording")
    }

    #[test]
    fn each_request_meets_what_was_recorded_in_its_turn() {
        let fault = |fault| move |exchange: &mut Exchange| exchange.fault = Some(fault);
        let answered =
            |status, code| move |exchange: &mut Exchange| exchange.answer = answer(status, code);
        let exchanges = [
            exchange(7, fault(Fault::Stalled)),
            exchange(0, answered(200, None)),
            exchange(1, answered(503, Some("SlowDown"))),
            exchange(2, answered(412, Some("PreconditionFailed"))),
            exchange(3, answered(409, Some("ConditionalRequestConflict"))),
            exchange(4, fault(Fault::Broken)),
            exchange(5, |exchange| {
                exchange.fault = Some(Fault::Broken);
                exchange.sent.bytes = 60;
            }),
            exchange(6, |exchange| {
                exchange.fault = Some(Fault::Broken);
                exchange.answer = answer(200, None);
                exchange.received.bytes = 3;
            }),
            exchange(8, fault(Fault::Dropped)),
            exchange(9, |exchange| {
                exchange.operation = Operation::GetObject;
                exchange.fault = Some(Fault::Stalled);
                exchange.answer = answer(206, None);
                exchange.received.bytes = 5;
            }),
        ];
        let mut script = script(&exchanges);
        let refused = |status, code, retry_after_seconds| End::Refused {
            status,
            code: Some(code),
            retry_after_seconds,
        };
        for end in [
            End::Answered,
            refused(503, "SlowDown", Some(4)),
            End::Answered,
            refused(409, "ConditionalRequestConflict", None),
            End::Broken,
            End::BrokenRequest(60),
            End::BrokenAnswer(3),
            End::Silent,
            End::Answered,
        ] {
            let fate = script.next(Operation::PutObject, Kind::Log);
            let delay = Duration::from_millis(30);
            assert_eq!(fate, Some(Fate { delay, end }));
        }
        assert_eq!(script.next(Operation::PutObject, Kind::Log), None);
        assert_eq!(script.next(Operation::PutObject, Kind::Data), None);
        let last = script.next(Operation::GetObject, Kind::Log);
        assert_eq!(last.map(|fate| fate.end), Some(End::SilentAnswer(5)));
    }

    #[test]
    fn a_file_that_is_no_recording_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("other.har");
        for text in ["", "{}", r#"{"log":{"entries":[{"time":1}]}}"#] {
            std::fs::write(&path, text).expect("written");
            let error = Script::read(&path).expect_err("refused");
            assert!(matches!(error, ScriptError::Form(_)), "{error}");
        }
        let error = Script::read(&dir.path().join("none")).expect_err("refused");
        assert!(matches!(error, ScriptError::Read(_)), "{error}");
    }
}
