//! Density: what is fetched beyond a miss.
//!
//! Reads in no order could be served frame by frame, which is slow where the store is far, or with
//! everything around them, which moves bytes that nobody reads. This policy decides, for files and
//! packs alike. It does no I/O and has no clock: its inputs are the miss, the cost of a request and
//! the memory for frames, and its answer is a range of frames.
//!
//! A region of an object is fetched whole (it is *bought*) once all of these hold; of the regions
//! around a miss for which they do, the largest is:
//!
//! 1. *It is paid for.* Single requests in it cost as much by now as the rest of it does. This is
//!    the rule of the ski renter: a reader that stops at the worst moment has paid twice what the
//!    best decision in hindsight costs. Where regions that were bought lately were read, the rest
//!    counts as cheaper.
//! 2. *It is more than chance.* Scattered reads fall into one region now and then. How many misses
//!    tell more than that depends on the region's size, and on how much there is around it that
//!    does not fit into memory. A policy that was right lately may take a chance.
//! 3. *It will be used.* If everything that is missed as often were bought too, it would still be
//!    in memory when it is read.
//!
//! Promises: the answer contains what was missed. Once a memory full of frames was evicted unread,
//! or evicted and wanted back, nothing is fetched along until as much was made up for.
//! `simulator.rs` compares the policy with readers that know the future.

#[cfg(test)]
mod hindsight;
mod regions;
mod requests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;

use std::ops::Range;

use self::regions::{Moment, Region, Regions};
use crate::{
    data::frames::{Cost, Evicted, Outcome},
    meta::ObjectId,
};

pub(crate) use requests::{Requests, Sizes, requests};

/// Frames of the smallest regions of objects: 512 KiB.
pub(crate) const REGION_MIN_LOG2: u32 = 3;

/// Each further miss in a region allows for so many times more frames: 16. Two are enough for a
/// MiB, three for 16, four for 256.
const FRAMES_PER_MISS_LOG2: f64 = 4.0;

/// Where the objects that are read do not fit into memory, so many frames may be fetched along by
/// chance for each that is missed.
const BY_CHANCE_MAX: f64 = 0.1;

/// A region may be at most so much of the memory, lest it evicts everything else.
pub(crate) const MEMORY_SHARE_MAX: f64 = 0.5;

/// A region may be so many times what its share of the memory is: part of what is evicted early was
/// read before.
const SHARE_SLACK: f64 = 4.0;

/// A frame that is read of what was fetched along makes up for what a request is worth of others
/// that were not, but for no more frames than this.
const MADE_UP_FOR_MAX: f64 = 8.0;

/// A frame that was missed makes up for only this share of that.
const MISSED_SHARE: f64 = 0.25;

/// Frames that are fetched on a chance cost so many times their bytes of what was earned.
const CHANCE_PRICE: f64 = 1.5;

/// The policy begins as if so many bytes had been fetched along and not read. The more is read of
/// what was fetched along, the less these count.
const DOUBTED_BYTES: f64 = 1_048_576.0;

/// Ageing may leave a count of misses this much too low.
const ROUNDING: f64 = 0.25;

/// Adjoining frames of an object that a read misses.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    pub(crate) object: ObjectId,
    pub(crate) frames: Range<u64>,
    pub(crate) object_frames: u64,
    pub(crate) frame_len: u64,
    /// The first of them was here, and was evicted lately.
    pub(crate) was_evicted: bool,
}

/// See the module's head.
pub(crate) struct Density {
    regions: Regions,
    now: Moment,
    /// Bytes that were fetched in vain and not made up for; at most the memory.
    in_vain_bytes: f64,
    /// Bytes that frames which were fetched along and read made up for, and that were not risked
    /// again; at most the memory.
    earned_bytes: f64,
    /// Bytes that came along lately, and how many of them were read.
    along_bytes: f64,
    read_bytes: f64,
}

/// A region that could be bought.
struct Candidate<'a> {
    region: &'a Region,
    frames: u64,
    bytes: f64,
    rest_bytes: f64,
    frame_len: u64,
}

impl Density {
    /// `smallest_log2`: frames of the smallest regions.
    pub(crate) fn new(smallest_log2: u32) -> Density {
        Density {
            regions: Regions::new(smallest_log2),
            now: Moment::default(),
            in_vain_bytes: 0.0,
            earned_bytes: 0.0,
            along_bytes: DOUBTED_BYTES,
            read_bytes: 0.0,
        }
    }

