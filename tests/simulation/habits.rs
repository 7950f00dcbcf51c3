//! Habits that some lives have and the others do not.

use std::time::Duration;

use strongroom::{
    budget::Shares,
    data::MemoryPlan,
    fs::{Durability, FsConfig},
};

use crate::rng::Rng;

/// Small enough that a file of some hundred KiB is several parts, and one of a MiB two objects.
pub const PART_BYTES: u64 = 160 << 10;

const KIB: u64 = 1024;
/// One of so many lives has a habit.
const ONE_IN: u64 = 6;
/// Room for dirty data, beyond what there is with `scarce`, where a large file is overwritten.
const OVERWRITES_DIRTY_MORE: u64 = 1024 * KIB;
/// Reads of metadata that meet a 404 in bad weather, in a thousand.
const STRAY_MAX: u64 = 200;

/// Drawn apart from everything else, so that a life without any is the same life with or without
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Extended attributes are set, replaced, read and removed.
    pub attributes: bool,
    /// `--durability close`: whoever closes what may have been written waits as fsync does.
    pub closes: bool,
    /// There is so little memory that writers wait and nothing stays cached for long.
    pub scarce: bool,
    /// So many of a thousand reads of the metadata meet a stray 404 while the volume is mounted and
    /// the weather is bad.
    pub stray: u32,
    /// Scattered files are put in order as soon as nobody uses them.
    pub tidy: bool,
    /// A file of several MiB is overwritten at random, and left alone for minutes.
    pub overwrites: bool,
}

impl Habits {
    pub fn of(seed: u64) -> Habits {
        let mut rng = Rng::new(seed, 5);
        let mut one = || rng.below(ONE_IN) == 0;
        let (attributes, closes, scarce, strays) = (one(), one(), one(), one());
        let stray = match strays {
            true => 1 + rng.below(STRAY_MAX) as u32,
            false => 0,
        };
        let tidy = rng.below(ONE_IN) == 0;
        let overwrites = rng.below(ONE_IN) == 0;
        Habits {
            attributes,
            closes,
            scarce,
            stray,
            tidy,
            overwrites,
        }
    }

    /// A mount dies after at most so many times as many requests as it would without any habit: to
    /// write a large file and put it in order takes some hundred.
    pub fn lives_longer(&self) -> u64 {
        match self.overwrites {
            true => 4,
            false => 1,
        }
    }

    pub fn fs_config(&self, read_only: bool) -> FsConfig {
        FsConfig {
            read_only,
            durability: match self.closes {
                true => Durability::Close,
                false => Durability::Fsync,
            },
            ..FsConfig::default()
        }
    }

    /// For pieces of the metadata's tables. With `stray` none is kept, so that more is read.
    pub fn cache_bytes_max(&self) -> u64 {
        match self.stray {
            0 => 4 << 20,
            _ => 0,
        }
    }

    /// With `scarce`, room for a few writes, two parts and one read at a time. With `overwrites`,
    /// for a share of the large file besides, so that what does not fit goes in slices.
    pub fn limit(&self, plan: &mut MemoryPlan) {
        if self.tidy {
            plan.data.defragment_after = Duration::from_secs(1);
            // Files are too small here for it to be worth it.
            plan.data.defragment_from = 0.0;
        }
        if !self.scarce && !self.overwrites {
            return;
        }
        let dirty_more = match self.scarce {
            true => 0,
            false => OVERWRITES_DIRTY_MORE,
        };
        plan.shares = Shares {
            capacity_bytes: 2176 * KIB + dirty_more,
            dirty_min_bytes: 192 * KIB,
            parked_min_bytes: 128 * KIB,
            // A part, and what sealing may add to it, twice.
            upload_min_bytes: 2 * (PART_BYTES + 200 * KIB),
            read_min_bytes: 768 * KIB,
            table_min_bytes: 64 * KIB,
            listing_min_bytes: 256 * KIB,
        };
        plan.data.readahead_bytes_max = 256 * KIB;
        plan.data.fetch_bytes_max = 128 * KIB;
    }
}
