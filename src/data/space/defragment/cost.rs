//! The cost of reading a piece of a file in order as it lies in the store, compared with the cost
//! if it lay there in one run. Decides, and does no I/O.

use crate::{
    data::{frames::Cost, readahead::RUN_GAP_MAX},
    meta::{Extent, ExtentSource, ObjectId},
    seal::codec::DATA_FRAME_LOG2,
};

const FRAME_LEN: u64 = 1 << DATA_FRAME_LOG2;

/// A reader in order has so many requests under way at once: latencies add up by that many.
const PARALLEL: u64 = 8;

/// Does reading what lies in `extents`, a piece of one file, in order take at least `times` as long
/// as if it lay in one run? `request_bytes_max` is the most that one request brings.
pub(crate) fn is_worth_it(
    extents: &[Extent],
    cost: &Cost,
    request_bytes_max: u64,
    times: f64,
) -> bool {
    let mut runs: Vec<(ObjectId, u64, u64)> = extents.iter().filter_map(run_of).collect();
    let len: u64 = runs.iter().map(|(_, from, to)| to - from).sum();
    if len == 0 {
        return false;
    }
    runs.sort_unstable();
    let now = fetched_as(&together(runs), request_bytes_max);
    // A run may begin and end within a frame: one run is never worth it, wherever it lies.
    let then = (len + 2 * FRAME_LEN, len.div_ceil(request_bytes_max));
    let takes_us = |(bytes, requests): (u64, u64)| {
        cost.transfer_us(bytes) + cost.latency_us * requests.div_ceil(PARALLEL) as f64
    };
    takes_us(now) >= takes_us(then) * times
}

fn run_of(extent: &Extent) -> Option<(ObjectId, u64, u64)> {
    match extent.source {
        ExtentSource::Object { object, at } => Some((object, at, at + extent.len)),
        ExtentSource::Inline(_) => None,
    }
}

/// Runs as a reader in order asks for them: those that lie close to each other with one request.
fn together(runs: Vec<(ObjectId, u64, u64)>) -> Vec<(ObjectId, u64, u64)> {
    let mut joined: Vec<(ObjectId, u64, u64)> = Vec::new();
    for (object, from, to) in runs {
        match joined.last_mut() {
            Some((last, _, end)) if *last == object && from <= *end + RUN_GAP_MAX => {
                *end = to.max(*end);
            }
            _ => joined.push((object, from, to)),
        }
    }
    joined
}

/// Bytes and requests for `runs`.
fn fetched_as(runs: &[(ObjectId, u64, u64)], request_bytes_max: u64) -> (u64, u64) {
    let lens = runs.iter().map(|(_, from, to)| frames_len(*from, *to));
    lens.fold((0, 0), |(bytes, requests), len| {
        (bytes + len, requests + len.div_ceil(request_bytes_max))
    })
}

/// Only whole frames can be fetched.
fn frames_len(from: u64, to: u64) -> u64 {
    to.next_multiple_of(FRAME_LEN) - from / FRAME_LEN * FRAME_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::SessionId;

    const PAGE: u64 = 4096;
    const PAGES: u64 = 2048;
    const REQUEST_MAX: u64 = 8 << 20;
    const NEAR: Cost = Cost {
        latency_us: 500.0,
        bandwidth: 500.0,
    };
    const FAR: Cost = Cost {
        latency_us: 20_000.0,
        bandwidth: 50.0,
    };

    fn extent(page: u64, pages: u64, object: u64, at: u64) -> Extent {
        let session = SessionId([3; 16]);
        Extent {
            offset: page * PAGE,
            len: pages * PAGE,
            source: ExtentSource::Object {
                object: ObjectId {
                    session,
                    number: object,
                },
                at: at * PAGE,
            },
        }
    }

    /// 8 MiB, page by page, each where `place` says: in which object, and which page of it.
    fn pages(place: impl Fn(u64) -> (u64, u64)) -> Vec<Extent> {
        let all = (0..PAGES).map(|page| {
            let (object, at) = place(page);
            extent(page, 1, object, at)
        });
        all.collect()
    }

    fn is_worth_it_at(cost: Cost, extents: &[Extent]) -> bool {
        is_worth_it(extents, &cost, REQUEST_MAX, 1.5)
    }

    #[test]
    fn a_piece_in_one_run_stays() {
        for cost in [NEAR, FAR] {
            assert!(!is_worth_it_at(cost, &[extent(0, PAGES, 1, 77)]));
            assert!(!is_worth_it_at(cost, &pages(|page| (1, page))));
            assert!(!is_worth_it_at(cost, &[]));
        }
    }

    #[test]
    fn a_piece_whose_frames_hold_mostly_other_bytes_is_put_in_order() {
        for cost in [NEAR, FAR] {
            assert!(is_worth_it_at(cost, &pages(|page| (1, page * 4))));
        }
    }

    #[test]
    fn a_piece_with_every_third_page_in_another_object_stays_as_long_as_those_lie_in_order() {
        let thirds = pages(|page| {
            if page % 3 == 0 {
                (2, page / 3)
            } else {
                (1, page)
            }
        });
        assert!(!is_worth_it_at(NEAR, &thirds));
        assert!(!is_worth_it_at(FAR, &thirds));
    }

    #[test]
    fn many_objects_are_many_requests_which_count_where_the_store_is_far_for_its_bandwidth() {
        let fast_and_far = Cost {
            latency_us: 20_000.0,
            bandwidth: 1000.0,
        };
        let in_sixteen = pages(|page| (page % 16, page / 16));
        assert!(is_worth_it_at(fast_and_far, &in_sixteen));
        assert!(!is_worth_it_at(FAR, &in_sixteen));
    }

    #[test]
    fn one_page_is_never_worth_it() {
        for cost in [NEAR, FAR] {
            assert!(!is_worth_it_at(cost, &[extent(5, 1, 1, 3)]));
        }
    }
}
