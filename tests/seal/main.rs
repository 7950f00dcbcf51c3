//! Volume headers, sealed objects and SlateDB on top of them, put into a real store and taken out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod bucket;
mod cache;
mod canary;
mod chain;
mod chain_healthy;
mod chain_random;
mod database;
mod fixture;
mod header;
mod log;
mod objects;
mod tampering;
