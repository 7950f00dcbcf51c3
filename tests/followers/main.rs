//! A writer's mount and a read-only mount of the same volume, side by side. Needs root and
//! /dev/fuse.

#[path = "../common/mod.rs"]
mod common;
mod held;
mod reading;
