//! The mounted process, shared by `mount`, `demo`, `fsck`, `gc` and the key commands: from a URL
//! and a secret to a volume that is served, and back.
//!
//! | step | file |
//! |---|---|
//! | the caller's settings | `config.rs`, `disk_cache.rs`, `memory_size.rs` |
//! | reach the store, read and unlock the header | `unlock.rs` |
//! | compare with this machine's knowledge | `state/` |
//! | look at the metadata, lease, metadata, contents, filesystem, kernel | `open.rs`, `lease/` |
//! | note on this machine the state that is durable | `notes.rs` |
//! | serve until the kernel lets go; drain; give everything back | `serve.rs`, `signals.rs`, `drain_meter.rs` |
//! | the control socket and its answers | `control/`, `report.rs`, `status.rs`, `activity.rs`, `memory.rs` |
//! | make a volume; change its key slots and epochs; find volumes; delete one | `create.rs`, `interrupt.rs`, `slots.rs`, `volumes.rs`, `destroy.rs` |
//! | find the mount at a directory, or its process; unmount it; learn how it ended | `mountpoint.rs`, `processes.rs`, `unmount.rs`, `last_session.rs` |
//! | open a volume without serving it, for `fsck` and `gc` | `visit.rs` |
//! | write a volume anew under its newest key | `rewrite.rs` |
//! | the answers of `usage` and `which`, in a mount or beside it | `look.rs` |
//! | are machine and store fit for a mount? | `doctor/` |
//! | everything that a report of a fault needs, in one file | `bundle/`, `diagnosis.rs` |
//! | the mounts of this machine | `mounts.rs` |
//! | metrics over HTTP | `metrics/` |
//! | a recording of the requests to the store | `recording.rs` |
//! | failures | `exit.rs`, `failure.rs`, `errors.rs` |
//!
//! Never: prints; lines for the user go to the [`Observer`].

pub mod activity;
pub mod bundle;
pub mod config;
pub mod control;
pub mod create;
pub mod destroy;
pub mod diagnosis;
pub mod disk_cache;
pub mod doctor;
mod drain_meter;
pub mod errors;
pub mod exit;
pub mod failure;
mod interrupt;
pub mod last_session;
pub mod lease;
pub mod look;
pub mod memory;
mod memory_size;
pub mod metrics;
pub mod mountpoint;
pub mod mounts;
mod notes;
mod open;
pub mod processes;
pub mod recording;
mod report;
pub mod rewrite;
mod serve;
mod signals;
pub mod slot_notes;
pub mod slots;
pub mod state;
pub mod status;
mod unlock;
pub mod unmount;
mod visit;
pub mod volumes;

pub use config::{Durability, KernelFlag, SessionConfig, StoreSettings};
pub use exit::Exit;
pub use failure::Failure;
pub use memory_size::{MemorySize, memory_bytes};
pub use open::{Opening, VolumeSession};
pub use serve::{Observer, mount_and_serve, serve};
pub use state::{Accept, Fingerprint};
pub use unlock::{Opened, client, client_recording, connect, load_header, parse_url};
pub use visit::{Visit, VisitConfig, interruptible};
