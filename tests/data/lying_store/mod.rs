//! The background work of a mount, before a store that lies: regions that go to the local disk
//! unopened, sweeps in slices, scattered files that are put in order; and readers that share what
//! is fetched.
//!
//! No reader gets a wrong byte, nothing that was synced is lost, and once the store is honest
//! everything goes on: errors end, files are readable, memory is given back.

mod disk;
mod lies;
mod order;
mod shared;
mod slices;
