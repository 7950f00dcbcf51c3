//! Regions of files that lie in too many extents.
//!
//! A commit reads the stored extents around the new ones anyway, so it counts them by region on the
//! way. `data` asks for the regions that have too many, and writes them again. A region that is
//! forgotten here is found again by the next commit nearby.

use std::{collections::BTreeSet, ops::Range};

use crate::meta::Ino;

/// The unit in which a file's extents are counted, bytes: a frame of data.
pub const REGION_LEN: u64 = 64 << 10;

/// A region with more extents is crowded: they are smaller than half a page on average. A tiny
/// write adds two extents, so mending crowded regions costs about a page of writing for each tiny
/// write.
pub(in crate::meta) const EXTENTS_MAX: usize = 32;

/// Regions that are remembered, some 40 bytes each.
const REMEMBERED_MAX: usize = 4096;

/// See the module's head.
#[derive(Default)]
pub(in crate::meta) struct Crowded {
    /// By file, and the number of the region in it.
    regions: BTreeSet<(Ino, u64)>,
}

/// Counts extents by region, in the order of the file.
pub(in crate::meta) struct Count {
    ino: Ino,
    region: u64,
    extents: usize,
    crowded: Vec<u64>,
}

impl Count {
    pub fn of(ino: Ino) -> Count {
        Count {
            ino,
            region: 0,
            extents: 0,
            crowded: Vec::new(),
        }
    }

    pub fn extent_from(&mut self, offset: u64) {
        let region = offset / REGION_LEN;
        if region != self.region {
            (self.region, self.extents) = (region, 0);
        }
        self.extents += 1;
        if self.extents == EXTENTS_MAX + 1 {
            self.crowded.push(region);
        }
    }
}

impl Crowded {
    pub fn note(&mut self, count: Count) {
        for region in count.crowded {
            if self.regions.len() < REMEMBERED_MAX {
                self.regions.insert((count.ino, region));
            }
        }
    }

    /// Takes out the first region, in the order of files and offsets.
    pub fn take(&mut self) -> Option<(Ino, Range<u64>)> {
        let (ino, region) = self.regions.pop_first()?;
        Some((ino, region * REGION_LEN..(region + 1) * REGION_LEN))
    }
}
