//! The policy's rules, one at a time.

use super::*;
use crate::meta::SessionId;

const FRAME: u64 = 64 << 10;
const GIB: u64 = 1 << 30;
const FAR: Cost = Cost {
    latency_us: 20_000.0,
    bandwidth: 500.0,
};
const NEAR: Cost = Cost {
    latency_us: 200.0,
    bandwidth: 500.0,
};

fn miss(object: u64, frame: u64) -> Miss {
    Miss {
        object: ObjectId {
            session: SessionId([0; 16]),
            number: object,
        },
        frames: frame..frame + 1,
        object_frames: 4096,
        frame_len: FRAME,
        was_evicted: false,
    }
}

/// Misses frames that were not fetched yet, in steps of `stride`; returns how many misses until
/// something was fetched along.
fn misses_until_bought(cost: &Cost, memory_bytes: u64, stride: u64) -> u64 {
    let mut density = Density::new(REGION_MIN_LOG2);
    for count in 1..=4096 {
        let miss = miss(0, (count - 1) * stride % 4096);
        if density.on_miss(&miss, cost, memory_bytes, Outcome::default()) != miss.frames {
            return count;
        }
    }
    u64::MAX
}

#[test]
fn a_far_store_is_asked_for_a_region_at_the_second_miss_in_it_and_a_near_one_later() {
    assert_eq!(misses_until_bought(&FAR, GIB, 1), 2);
    // 0.33 ms each, and 512 KiB take 1.2 ms.
    assert_eq!(misses_until_bought(&NEAR, GIB, 1), 3);
    let slow = Cost {
        bandwidth: 20.0,
        ..NEAR
    };
    // 3.5 ms each, and the rest of 512 KiB 13.3.
    assert_eq!(misses_until_bought(&slow, GIB, 1), 4);
}

#[test]
fn misses_that_are_scattered_over_an_object_buy_it_as_a_whole_where_that_is_paid_for() {
    // 256 MiB take 537 ms, and a miss 20.
    let mut density = Density::new(REGION_MIN_LOG2);
    let mut largest = 0;
    let mut count = 0;
    while largest < 4096 {
        count += 1;
        let miss = miss(0, count * 1601 % 4096);
        let region = density.on_miss(&miss, &FAR, GIB, Outcome::default());
        largest = largest.max(region.end - region.start);
        assert!(count <= 28, "{count} misses");
    }
}

#[test]
fn where_memory_is_short_nothing_is_fetched_along() {
    assert_eq!(misses_until_bought(&FAR, 8 * FRAME, 1), u64::MAX);
    // A sixteenth of what is read all over.
    assert_eq!(misses_until_bought(&FAR, 256 * FRAME, 1601), u64::MAX);
}

#[test]
fn what_was_evicted_unread_or_wanted_back_stops_it_until_it_is_made_up_for() {
    let mut density = Density::new(REGION_MIN_LOG2);
    let memory = GIB;
    let mut buys = |outcome: Outcome, was_evicted: bool, object: u64| {
        let in_a_row = (0..3).map(|frame| Miss {
            was_evicted,
            ..miss(object, frame)
        });
        let mut outcome = Some(outcome);
        let mut buys = false;
        for miss in in_a_row {
            let outcome = outcome.take().unwrap_or_default();
            buys |= density.on_miss(&miss, &FAR, memory, outcome) != miss.frames;
        }
        buys
    };
    let unread = |unread_bytes| Outcome {
        unread_bytes,
        ..Outcome::default()
    };
    let used = |used_bytes| Outcome {
        used_bytes,
        ..Outcome::default()
    };
    assert!(buys(unread(0), false, 1));
    assert!(!buys(unread(2 * GIB), true, 2));
    assert!(!buys(unread(0), true, 3));
    assert!(buys(used(GIB / 4), false, 4));
}

#[test]
fn the_answer_contains_what_was_missed_and_ends_where_the_object_does() {
    let mut seed = 3_u64;
    let mut next = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % bound
    };
    let mut density = Density::new(REGION_MIN_LOG2);
    for _ in 0..20_000 {
        let object = next(5);
        let object_frames = [1, 7, 53, 1000, 4096][object as usize];
        let start = next(object_frames);
        let miss = Miss {
            frames: start..(start + 1 + next(3)).min(object_frames),
            object_frames,
            was_evicted: next(4) == 0,
            ..miss(object, 0)
        };
        let outcome = Outcome {
            arrived_bytes: next(8) * FRAME,
            used_bytes: next(4) * FRAME,
            unread_bytes: next(4) * FRAME,
        };
        let cost = [NEAR, FAR][next(2) as usize];
        let region = density.on_miss(&miss, &cost, next(GIB), outcome);
        assert!(region.start <= miss.frames.start && miss.frames.end <= region.end);
        assert!(region.end <= object_frames);
    }
    let (held, held_max) = density.held_bytes();
    assert!(held <= held_max);
}
