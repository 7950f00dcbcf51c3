//! The chain's arithmetic against logs in any order, whole and with one object of another history.

use proptest::prelude::*;

use super::*;

/// A commitment that nothing else has.
fn commitment(number: u64, history: u8) -> [u8; COMMITMENT_LEN] {
    let mut commitment = [0; COMMITMENT_LEN];
    for (i, byte) in commitment.iter_mut().enumerate() {
        *byte = (number * 131 + i as u64 * 7) as u8 ^ history;
    }
    let [a, b, c, d, ..] = &mut commitment;
    [*a, *b, *c, *d] = [
        (number >> 16) as u8 ^ history,
        (number >> 8) as u8,
        number as u8,
        history,
    ];
    commitment
}

fn position(number: u64, history: u8) -> LogPosition {
    match number {
        0 => LogPosition::START,
        _ => LogPosition {
            number,
            commitment: commitment(number, history),
        },
    }
}

/// Object `number` of a history that others share up to `fork`.
fn object(number: u64, fork: u64, history: u8) -> (LogPosition, Option<Link>) {
    let of = |number: u64| position(number, if number < fork { 1 } else { history });
    (of(number), Some(of(number - 1).link()))
}

fn whole(number: u64) -> (LogPosition, Option<Link>) {
    object(number, u64::MAX, 1)
}

/// Numbers from `first` on in the order in which replay may read them: at most `window` ahead of
/// the oldest unread one.
fn replay_order(first: u64, last: u64, window: u64, choices: &[u64]) -> Vec<u64> {
    let mut waiting: Vec<u64> = (first..=last).collect();
    let mut order = Vec::new();
    while let Some(oldest) = waiting.first() {
        let open = waiting
            .iter()
            .take_while(|number| **number < oldest + window);
        let chosen = choices[order.len() % choices.len()] as usize % open.count();
        order.push(waiting.remove(chosen));
    }
    order
}

proptest! {
    #[test]
    fn a_whole_log_is_whole_in_any_order(
        first in 1u64..50,
        len in 1u64..60,
        noted in 0u64..120,
        remembered in 0u64..120,
        order in Just(()).prop_perturb(|(), mut rng| (0..64).map(|_| rng.next_u64()).collect::<Vec<_>>()),
    ) {
        let last = first + len - 1;
        let mut chain = Chain::default();
        let hearsay = noted.min(last);
        chain.noted(position(hearsay, 1)).unwrap();
        chain.remember(position(remembered.min(last), 1)).unwrap();
        for number in replay_order(first, last, 128, &order) {
            let (position, link) = whole(number);
            chain.read(position, link).unwrap();
        }
        prop_assert_eq!(chain.fault(), None);
        prop_assert!(chain.certain().is_some());
        if hearsay + 1 >= first {
            prop_assert_eq!(chain.head(), Some(position(last, 1)));
            prop_assert_eq!(chain.next(last + 1), Ok(Next::Link(position(last, 1).link())));
        }
        prop_assert_eq!(chain.next(last), Ok(Next::Exists));
        let (next, link) = whole(last + 1);
        chain.written(next, link.unwrap()).unwrap();
        prop_assert_eq!(chain.head(), Some(next));
    }

    #[test]
    fn one_object_of_another_history_is_found_in_any_order(
        first in 1u64..50,
        len in 2u64..60,
        swapped in 0u64..60,
        fork in 0u64..60,
        order in Just(()).prop_perturb(|(), mut rng| (0..64).map(|_| rng.next_u64()).collect::<Vec<_>>()),
    ) {
        let last = first + len - 1;
        let swapped = first + swapped % len;
        let fork = 1 + fork % swapped;
        // The first object of the other history that is also the last one there is fits: it is the
        // end of that history.
        prop_assume!(!(fork == swapped && swapped == last));
        let mut chain = Chain::default();
        chain.noted(position(first - 1, 1)).unwrap();
        let mut found = None;
        for number in replay_order(first, last, 128, &order) {
            let (position, link) = if number == swapped { object(number, fork, 2) } else { whole(number) };
            if let Err(fault) = chain.read(position, link) {
                found.get_or_insert(fault);
            }
        }
        let fault = found.expect("not found");
        prop_assert!((swapped..=swapped + 1).contains(&fault.number()), "{:?}", fault);
        prop_assert_eq!(chain.fault(), Some(fault));
        prop_assert_eq!(chain.next(last + 1), Err(fault));
    }
}

#[test]
fn a_log_far_longer_than_what_is_remembered_is_checked_throughout() {
    const LAST: u64 = 5_000;
    let choices: Vec<u64> = (0..97).map(|i| i * i * 31 + 7).collect();
    for swapped in [
        None,
        Some(1),
        Some(2),
        Some(1_023),
        Some(1_024),
        Some(4_999),
    ] {
        let mut chain = Chain::default();
        chain.noted(LogPosition::START).unwrap();
        let mut found = None;
        // SlateDB probes these numbers before it replays.
        let probed = (0..13).map(|exponent| 1 << exponent);
        for number in probed.chain(replay_order(1, LAST, 128, &choices)) {
            let (position, link) = match Some(number) == swapped {
                true => object(number, number, 2),
                false => whole(number),
            };
            if let Err(fault) = chain.read(position, link) {
                found.get_or_insert(fault);
            }
            assert!(chain.entries.len() <= ENTRIES_MAX);
        }
        match swapped {
            None => {
                assert_eq!(chain.fault(), None);
                assert_eq!(chain.head(), Some(position(LAST, 1)));
            }
            Some(number) => assert_eq!(found, Some(LogFault::Diverges { number: number + 1 })),
        }
    }
}

#[test]
fn a_log_of_format_1_has_a_head_and_turns_into_a_chain_but_never_back() {
    let mut chain = Chain::default();
    for number in [7, 9, 8] {
        chain.read(position(number, 1), None).unwrap();
    }
    assert_eq!(chain.head(), Some(position(9, 1)));
    assert_eq!(chain.certain(), None, "nothing but the bucket says so");
    let (next, link) = whole(10);
    chain.written(next, link.unwrap()).unwrap();
    assert_eq!(chain.certain(), Some(next));
    assert_eq!(
        chain.read(position(11, 1), None),
        Err(LogFault::Unlinked { number: 11 })
    );
    // Known the other way round.
    let mut chain = Chain::default();
    chain.read(position(12, 1), None).unwrap();
    let (linked, link) = whole(10);
    assert_eq!(
        chain.read(linked, link),
        Err(LogFault::Unlinked { number: 12 })
    );
}

#[test]
fn what_is_known_by_hearsay_is_neither_written_over_nor_taken_for_read() {
    let mut chain = Chain::default();
    chain.noted(position(5, 1)).unwrap();
    chain.remember(position(8, 1)).unwrap();
    assert_eq!(chain.head(), Some(position(5, 1)));
    assert_eq!(chain.next(6), Ok(Next::Later(8)));
    assert_eq!(chain.next(9), Ok(Next::Link(position(8, 1).link())));
    assert_eq!(chain.from(6), Some(8));
    assert_eq!(chain.from(9), None);
    for number in 6..=7 {
        let (position, link) = whole(number);
        chain.read(position, link).unwrap();
    }
    assert_eq!(chain.head(), Some(position(7, 1)));
    assert_eq!(
        chain.read(position(8, 2), Some(position(7, 1).link())),
        Err(LogFault::Replaced { number: 8 })
    );
    chain.tolerate();
    assert_eq!(chain.fault(), None);
    chain
        .read(position(8, 2), Some(position(7, 1).link()))
        .unwrap();
    assert_eq!(chain.head(), Some(position(8, 2)));
}
