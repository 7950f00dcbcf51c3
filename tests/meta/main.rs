//! The namespace through its public surface, over object stores that count and fail.

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
mod support;
mod xattrs;
