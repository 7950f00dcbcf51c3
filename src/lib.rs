//! Strongroom mounts an S3 bucket as a directory in which everything is sealed on this machine
//! before it leaves: contents, names, sizes, the tree.
//!
//! The map of the house, top down; a module never names one above it:
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | one file a subcommand; the only place that parses and prints |
//! | [`session`] | the mounted process: lease, control socket, state directory, status, opening, draining |
//! | [`fuse`] | translation between the kernel's protocol and [`fs`], nothing else |
//! | [`fs`] | POSIX: handles, permissions the kernel leaves to us, orphans, the durability contract |
//! | [`check`] | whether a volume is whole, and mending it: beside [`fs`], over the same two |
//! | [`data`] | file contents: write-back, uploads, packs, readahead, frame cache, space reclaim |
//! | [`meta`] | the namespace: typed operations, one atomic batch each, over SlateDB |
//! | [`seal`] | keys, key slots, the sealed-object codec, the sealed object store under SlateDB |
//! | [`store`] | S3: one client, one pool, ranged streams, multipart, conditional PUT, retries |
//! | [`budget`] | the memory governor, beside everything |
//! | [`disk`] | sealed frames on the local disk, beside everything |
//! | [`record`] | a recording of the requests to the store, beside everything |
//! | [`limits`] | what Linux and POSIX allow for names, targets, attributes and files |
//! | [`clock`], `proc`, `cgroup`, `byte_lru` | the wall clock, Linux's `/proc`, limits of control groups, a map bounded in bytes: one place for each |
//! | [`telemetry`] | logs and counters, beside everything |
//! | `server` | the embedded S3 server of the demo and the tests; only with the feature `demo` |
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod budget;
mod byte_lru;
mod cgroup;
pub mod check;
pub mod cli;
pub mod clock;
pub mod data;
pub mod disk;
pub mod fs;
pub mod fuse;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod meta;
mod proc;
pub mod record;
pub mod seal;
#[cfg(feature = "demo")]
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
