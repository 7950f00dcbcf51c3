//! The filesystem below the kernel: names, attributes, listings, contents.

#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod files;
mod io;
mod listing;
mod lives;
mod names;
