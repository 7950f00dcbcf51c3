//! Is a volume whole? `fsck` and `gc` as their users meet them: volumes that are damaged on
//! purpose, in each way that is known of, and healthy ones of every kind.

#[allow(dead_code)]
#[path = "../e2e/harness.rs"]
mod harness;
#[path = "../support/lying/mod.rs"]
mod lying;
#[allow(dead_code)]
#[path = "../e2e/tree.rs"]
mod tree;

mod gc;
mod healthy;
mod long;
mod metadata_objects;
mod objects;
mod rows;
mod support;
