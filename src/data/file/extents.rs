//! Committed extents of a part of a file, as last read from the metadata.

use std::{ops::Range, sync::Arc};

use crate::meta::Extent;

/// Extents kept per file between reads; 56 bytes each.
pub(crate) const EXTENT_WINDOW_MAX: usize = 128;

/// An open file has paid for so many.
pub(crate) const EXTENTS_PAID_FOR: usize = 4;

/// Committed extents that overlap `range`.
#[derive(Clone)]
pub(crate) struct ExtentWindow {
    pub(crate) range: Range<u64>,
    pub(crate) extents: Arc<Vec<Extent>>,
}

impl ExtentWindow {
    /// Memory that keeping it takes beyond what an open file has paid for.
    pub(crate) fn cost(&self) -> u64 {
        match self.extents.len() {
            ..=EXTENTS_PAID_FOR => 0,
            count => (count * size_of::<Extent>()) as u64,
        }
    }
}
