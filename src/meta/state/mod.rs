//! The state of one mount in memory: caches, locks, numbers, tables. The operations above use it;
//! nothing here knows the handle, and only the session table reads its own rows.

pub(super) mod cache;
pub(super) mod change;
pub(super) mod crowding;
pub(super) mod durability;
pub(super) mod ids;
pub(super) mod in_order;
pub(super) mod locks;
pub(super) mod replacements;
pub(super) mod sessions;
