//! The kernel's protocol, translated to [`crate::fs`] and back.
//!
//! Every handler copies its arguments and returns. An operation that can be answered from caches is
//! answered on the FUSE thread itself: its future is polled once there, and moves to the runtime
//! only if it is still pending (see `run.rs`).
//!
//! Promises:
//! - FUSE threads never wait for memory or the store, with one exception of last resort: a write
//!   for which there is no room yet;
//! - each request has a deadline, after which it is answered with ETIMEDOUT and the work in flight
//!   for it is dropped;
//! - a request whose caller is killed is answered within two seconds;
//! - a change of names or attributes that happens after it was answered is shown to the kernel;
//! - a panic is one EIO and a log line, never a dead thread;
//! - only the mount that was made here is ever unmounted, and only while it is still there.
//!
//! Never: decides what an operation means, uses fuser's own mounting (`docs/architecture.md` lists
//! why).
//!
//! | file | what |
//! |---|---|
//! | `kernel/` | the handlers, by kind of request |
//! | `capabilities.rs` | the capabilities asked of the kernel at INIT |
//! | `reply.rs` | the answers, and how long the kernel may keep them |
//! | `run.rs` | poll once, then spawn; deadlines; panics |
//! | `failures.rs` | failed requests in the log |
//! | `killed.rs` | callers that were killed while they wait |
//! | `late.rs` | changes that happen after their caller was answered |
//! | `notify.rs` | [`Notifier`]: tells the kernel to forget |
//! | `fill.rs` | gives the kernel pages unasked |
//! | `follow.rs` | tells the kernel which open files of a follower have changed |
//! | `convert.rs` | attributes and times |
//! | `mount.rs` | [`mount`], [`Mounted`] |
//! | `attach.rs` | mount(2), fusermount3, unmounting |
//! | `mountinfo.rs` | the table of mounts |
//! | `error.rs` | [`MountError`] |
//! | `sys.rs` | the one place with `unsafe` |

mod attach;
mod capabilities;
mod convert;
mod error;
mod failures;
mod fill;
mod follow;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod kernel;
mod killed;
mod late;
mod mount;
pub(crate) mod mountinfo;
mod notify;
mod reply;
mod run;
mod sys;

use std::time::Duration;

pub use attach::{KIND, check_device, check_mount_point, detach, has_helper, is_dead};
pub use error::MountError;
pub use mount::{Mounted, mount, request_buffers_bytes};
pub use notify::Notifier;

/// The longest request in bytes, both ways: 256 pages, the kernel's own default limit
/// (`fs.fuse.max_pages_limit`).
pub const REQUEST_LEN_MAX: u32 = 1 << 20;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Shown as the source in `/proc/mounts`. No secrets.
    pub source: String,
    /// Other users may enter.
    pub allow_other: bool,
    /// Set-id bits of programs take effect (only root may ask for it).
    pub suid: bool,
    /// Device nodes work as such (only root may ask for it).
    pub dev: bool,
    /// Programs may be run.
    pub exec: bool,
    /// The longest that a request waits for the store; zero: for ever.
    pub timeout: Duration,
    /// The largest write request, bytes; at most [`REQUEST_LEN_MAX`]. Each FUSE thread keeps a
    /// buffer of this size.
    pub max_write_bytes: u32,
    /// How much the kernel reads ahead of a sequential reader, KiB. Takes effect when run as root;
    /// otherwise it is 128. Contents are read ahead here anyway, so more brings nothing, and is
    /// wasted on readers that stop. Measured with 1024, 512, 256 and 128 KiB: cold `cat` of 256 MiB
    /// from the embedded server 0.27, 0.26, 0.21 and 0.19 s; sixteen readers of the first 4 of 32
    /// MiB move 1.70, 1.33, 1.24 and 1.12 times what they read.
    pub read_ahead_kib: u32,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: "strongroom".to_owned(),
            allow_other: false,
            suid: false,
            dev: false,
            exec: true,
            timeout: Duration::from_secs(15 * 60),
            max_write_bytes: REQUEST_LEN_MAX,
            read_ahead_kib: 128,
        }
    }
}
