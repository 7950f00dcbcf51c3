//! What one mount holds of a volume in memory: caches, locks, numbers, tables. Nothing here reads or
//! writes on its own account; the operations do, with what is here.

pub(super) mod cache;
pub(super) mod change;
pub(super) mod crowding;
pub(super) mod durability;
pub(super) mod ids;
pub(super) mod in_order;
pub(super) mod locks;
pub(super) mod replacements;
pub(super) mod sessions;
