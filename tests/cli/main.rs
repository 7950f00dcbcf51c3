//! The command line as its users meet it: the real binary against a real server.

#[path = "../support/mod.rs"]
mod support;

mod background;
mod bounds;
mod demo;
mod errors;
mod generated;
mod init;
mod keys;
mod lease;
mod misleading;
mod pages;
mod running;
mod secrets;
mod signals;
mod status;
