//! The arithmetic of shares and lines, one rule at a time, without a governor around it.

use super::{Owner, Shares, accounts::*};

/// 16 bytes, of which 1 is guaranteed to dirty data, 4 to uploads and 2 to reads.
const SHARES: Shares = Shares {
    capacity_bytes: 16,
    dirty_min_bytes: 1,
    parked_min_bytes: 0,
    upload_min_bytes: 4,
    read_min_bytes: 2,
    table_min_bytes: 0,
    listing_min_bytes: 0,
};

fn accounts() -> Accounts<&'static str> {
    Accounts::new(SHARES)
}

fn nobody(_: &&str) -> bool {
    false
}

#[test]
fn a_request_leaves_the_others_what_they_are_guaranteed() {
    let mut accounts = accounts();
    assert_eq!(SHARES.max_bytes(Owner::Dirty), 10);
    assert_eq!(accounts.take(Owner::Dirty, 11), Err(1));
    assert_eq!(accounts.take(Owner::Dirty, 10), Ok(()));
    assert_eq!(accounts.take(Owner::Cache, 1), Err(1));
    assert_eq!(accounts.take(Owner::Upload, 4), Ok(()));
    assert_eq!(accounts.take(Owner::Read, 2), Ok(()));
    assert_eq!(accounts.reservations(), 3);
}

#[test]
fn what_is_missing_includes_guarantees_that_the_cache_holds() {
    let mut accounts = accounts();
    accounts.take(Owner::Read, 11).unwrap();
    accounts.move_between(Owner::Read, Owner::Cache, 11);
    assert_eq!(accounts.used_bytes(Owner::Cache), 11);
    // 11 + 1 + 4 + 2 are 18 of 16.
    assert_eq!(accounts.take(Owner::Dirty, 1), Err(2));
}

#[test]
fn a_line_is_served_from_its_head_and_nobody_of_that_owner_passes() {
    let mut accounts = accounts();
    accounts.take(Owner::Read, 10).unwrap();
    assert_eq!(
        accounts.enter(Owner::Read, 8, u64::MAX, "large"),
        Entry::Waits
    );
    assert_eq!(
        accounts.enter(Owner::Read, 1, u64::MAX, "small"),
        Entry::Waits
    );
    assert_eq!(accounts.take(Owner::Read, 1), Err(0), "two are earlier");
    assert_eq!(accounts.missing_to_waiters(), Some(7));
    assert!(accounts.serve(nobody).is_empty());
    // A cancelled head is taken out, and lets the next one through.
    let served = accounts.serve(|token| *token == "large");
    assert_eq!(served, [("large", None), ("small", Some((Owner::Read, 1)))]);
    assert_eq!(accounts.used_bytes(Owner::Read), 11);
    assert!(!accounts.is_awaited());
}

#[test]
fn lines_of_different_owners_do_not_wait_for_each_other() {
    let mut accounts = accounts();
    accounts.take(Owner::Dirty, 10).unwrap();
    assert_eq!(
        accounts.enter(Owner::Dirty, 1, u64::MAX, "write"),
        Entry::Waits
    );
    assert_eq!(accounts.take(Owner::Read, 2), Ok(()));
    assert!(!accounts.take_spare(Owner::Upload, 1), "somebody waits");
    assert_eq!(accounts.take(Owner::Upload, 1), Ok(()));
    assert_eq!(accounts.take(Owner::Cache, 0), Ok(()), "nothing is free");
}

#[test]
fn a_request_is_refused_if_its_owner_would_come_to_hold_too_much() {
    let mut accounts = accounts();
    accounts.take(Owner::Table, 9).unwrap();
    assert_eq!(accounts.enter(Owner::Table, 1, 9, "handle"), Entry::Refused);
    accounts.take(Owner::Dirty, 1).unwrap();
    assert_eq!(accounts.enter(Owner::Table, 1, 10, "one"), Entry::Waits);
    assert_eq!(
        accounts.enter(Owner::Table, 1, 10, "another"),
        Entry::Refused,
        "the one in line counts"
    );
}

#[test]
fn releasing_keeps_the_peak() {
    let mut accounts = accounts();
    accounts.take(Owner::Read, 5).unwrap();
    accounts.release(Owner::Read, 5);
    let usage = accounts.usage();
    let read = usage.iter().find(|usage| usage.owner == Owner::Read);
    let read = read.map(|read| (read.current_bytes, read.peak_bytes));
    assert_eq!(read, Some((0, 5)));
    assert_eq!(accounts.reservations(), 0);
}
