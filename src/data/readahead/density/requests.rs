//! How a region is asked for.

use std::ops::Range;

use super::Miss;
use crate::data::frames::Cost;

/// Frames that are here are fetched again for the sake of one request less, if they are at most
/// this share of what lies around them.
const FETCHED_AGAIN_SHARE: u64 = 8;

/// This share of the memory for frames may be on its way: memory that is reserved for it keeps no
/// other frames.
const UNDER_WAY_SHARE: u64 = 3;

/// The bytes under way are shared by so many requests to a far store, unless they would be smaller
/// than [`REQUEST_MIN_BYTES`]. A near one is asked for all of it at once.
const UNDER_WAY_REQUESTS: u64 = 8;

/// Requests for parts of a region are not made smaller than this.
const REQUEST_MIN_BYTES: u64 = 1 << 20;

/// Nor larger than this: as the largest packs.
const REQUEST_MAX_BYTES: u64 = 8 << 20;

/// How much of regions is asked for at once, in frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Frames in one request.
    pub(crate) request: u64,
    /// Frames in the request for the missed ones, from the first of these on.
    pub(crate) onward: u64,
    /// Frames in all requests under way.
    pub(crate) under_way: u64,
}

impl Sizes {
    /// Bytes of regions that may be on their way.
    pub(crate) fn under_way_bytes(memory_bytes: u64) -> u64 {
        memory_bytes / UNDER_WAY_SHARE
    }

    /// The sizes for so much memory, and a store that is `far` or not. A far store gives each
    /// connection only so much, so it is asked for several ranges at once. Each request to a near
    /// one costs processor time and money, and saves no time.
    pub(crate) fn new(memory_bytes: u64, far: bool, frame_len: u64) -> Sizes {
        let under_way = Sizes::under_way_bytes(memory_bytes);
        let requests = if far { UNDER_WAY_REQUESTS } else { 1 };
        let request = (under_way / requests).clamp(REQUEST_MIN_BYTES, REQUEST_MAX_BYTES);
        let request = (request / frame_len).max(1);
        Sizes {
            request,
            onward: request,
            under_way: (under_way / frame_len).max(request),
        }
    }
}

/// The requests for a region: the one that brings the missed frames, which the read waits for, and
/// the others in the order in which they should be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) first: Range<u64>,
    pub(crate) then: Vec<Range<u64>>,
}

/// Asks for the frames of `region` that are not here, with `miss` in one request. Frames come in
/// order, so those after the missed ones in the same request delay nobody.
pub(crate) fn requests(
    region: &Range<u64>,
    miss: &Miss,
    cost: &Cost,
    sizes: Sizes,
    is_here: impl Fn(u64) -> bool,
) -> Requests {
    let missed = &miss.frames;
    let runs = joined(
        absent_runs(region, |frame| !missed.contains(&frame) && is_here(frame)),
        cost.request_worth_bytes() / miss.frame_len,
    );
    let frames: u64 = runs.iter().map(|run| run.end - run.start).sum();
    // The reader waits at most twice as long as for its own frames.
    let is_soon = cost.transfer_us(frames * miss.frame_len) <= cost.latency_us;
    let mut first = missed.clone();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for run in runs {
        if !(run.start <= missed.start && missed.end <= run.end) {
            let side = if run.end <= missed.start {
                &mut before
            } else {
                &mut after
            };
            side.push(run);
        } else if is_soon && run.end - run.start <= sizes.under_way {
            first = run;
        } else {
            let end = run.end.min(missed.start + sizes.onward);
            first = missed.start..end.max(missed.end);
            before.push(run.start..missed.start);
            after.insert(0, first.end..run.end);
        }
    }
    let pieces = after.into_iter().chain(before);
    let then = pieces
        .flat_map(|run| pieces_of(run, sizes.request))
        .collect();
    Requests { first, then }
}

/// The runs of frames that are not here.
fn absent_runs(region: &Range<u64>, is_here: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for frame in region.clone().filter(|frame| !is_here(*frame)) {
        match runs.last_mut() {
            Some(run) if run.end == frame => run.end += 1,
            _ => runs.push(frame..frame + 1),
        }
    }
    runs
}

