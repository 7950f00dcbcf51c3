//! What a machine believes of a store, and what a store can make it do: the real binary against a
//! store that shows old states, other volumes, and parts of one.

#[allow(dead_code)]
#[path = "../e2e/harness.rs"]
mod harness;

mod beside;
mod database;
mod fingerprints;
mod headers;
mod leases;
mod listings;
mod places;
mod provider;
mod rollback;
mod support;
