//! The mounted process, shared by `mount`, `demo`, `fsck`, `gc` and the key commands: from a URL
//! and a secret to a volume that is served, and back.
//!
//! | step | file |
//! |---|---|
//! | the caller's settings | `config.rs`, `disk_cache.rs` |
//! | reach the store, read and unlock the header | `unlock.rs` |
//! | compare with this machine's knowledge | `state/` |
//! | look at the metadata, lease, metadata, contents, filesystem, kernel | `open.rs`, `lease/` |
//! | note on this machine the state that is durable | `notes.rs` |
//! | serve until the kernel lets go; drain; give everything back | `serve.rs`, `signals.rs` |
//! | the control socket and its answers | `control/`, `report.rs`, `status.rs`, `memory.rs` |
//! | make a volume; change its key slots | `create.rs`, `interrupt.rs`, `slots.rs` |
//! | find the mount at a directory; unmount it | `mountpoint.rs`, `unmount.rs` |
//! | open a volume without serving it, for `fsck` and `gc` | `visit.rs` |
//! | failures | `exit.rs`, `failure.rs`, `errors.rs` |
//!
//! Never: prints; lines for the user go to the [`Observer`].

pub mod config;
pub mod control;
pub mod create;
pub mod disk_cache;
pub mod errors;
pub mod exit;
pub mod failure;
mod interrupt;
pub mod lease;
pub mod memory;
pub mod mountpoint;
mod notes;
mod open;
mod report;
mod serve;
mod signals;
pub mod slots;
pub mod state;
pub mod status;
mod unlock;
pub mod unmount;
mod visit;

pub use config::{Durability, KernelFlag, SessionConfig, StoreSettings};
pub use exit::Exit;
pub use failure::Failure;
pub use open::{Opening, VolumeSession};
pub use serve::{Observer, mount_and_serve, serve};
pub use state::{Accept, Fingerprint};
pub use unlock::{Opened, client, connect, load_header, parse_url};
pub use visit::{Visit, VisitConfig, interruptible};
