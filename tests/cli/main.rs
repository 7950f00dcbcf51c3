//! The command line as its users meet it: the real binary against a real server.

#[allow(dead_code)]
#[path = "../e2e/harness.rs"]
mod harness;

#[path = "../common/lax_store.rs"]
mod lax_store;

#[path = "../common/raw_store.rs"]
mod raw_store;

mod background;
mod bounds;
mod demo;
mod errors;
mod generated;
mod keys;
mod lease;
mod secrets;
mod signals;
mod status;
mod support;
