//! Readers that know the future, to compare the policy with.
//!
//! *In hindsight* is the fastest of these, each with the same memory and one request at a time:
//! always to fetch a whole region of a fixed size around what is missed, the size that is best for
//! this very trace (from a single frame to half of the memory, each twice the one before, as long
//! as that saves a tenth of the requests); and, where there is room for all that the trace reads,
//! to fetch exactly that before the first read, in ranges joined over the gap that is best. A
//! reader that knows the order of the reads could do better still with little memory; one that does
//! not know it cannot.

use std::collections::HashSet;

use super::{
    simulated::{Cache, FRAME, Place, READ_US, Tally},
    traces::Trace,
};
use crate::data::frames::Cost;

/// Requests and bytes of a reader who always fetches what is absent of an aligned region of `reach`
/// frames around what is missed. `None` as soon as that saves too little against `smaller`, the
/// requests after each tenth of the reads with half of the reach.
fn with_reach(
    trace: &Trace,
    capacity: usize,
    reach: u64,
    smaller: &mut Vec<u64>,
) -> Option<(u64, u64)> {
    let mut cache = Cache::new(capacity);
    let (mut requests, mut bytes) = (0, 0);
    let mut progress = Vec::new();
    for (index, (object, frames)) in trace.reads.iter().enumerate() {
        for frame in frames.clone() {
            if cache.read((*object, frame)) {
                continue;
            }
            let start = frame / reach * reach;
            let end = (start + reach).min(trace.objects[*object]);
            let is_absent = |near: &u64| !cache.is_here((*object, *near));
            let absent: Vec<u64> = (start..end).filter(is_absent).collect();
            requests += 1;
            bytes += (absent[absent.len() - 1] + 1 - absent[0]) * FRAME;
            absent
                .iter()
                .for_each(|near| cache.put((*object, *near), true));
            cache.put((*object, frame), false);
        }
        if index % (trace.reads.len() / 10) == 0 {
            let saves_little = |before: &u64| index > 0 && requests * 10 > before * 9;
            if smaller.get(progress.len()).is_some_and(saves_little) {
                return None;
            }
            progress.push(requests);
        }
    }
    *smaller = progress;
    Some((requests, bytes))
}

/// Fetches what is read and no more, once, in ranges joined over gaps of up to `gap` frames;
/// requests and bytes.
fn with_ranges(wanted: &[Place], gap: u64) -> (u64, u64) {
    let is_joined = |one: &Place, next: &Place| one.0 == next.0 && next.1 - one.1 <= gap + 1;
    let ranges = wanted.chunk_by(is_joined);
    ranges.fold((0, 0), |(requests, bytes), range| {
        let frames = range[range.len() - 1].1 + 1 - range[0].1;
        (requests + 1, bytes + frames * FRAME)
    })
}

pub(crate) fn distinct(trace: &Trace) -> Vec<Place> {
    let all: HashSet<Place> = trace
        .reads
        .iter()
        .flat_map(|(object, frames)| frames.clone().map(|frame| (*object, frame)))
        .collect();
    let mut all: Vec<Place> = all.into_iter().collect();
    all.sort_unstable();
    all
}

/// All that could have been done: requests and bytes.
pub(crate) fn in_hindsight(trace: &Trace, capacity: usize, wanted: &[Place]) -> Vec<(u64, u64)> {
    let whole = trace
        .objects
        .iter()
        .max()
        .copied()
        .unwrap_or(1)
        .next_power_of_two();
    let sizes = (0..=whole.ilog2()).map(|log2| 1_u64 << log2);
    let mut smaller = Vec::new();
    let mut all: Vec<(u64, u64)> = sizes
        .clone()
        .take_while(|reach| *reach as usize <= (capacity / 2).max(1))
        .map_while(|reach| with_reach(trace, capacity, reach, &mut smaller))
        .collect();
    let ranges = sizes.map(|size| with_ranges(wanted, size - 1));
    all.extend(ranges.filter(|(_, bytes)| *bytes <= capacity as u64 * FRAME));
    all
}

pub(crate) fn fastest(all: &[(u64, u64)], reads: usize, cost: &Cost) -> Tally {
    let tallies = all.iter().map(|(requests, bytes)| Tally {
        bytes: *bytes,
        requests: *requests,
        us: *requests as f64 * cost.latency_us + cost.transfer_us(*bytes) + reads as f64 * READ_US,
    });
    let fastest = tallies.min_by(|one, other| one.us.total_cmp(&other.us));
    fastest.unwrap_or_default()
}
