//! S3: one client, one connection pool, one TLS configuration for the whole process.
//!
//! Promises: dropping a [`Body`] drops its request, nothing is drained; a retried upload sends the
//! identical bytes; with [`Retry::Forever`] an outage is a pause. Keys given here are relative to
//! the volume's prefix.
//! Never: interprets what it carries, logs a body or a credential, opens a second pool.

mod client;
mod error;
mod multipart;
mod object;
pub mod probe;
mod retry;
mod url;

pub use client::{Store, StoreConfig};
pub use error::{StoreError, StoreErrorKind};
pub use multipart::{PartTag, PendingUpload, UploadId};
pub use object::{Body, Condition, ListEntry, ObjectHead, PutOutcome};
pub use retry::Retry;
pub use url::S3Url;
