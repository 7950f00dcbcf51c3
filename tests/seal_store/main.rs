//! What `seal` puts into a real store and takes out again: volume headers, sealed objects, SlateDB
//! on top of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod canary;
mod chain;
mod chain_healthy;
mod chain_random;
mod database;
mod fixture;
mod header;
mod objects;
mod support;
mod tampering;
