//! The namespace through its public surface, over object stores that count and fail.

#[path = "../support/mod.rs"]
mod support;

mod content;
mod durability;
mod follower;
mod fragments;
mod model;
mod names;
mod reclaim;
mod renames;
mod replace;
mod requests;
mod stack;
mod volume;
mod xattrs;
