//! SlateDB underneath: how it is set up, what it holds in memory, what it needs now and then, and
//! the two stores that stand between it and the sealed one.

pub(super) mod backing;
pub(super) mod compaction;
pub(super) mod existing;
pub(super) mod follower_store;
pub(super) mod jobs;
pub(super) mod memory;
pub(super) mod pace;
pub(super) mod settings;
