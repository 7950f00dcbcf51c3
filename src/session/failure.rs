//! Errors of one line, each with its exit code.
//!
//! Promises: each is `strongroom: what: what to do`.
//! Never: prints a secret.

use std::fmt;

use super::exit::Exit;
use crate::telemetry::shown;

/// Longer texts are cut: a path may have 4,096 bytes.
const TEXT_CHARS_MAX: usize = 6000;

/// A failed command: the fault, the advice, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The fault, and the thing at fault. One line.
    pub what: String,
    /// The advice to the user. One line.
    pub advice: String,
}

impl Failure {
    /// An error with its code. Line breaks are folded away and control characters are escaped,
    /// since parts of it may come from the store or another process.
    pub fn new(exit: Exit, what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure {
            exit,
            what: one_line(&what.into()),
            advice: one_line(&advice.into()),
        }
    }

    /// A wrong command line.
    pub fn usage(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, what, advice)
    }

    /// An unforeseen failure.
    pub fn unexpected(what: impl Into<String>) -> Failure {
        Failure::new(
            Exit::Unexpected,
            what,
            "see the log, or try again with --log-level debug",
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strongroom: {}: {}", self.what, self.advice)
    }
}

impl std::error::Error for Failure {}

/// Folds every run of white space, line breaks included, into one space.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(&text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_went_into_it() {
        let error = Failure::new(Exit::Held, "a\n  b", "c\r\nd");
        assert_eq!(error.to_string(), "strongroom: a b: c d");
        let error = Failure::new(Exit::Held, "\u{1b}[2Ja", "\u{9b}1mb");
        assert_eq!(
            error.to_string(),
            "strongroom: \\u{1b}[2Ja: \\u{9b}1mb",
            "a terminal has nothing to obey"
        );
    }
}
