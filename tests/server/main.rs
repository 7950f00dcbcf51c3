//! The embedded S3 server, asked over real sockets by the AWS SDK.

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod bodies;
mod conditions;
mod crash;
mod faults;
mod fixture;
mod idle;
mod listing;
mod memory;
mod multipart;
mod process;
mod small_requests;
