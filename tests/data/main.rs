//! Contents: write-back, prefetch, the local disk, reclaim, and the same behind a store that
//! lies. Through `fs`, below the kernel.

#[path = "../support/mod.rs"]
mod support;

mod density;
mod extents;
mod fragments;
mod lied_volume;
mod lying_store;
mod order;
mod passed_names;
mod reclaim;
mod write_back;
