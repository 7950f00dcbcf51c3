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
//! | `{"request":"follow-drain"}` | a line of [`Progress`] every 200 ms, the last one `finished` |
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
//! | `client.rs` | the side of `status`, `top` and `umount`: [`request`], [`ask_status`], [`ask_activity`] |
//! | `socket.rs` | paths that are too long for a socket |

mod client;
mod server;
mod socket;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{activity::Activity, status::StatusReport};
use super::{exit::Exit, failure::Failure};

pub use client::{Address, Answers, ask_activity, ask_status, request};
pub use server::{CONNECTIONS_MAX, ControlServer, Source, serve};
pub use socket::connect;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// One [`StatusReport`].
    Status,
    /// One [`Activity`].
    Activity,
    /// [`Progress`] until it is over.
    FollowDrain,
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
