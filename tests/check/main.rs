//! Is a volume whole? `fsck` and `gc` as their users meet them: volumes that are damaged on
//! purpose, in each way that is known of, and healthy ones of every kind.

#[path = "../support/mod.rs"]
mod support;

mod copies;
mod gc;
mod healthy;
mod log_paths;
mod long;
mod metadata_objects;
mod metadata_rows;
mod objects;
mod places;
mod rows;
