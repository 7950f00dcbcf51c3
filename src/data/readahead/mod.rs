//! Prefetch: frames that are fetched before they are asked for. A handle that reads in order has a
//! window; a miss of a reader in no order may bring the region around it, if the density policy
//! says so.

mod density;
mod idle;
mod prefetch;
mod region_prefetch;
mod registry;
mod window;

pub(crate) use density::{Density, Outcome, Requests};
pub(crate) use prefetch::RUN_GAP_MAX;
pub(crate) use region_prefetch::Along;
pub(crate) use registry::Windows;
pub(crate) use window::Window;
