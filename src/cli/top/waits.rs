//! The requests that wait, and for what, as far as a report tells.

use crate::session::activity::Activity;

/// A line: who waits, how many there are, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub who: String,
    pub count: u64,
    pub what: String,
}

/// Kinds of requests that have a line of their own.
const READS: [&str; 1] = ["read"];
const WRITES: [&str; 1] = ["write"];
const SYNCS: [&str; 3] = ["fsync", "fsyncdir", "flush"];

/// Owners whose memory writers wait for.
const WRITERS_OWNERS: [&str; 2] = ["dirty", "parked"];

/// All who wait at the moment of the answer, in an order that stays.
pub fn waits(activity: &Activity) -> Vec<Wait> {
    let status = &activity.status;
    let owners = &status.memory.owners;
    let durability = &status.durability;
    let for_memory: u64 = WRITERS_OWNERS
        .iter()
        .filter_map(|name| owners.get(*name))
        .map(|owner| owner.waiting)
        .sum();
    let in_flight = status.counters.get("requests_in_flight").copied();
    let mut waits = vec![
        Wait {
            who: "reads".to_owned(),
            count: under_way(activity, &READS),
            what: format!("store ({} downloads)", durability.downloads_in_flight),
        },
        Wait {
            who: "writes".to_owned(),
            count: under_way(activity, &WRITES),
            what: format!("memory ({for_memory} in line)"),
        },
        Wait {
            who: "fsyncs".to_owned(),
            count: under_way(activity, &SYNCS),
            what: format!("uploads ({} in flight)", durability.uploads_in_flight),
        },
        Wait {
            who: "others".to_owned(),
            count: others(activity),
            what: format!("store ({} requests)", in_flight.unwrap_or(0)),
        },
    ];
    for (name, owner) in owners {
        if owner.waiting > 0 && !WRITERS_OWNERS.contains(&name.as_str()) {
            waits.push(Wait {
                who: name.clone(),
                count: owner.waiting,
                what: "memory".to_owned(),
            });
        }
    }
    waits
}

fn under_way(activity: &Activity, kinds: &[&str]) -> u64 {
    let timed = kinds.iter().filter_map(|kind| activity.kernel.get(*kind));
    timed
        .map(|timed| timed.begun.saturating_sub(timed.answered()))
        .sum()
}

fn others(activity: &Activity) -> u64 {
    let all = READS.iter().chain(&WRITES).chain(&SYNCS);
    let own: Vec<&str> = all.copied().collect();
    let kinds = activity.kernel.keys().map(String::as_str);
    let kinds: Vec<&str> = kinds.filter(|kind| !own.contains(kind)).collect();
    under_way(activity, &kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{activity::Timed, memory::OwnerStatus};

    #[test]
    fn requests_without_an_answer_wait_and_owners_tell_who_is_in_line() {
        let mut activity = Activity::default();
        for (kind, begun, answered) in [
            ("read", 9, 5),
            ("fsync", 3, 2),
            ("flush", 1, 0),
            ("open", 7, 5),
        ] {
            let timed = Timed {
                begun,
                buckets: vec![answered],
            };
            activity.kernel.insert(kind.to_owned(), timed);
        }
        for (owner, waiting) in [("dirty", 2), ("parked", 1), ("read", 3), ("cache", 0)] {
            let status = OwnerStatus {
                waiting,
                ..OwnerStatus::default()
            };
            activity
                .status
                .memory
                .owners
                .insert(owner.to_owned(), status);
        }
        let waits = waits(&activity);
        let counts: Vec<_> = waits
            .iter()
            .map(|wait| (wait.who.as_str(), wait.count))
            .collect();
        assert_eq!(
            counts,
            [
                ("reads", 4),
                ("writes", 0),
                ("fsyncs", 2),
                ("others", 2),
                ("read", 3)
            ]
        );
        assert_eq!(waits[1].what, "memory (3 in line)");
    }
}
