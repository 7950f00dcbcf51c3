//! A store that lies, refuses, hangs and forgets, between the real binary with a real mount and an
//! honest S3 server: what was acknowledged is there, what is old or wrong is never believed.
//!
//! `mount-scripts/test.sh --long` runs the modules called `long` too.

#[path = "../e2e/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../support/lying/mod.rs"]
mod lying;
#[allow(dead_code)]
#[path = "../support/server_process.rs"]
mod server_process;
#[path = "../e2e/tree.rs"]
#[allow(dead_code)]
mod tree;

mod crashes;
mod gaps;
mod matrix;
mod outages;
mod proxy;
mod strays;
mod table;
mod world;
