//! The whole product as its users meet it: the real binary, a real FUSE mount, real backup tools,
//! an S3 server over a real socket.
//!
//! Each test starts its own server and volume in a temporary directory and leaves no mount, process
//! or file behind.

mod battery;
mod cgroup;
mod crash;
mod disk_cache;
mod fixture;
mod flood;
mod harness;
mod inline;
mod large_files;
mod leaks;
mod letting_go;
mod log_chain;
mod long_run;
mod memory;
mod moto;
mod outage;
#[path = "../support/plot.rs"]
mod plot;
mod replace;
mod requests;
mod small_memory;
mod space;
mod suites;
mod tampering;
mod tree;
mod unmount;
mod write_back;
