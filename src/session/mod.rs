//! The mounted process: from a URL and a secret to a volume that is served, and back. What `mount`,
//! `demo`, `fsck`, `gc` and the key commands share.
//!
//! | step | file |
//! |---|---|
//! | what is to be done, from the caller | `config.rs`, `disk_cache.rs` |
//! | reach the store, read and unlock the header | `unlock.rs` |
//! | compare with what this machine knows | `state/`, `fingerprint.rs` |
//! | look at the metadata, lease, metadata, contents, filesystem, kernel | `open.rs`, `lease/` |
//! | note on this machine what is durable | `note.rs` |
//! | serve until the kernel lets go; drain; give everything back | `serve.rs`, `signals.rs` |
//! | what the control socket tells | `control.rs`, `report.rs`, `status.rs`, `memory.rs` |
//! | open a volume without serving it, for `fsck` and `gc` | `visit.rs` |
//! | how it failed | `exit.rs`, `failure.rs`, `errors.rs` |
//!
//! Never: prints; what a user should see goes to the [`Observer`].

pub mod config;
pub mod control;
pub mod disk_cache;
pub mod errors;
pub mod exit;
pub mod failure;
pub mod fingerprint;
pub mod lease;
pub mod memory;
mod note;
mod open;
mod report;
mod serve;
mod signals;
pub mod state;
pub mod status;
mod unlock;
mod visit;

pub use config::{Accept, Durability, KernelFlag, SessionConfig, StoreSettings};
pub use exit::Exit;
pub use failure::Failure;
pub use fingerprint::Fingerprint;
pub use open::{Opening, VolumeSession};
pub use serve::{Observer, mount_and_serve, serve};
pub use unlock::{Opened, client, connect, load_header, parse_url};
pub use visit::{Visit, VisitConfig, interruptible};
