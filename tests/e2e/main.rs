//! The whole product as its users meet it: the real binary, a real FUSE mount, real backup tools,
//! an S3 server over a real socket.
//!
//! Each test starts its own server and volume in a temporary directory and leaves no mount, process
//! or file behind.

#[path = "../support/mod.rs"]
mod support;

mod battery;
mod cgroup;
mod crash;
mod disk_cache;
mod drain;
mod fixture;
mod flood;
mod idle_follower;
mod inline;
mod large_files;
mod leaks;
mod letting_go;
mod log_chain;
mod long_run;
mod memory;
mod metrics;
mod moto;
mod outage;
mod rates;
mod record;
mod replace;
mod requests;
mod small_memory;
mod space;
mod suites;
mod tampering;
mod top;
mod unmount;
mod write_back;
