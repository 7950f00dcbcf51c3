//! S3: one client, one connection pool, one TLS configuration for the whole process.
//!
//! Promises: dropping a [`Body`] drops its request, nothing is drained; a retried upload sends the
//! identical bytes; with [`Retry::Forever`] an outage is a pause; no more than
//! [`StoreConfig::connections_max`] connections are open, and requests past that wait their turn in
//! order; a request that stands still for [`StoreConfig::stall_timeout`] ends. Keys given here are
//! relative to the volume's prefix.
//! Never: interprets the bytes that it carries, logs a body or a credential, opens a second pool.
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
//!    a signed header. The contents are not hashed for the signature: they are sealed, so a
//!    change of them is found when they are read; the CRC finds accidental damage before the store
//!    accepts them. Answers are not checked again, their frames authenticate.
//!
//! | file | what it holds |
//! |---|---|
//! | `url.rs`, `config.rs`, `profile.rs`, `trust.rs`, `connect.rs`, `client.rs` | `s3://bucket/prefix`, the settings, making the client, [`Store`] |
//! | `bucket.rs`, `rules.rs`, `object.rs`, `head.rs`, `list.rs`, `multipart.rs` | the operations |
//! | `request.rs` | the shape that all requests share |
//! | `attempt.rs`, `outcome.rs` | one attempt; counting how it ended |
//! | `retry.rs`, `patience.rs` | when a request is repeated; repeating it |
//! | `classify.rs`, `explain.rs`, `foreign.rs`, `skew.rs`, `date.rs`, `causes.rs`, `error.rs` | from the SDK's errors to [`StoreError`] |
//! | `body.rs`, `upload.rs` | the bytes that come and go |
//! | `bounds.rs` | how much of an answer is taken |
//! | `layer.rs` | the frames around layers below the SDK, and around a look at an answer |
//! | `recorded.rs` | recording what passes, on demand |
//! | `health.rs` | whether the metadata's log gets into the store |
//! | `probe/` | whether a store is fit for a volume |

mod attempt;
mod body;
mod bounds;
mod bucket;
mod causes;
mod classify;
mod client;
mod config;
mod connect;
mod date;
mod error;
mod explain;
mod foreign;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod head;
mod health;
mod layer;
mod list;
mod multipart;
mod object;
mod outcome;
mod patience;
pub mod probe;
mod profile;
mod rate;
mod recorded;
mod request;
mod retry;
mod rules;
mod skew;
mod trust;
mod upload;
mod url;

pub use body::Body;
pub use client::Store;
pub use config::StoreConfig;
pub use error::{StoreError, StoreErrorKind};
pub use head::ObjectHead;
pub use health::Health;
pub use list::{ListEntry, Pages};
pub use multipart::{PartTag, PendingUpload, StoredPart, UploadId};
pub use object::{Condition, PutOutcome};
pub use rate::{RATE_MIN, Rates};
pub use retry::{Backoff, MISSING_TRIES, Retry};
pub use rules::{LifecycleRule, Versioning};
pub use skew::SKEW_SECONDS_MIN;
pub use upload::checksum;
pub use url::{S3Url, S3UrlError};
