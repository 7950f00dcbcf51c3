//! S3: one client, one connection pool, one TLS configuration for the whole process.
//!
//! Promises: dropping a [`Body`] drops its request, nothing is drained; a retried upload sends the
//! identical bytes; with [`Retry::Forever`] an outage is a pause; no more than
//! [`StoreConfig::connections_max`] connections are open, and requests past that wait their turn in
//! order; a request that stands still for [`StoreConfig::stall_timeout`] ends. Keys given here are
//! relative to the volume's prefix.
//! Never: interprets what it carries, logs a body or a credential, opens a second pool.
//!
//! Three things are hard here, and each has its file:
//!
//! 1. *Knowing what happened.* An attempt ends in success, an answer, or silence. `classify.rs`
//!    tells a passing failure from one that somebody must act on, and marks those after which the
//!    request may have taken effect. A conditional PUT carries a random token in its user metadata,
//!    so that a repetition that is refused recognises its own object; completing a multipart upload
//!    looks for the object.
//! 2. *Not hanging, and not giving up on the slow.* Nothing bounds the duration of a request that
//!    moves: `attempt.rs` bounds the time without movement, `retry.rs` the number of tries.
//! 3. *Cost.* Uploads go out as the pieces that they are (`upload.rs`), with a CRC-32 over them in
//!    a signed header. The contents are not hashed for the signature: they are sealed, so whoever
//!    alters them is found out when they are read; the CRC finds what breaks by accident, before
//!    the store says yes. Answers are not checked again, their frames authenticate.

mod attempt;
mod body;
mod bounds;
mod classify;
mod client;
mod connect;
mod error;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod health;
mod list;
mod multipart;
mod object;
pub mod probe;
mod request;
mod retry;
mod upload;
mod url;

pub use body::Body;
pub use client::{Store, StoreConfig};
pub use error::{StoreError, StoreErrorKind};
pub use health::Health;
pub use list::{ListEntry, Pages};
pub use multipart::{PartTag, PendingUpload, StoredPart, UploadId};
pub use object::{Condition, ObjectHead, PutOutcome};
pub use retry::{Backoff, MISSING_TRIES, Retry};
pub use upload::checksum;
pub use url::{S3Url, S3UrlError};
