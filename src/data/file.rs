//! One file with uncommitted contents.
