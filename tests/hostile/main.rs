//! A store that lies, refuses, hangs and forgets, between the real binary with a real mount and an
//! honest S3 server: what was acknowledged is there, what is old or wrong is never believed.
//!
//! `mount-scripts/test.sh --long` runs the modules called `long` too.

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod gaps;
mod inventory;
mod matrix;
mod outages;
mod proxy;
mod slots;
mod strays;
mod table;
mod world;
