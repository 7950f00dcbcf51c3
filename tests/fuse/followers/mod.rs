//! A writer's mount and a read-only mount of the same volume, side by side.

mod held;
mod reading;
