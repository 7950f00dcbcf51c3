//! The S3 client layer against the embedded server, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod connections;
mod errors;
mod faults;
mod operations;
mod probe;
mod recorded;
mod transport;