    /// The frames to fetch now that `miss` is about to be fetched: a range that contains it.
    /// `memory_bytes` is what there is for frames, those that are kept already included.
    pub(crate) fn on_miss(
        &mut self,
        miss: &Miss,
        cost: &Cost,
        memory_bytes: u64,
        outcome: Outcome,
    ) -> Range<u64> {
        let missed_bytes = (miss.frames.end - miss.frames.start) * miss.frame_len;
        let memory = memory_bytes as f64;
        self.learn(outcome, miss, cost, memory);
        let before = self.now;
        self.now.fetched_bytes += missed_bytes as f64;
        self.now.misses += 1.0;

        let likely_unread = self.likely_unread();
        let mut bought = None;
        let mut void_before = 0.0;
        for id in self
            .regions
            .around(miss.object, miss.frames.start, miss.object_frames)
        {
            let around_frames = self.regions.objects_frames();
            let region = self.regions.get_mut(id, before, miss.object_frames);
            region.void_before(&mut void_before, before);
            region.age(before, memory);
            region.add_miss(missed_bytes, cost);
            let frames = id.first_frame().min(miss.frames.start)
                ..id.end_frame().min(miss.object_frames).max(miss.frames.end);
            if bought.is_some() || frames == miss.frames {
                continue;
            }
            let bytes = ((frames.end - frames.start) * miss.frame_len) as f64;
            let candidate = Candidate {
                region,
                frames: frames.end - frames.start,
                bytes,
                rest_bytes: (bytes - region.missed_bytes).max(0.0),
                frame_len: miss.frame_len,
            };
            let is_paid = region.paid_us >= cost.of(candidate.rest_bytes as u64) * likely_unread;
            let is_no_chance = candidate.is_no_chance(self.now, around_frames, memory);
            let is_earned =
                self.earned_bytes - self.in_vain_bytes >= CHANCE_PRICE * candidate.rest_bytes;
            let will_be_used = candidate.will_be_used(self.now, memory, self.in_vain_bytes);
            if is_paid && (is_no_chance || is_earned) && will_be_used {
                let rest_bytes = candidate.rest_bytes;
                if !is_no_chance {
                    self.earned_bytes -= CHANCE_PRICE * rest_bytes;
                }
                region.restart(Moment {
                    fetched_bytes: self.now.fetched_bytes + rest_bytes,
                    misses: self.now.misses,
                });
                region.bought_at = self.now.fetched_bytes + rest_bytes;
                bought = Some((frames, rest_bytes));
            }
        }
        match bought {
            Some((frames, rest_bytes)) => {
                self.now.fetched_bytes += rest_bytes;
                frames
            }
            None => miss.frames.clone(),
        }
    }

    /// Keeps account of what was in vain: frames that were fetched along and evicted unread, and
    /// frames that had to make room and were wanted back.
    fn learn(&mut self, outcome: Outcome, miss: &Miss, cost: &Cost, memory: f64) {
        let frame = miss.frame_len as f64;
        let worth = (cost.request_worth_bytes() as f64).min(MADE_UP_FOR_MAX * frame);
        let missed = match miss.was_evicted {
            true => worth,
            false => -worth * MISSED_SHARE,
        };
        let used = outcome.used_bytes as f64 / frame * worth;
        let in_vain = self.in_vain_bytes + outcome.unread_bytes as f64 - used + missed;
        self.in_vain_bytes = in_vain.clamp(0.0, memory);
        self.earned_bytes = (self.earned_bytes + used).min(memory);
        self.along_bytes += outcome.arrived_bytes as f64;
        self.read_bytes += outcome.used_bytes as f64;
        if self.along_bytes > memory / 2.0 {
            self.along_bytes /= 2.0;
            self.read_bytes /= 2.0;
        }
    }

    /// The share of what is fetched along that will not be read, going by what was bought lately:
    /// all of it at first.
    fn likely_unread(&self) -> f64 {
        (1.0 - self.read_bytes / self.along_bytes).max(0.0)
    }

    /// Memory that the policy takes now, and at most, with what is remembered of evicted frames.
    pub(crate) fn held_bytes(&self) -> (u64, u64) {
        let (held, held_max) = self.regions.held_bytes();
        (held + Evicted::BYTES, held_max + Evicted::BYTES)
    }
}

impl Candidate<'_> {
    fn is_no_chance(&self, now: Moment, around_frames: u64, memory: f64) -> bool {
        let log2 = (self.frames as f64).log2();
        let misses_wanted = 1.0 + (log2 / FRAMES_PER_MISS_LOG2).ceil();
        let all_fits = (around_frames * self.frame_len) as f64 <= SHARE_SLACK * memory;
        self.region.misses + ROUNDING >= misses_wanted
            && (all_fits || self.by_chance(now, around_frames) <= BY_CHANCE_MAX)
    }

    /// Frames that would be fetched along for each that is missed if misses that are scattered over
    /// `around_frames` were enough to buy this region: those after its first fall into it as a
    /// Poisson process.
    fn by_chance(&self, now: Moment, around_frames: u64) -> f64 {
        let all_misses = now.misses - self.region.began.misses;
        let expected = (all_misses - 1.0).max(0.0) * self.frames as f64 / around_frames as f64;
        let further = (self.region.misses + ROUNDING) as u32 - 1;
        let probability: f64 = (1..=further).map(|nth| expected / f64::from(nth)).product();
        probability * around_frames as f64 / all_misses
    }

    fn will_be_used(&self, now: Moment, memory: f64, in_vain: f64) -> bool {
        let share = self.region.misses / (now.misses - self.region.began.misses);
        self.bytes <= MEMORY_SHARE_MAX * memory
            && self.bytes <= SHARE_SLACK * (memory - in_vain) * share
    }
}
