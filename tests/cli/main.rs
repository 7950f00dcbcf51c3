//! The command line as its users meet it: the real binary against a real server.

#[path = "../support/mod.rs"]
mod support;

mod background;
mod bounds;
mod dead;
mod demo;
mod doctor;
mod ended;
mod errors;
mod first_backup;
mod generated;
mod init;
mod keys;
mod lease;
mod logs;
mod metrics;
mod misleading;
mod mounts;
mod pages;
mod record;
mod running;
mod secrets;
mod signals;
mod status;
mod strength;
mod top;
mod volumes;
