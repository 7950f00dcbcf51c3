//! The command line as its users meet it: the real binary against a real server.

#[allow(dead_code)]
#[path = "../e2e/harness.rs"]
mod harness;

mod background;
mod demo;
mod errors;
mod generated;
mod keys;
mod lease;
mod secrets;
mod status;
mod support;