/// Runs with so little between them that it costs less to fetch that again than another request.
fn joined(runs: Vec<Range<u64>>, request_worth_frames: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for run in runs {
        let frames = run.end - run.start;
        match joined.last_mut() {
            Some(last)
                if run.start - last.end <= request_worth_frames
                    && (run.start - last.end) * FETCHED_AGAIN_SHARE
                        <= last.end - last.start + frames =>
            {
                last.end = run.end;
            }
            _ => joined.push(run),
        }
    }
    joined
}

fn pieces_of(run: Range<u64>, frames_max: u64) -> impl Iterator<Item = Range<u64>> {
    let step = frames_max.max(1);
    (run.start..run.end)
        .step_by(step as usize)
        .map(move |start| start..(start + step).min(run.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{ObjectId, SessionId};

    const FAR: Cost = Cost {
        latency_us: 20_000.0,
        bandwidth: 100.0,
    };
    const SIZES: Sizes = Sizes {
        request: 64,
        onward: 64,
        under_way: 64,
    };
    const NEAR: Cost = Cost {
        latency_us: 200.0,
        bandwidth: 1_000.0,
    };

    fn miss(frames: Range<u64>) -> Miss {
        Miss {
            object: ObjectId {
                session: SessionId([0; 16]),
                number: 0,
            },
            frames,
            object_frames: 4096,
            frame_len: 64 << 10,
            was_evicted: false,
        }
    }

    #[test]
    fn a_region_that_comes_soon_is_one_request() {
        let asked = requests(&(0..16), &miss(5..6), &FAR, SIZES, |_| false);
        assert_eq!(asked.first, 0..16);
        assert!(asked.then.is_empty());
    }

    #[test]
    fn a_long_region_is_fetched_from_the_missed_frame_on_and_what_lies_before_it_last() {
        let asked = requests(&(0..256), &miss(100..102), &FAR, SIZES, |_| false);
        assert_eq!(asked.first, 100..164);
        assert_eq!(asked.then, [164..228, 228..256, 0..64, 64..100]);
    }

    #[test]
    fn what_goes_to_the_disk_does_not_come_with_the_missed_frames() {
        let sizes = Sizes { onward: 0, ..SIZES };
        let asked = requests(&(0..256), &miss(100..102), &FAR, sizes, |_| false);
        assert_eq!(asked.first, 100..102);
        assert_eq!(asked.then.first(), Some(&(102..166)));
    }

    #[test]
    fn a_hole_is_fetched_again_only_where_that_is_cheaper_than_a_request() {
        let is_hole = |frame| frame == 9;
        let far = requests(&(0..16), &miss(5..6), &FAR, SIZES, is_hole);
        assert_eq!((far.first, far.then), (0..16, vec![]));
        let slow = Cost {
            bandwidth: 50.0,
            ..NEAR
        };
        let split = requests(&(0..16), &miss(5..6), &slow, SIZES, is_hole);
        assert_eq!((split.first, split.then), (5..9, vec![10..16, 0..5]));
    }

    #[test]
    fn much_that_is_here_is_not_fetched_again() {
        let is_hole = |frame| (4..12).contains(&frame);
        let asked = requests(&(0..16), &miss(2..3), &FAR, SIZES, is_hole);
        assert_eq!(asked.first, 0..4);
        assert_eq!((asked.then.len(), asked.then.first()), (1, Some(&(12..16))));
    }

    #[test]
    fn each_frame_that_is_missing_is_asked_for_once_and_the_missed_ones_first() {
        let mut seed = 1_u64;
        let mut next = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        for _ in 0..500 {
            let here: Vec<u64> = (0..next(200)).map(|_| next(300)).collect();
            let start = next(290);
            let missed = start..start + 1 + next(3);
            let cost = [FAR, NEAR][next(2) as usize];
            let asked = requests(&(0..300), &miss(missed.clone()), &cost, SIZES, |frame| {
                here.contains(&frame)
            });
            assert!(asked.first.start <= missed.start && missed.end <= asked.first.end);
            let all = std::iter::once(&asked.first).chain(&asked.then);
            let mut times = [0; 300];
            for piece in all {
                assert!(
                    !piece.is_empty() && piece.end - piece.start <= 64,
                    "{asked:?}"
                );
                piece.clone().for_each(|frame| times[frame as usize] += 1);
            }
            for frame in 0..300 {
                let is_absent = missed.contains(&frame) || !here.contains(&frame);
                assert!(times[frame as usize] <= 1);
                assert!(!is_absent || times[frame as usize] == 1, "{frame}");
            }
        }
    }
}
