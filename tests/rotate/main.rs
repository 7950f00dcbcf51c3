//! Key epochs: a new key for what is written from now on, mounts from before it, and writing a
//! volume anew under its newest key.

#[path = "../support/mod.rs"]
mod support;

mod header;
mod inside;
mod kills;
mod mounts;
mod place;
mod rewrite;
