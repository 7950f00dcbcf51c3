//! Trust: what a machine believes of a store, and what a store can make it do. The real binary
//! against a store that shows old states, other volumes, and parts of one.

#[path = "../support/mod.rs"]
mod support;

mod beside;
mod database;
mod fingerprints;
mod headers;
mod leases;
mod listings;
mod machine;
mod places;
mod provider;
mod rollback;
