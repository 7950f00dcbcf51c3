//! The control socket of a running mount.
//!
//! A Unix socket (mode 0600) below the state directory; the extended attribute
//! `user.strongroom.control` of the mount's root names it. Each connection carries one request, a
//! JSON line, and its answer:
//!
//! | request | answer |
//! |---|---|
//! | `{"request":"status"}` | one line, [`StatusReport`] |
//! | `{"request":"activity"}` | one line, [`Activity`]; versions before it close the connection |
//! | `{"request":"diagnosis"}` | one line, [`Diagnosis`]; versions before it close the connection |
//! | `{"request":"follow-drain"}` | a line of [`Progress`] every 200 ms, the last one `finished` |
//! | `{"request":"usage"}` | lines of [`Told`], the last one `done` or `failed` |
//! | `{"request":"which","target":"2f61"}` | the same; the target is in hexadecimal |
//!
//! Promises: a slow or silent client holds nothing but its connection, and there are at most
//! [`CONNECTIONS_MAX`]; `finished` is sent after all is durable and the lease is given back; a
//! client refuses a line that is too long or takes longer than its patience, and talks only to a
//! process of the user that it expects.
//! Never: accepts a request that changes data.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the mount's side: [`serve`], [`ControlServer`] |
//! | `client.rs` | the side of `status`, `top` and `umount`: [`request`], [`ask_status`], [`ask_activity`], [`ask_diagnosis`] |
//! | `socket.rs` | paths that are too long for a socket |

mod client;
mod server;
mod socket;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{activity::Activity, diagnosis::Diagnosis, status::StatusReport};
use super::{exit::Exit, failure::Failure};
use crate::check::Answer;

pub use client::{Address, Answers, ask_activity, ask_diagnosis, ask_status, request};
pub use server::{CONNECTIONS_MAX, ControlServer, Source, serve};
pub use socket::connect;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// One [`StatusReport`].
    Status,
    /// One [`Activity`].
    Activity,
    /// One [`Diagnosis`].
    Diagnosis,
    /// [`Progress`] until it is over.
    FollowDrain,
    /// The objects of the volume by kind.
    Usage,
    /// The objects of a file, the files of an object, or the paths of an inode.
    Which {
        /// The thing, as the user wrote it: bytes in hexadecimal, because a path is no text.
        target: String,
    },
}

/// A question about the places of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// `strongroom usage`.
    Usage,
    /// `strongroom which`, with the thing as the user wrote it.
    Which(Vec<u8>),
}

impl Look {
    fn of(request: &Request) -> Option<Look> {
        match request {
            Request::Usage => Some(Look::Usage),
            Request::Which { target } => data_encoding::HEXLOWER
                .decode(target.as_bytes())
                .ok()
                .map(Look::Which),
            Request::Status | Request::Activity | Request::Diagnosis | Request::FollowDrain => None,
        }
    }

    /// The request that asks this.
    pub fn request(&self) -> Request {
        match self {
            Look::Usage => Request::Usage,
            Look::Which(target) => Request::Which {
                target: data_encoding::HEXLOWER.encode(target),
            },
        }
    }
}

/// A line of the answer to a [`Look`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Told {
    /// It goes on.
    Working {
        /// The step under way.
        step: String,
        /// Bytes that were read of `total_bytes`; zero of zero where that is not known.
        done_bytes: u64,
        /// See `done_bytes`.
        total_bytes: u64,
    },
    /// A part of the answer.
    Answer {
        /// The part.
        answer: Box<Answer>,
    },
    /// It ended early.
    Failed {
        /// The exit code.
        exit: u8,
        /// The fault.
        what: String,
        /// The advice about it.
        advice: String,
    },
    /// That was all.
    Done,
}

/// How much of a drain went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes that went out, committed or not: never more than the total, never less than before.
    pub sent_bytes: u64,
    /// The most that was ever dirty.
    pub total_bytes: u64,
}

/// How far a mount is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Progress {
    /// The kernel still has it.
    Mounted,
    /// The kernel has let go; dirty data is being uploaded.
    Draining {
        /// Bytes that are not yet in the store.
        dirty_bytes: u64,
        /// Uploads under way.
        uploads_in_flight: u64,
        /// The obstacle, if something holds the drain up.
        trouble: Option<String>,
        /// How much went out. A mount of an earlier version does not say.
        #[serde(default)]
        sent: Option<Sent>,
    },
    /// Over.
    Finished {
        /// The code that the process is about to exit with.
        exit: u8,
        /// The fault, if there was one.
        what: String,
        /// The advice about it.
        advice: String,
        /// The state that is in the store, if it could be closed.
        #[serde(default)]
        fingerprint: Option<String>,
    },
}

impl Progress {
    /// The last line for an outcome; a successful one may carry the fingerprint of the state in the
    /// store.
    pub fn finished(outcome: &Result<Option<String>, Failure>) -> Progress {
        match outcome {
            Ok(fingerprint) => Progress::Finished {
                exit: Exit::Ok.code(),
                what: String::new(),
                advice: String::new(),
                fingerprint: fingerprint.clone(),
            },
            Err(error) => Progress::Finished {
                exit: error.exit.code(),
                what: error.what.clone(),
                advice: error.advice.clone(),
                fingerprint: None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
