//! Leases and boundaries that come back, conditions that are not kept: who may write, and what is
//! believed of it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{DEADLINE, PATIENCE, Volume, assert_no_panic};
use crate::{
    support::{
        lying::{Kind, Lie, Op, Rule},
        mount::Mount,
        random::noise,
    },
    world::{
        Ended, Holds, Start, World, at, compare, exit_code, sync_dir, wait_start, write_synced,
    },
};

const LEASE: &str = "laptop/lease";

/// Files whose fsync returned 0, by name.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, u64>);

impl Acknowledged {
    fn write(&mut self, mount: &Mount<'_>, name: &str, seed: u64) -> Ended {
        let ended = write_synced(&at(mount, name), noise(seed, 3000), PATIENCE);
        if ended == Ended::Ok {
            self.0.insert(name.to_owned(), seed);
        }
        ended
    }

    fn missing(&self, mount: &Mount<'_>) -> Vec<(&str, Holds)> {
        let found = self.0.iter().map(|(name, seed)| {
            (
                name.as_str(),
                compare(&at(mount, name), noise(*seed, 3000), PATIENCE),
            )
        });
        found.filter(|(_, holds)| *holds != Holds::Right).collect()
    }
}

/// Says to a second mount that nobody has the volume. The metadata store lets one of them write.
#[test]
fn a_replayed_lease_that_is_free_lets_one_writer_win_and_loses_nothing() {
    let world = World::start();
    let first = world.begin_mount(&world.site.scratch("first"), &[]);
    first.wait_ready();
    first.unmount();
    let released = world.site.bucket().get(LEASE);
    let mut acknowledged = Acknowledged::default();
    let first = world.begin_mount(&world.site.scratch("first"), &[]);
    first.wait_ready();
    for number in 0..5 {
        assert_eq!(
            acknowledged.write(&first, &format!("first{number}"), number),
            Ended::Ok
        );
    }
    sync_dir(&first.dir);
    let replay = Rule::on([Op::Get]).of([Kind::Lease]);
    world
        .store
        .lie(replay.always(Lie::Instead(Arc::new(released))));
    let second = world.begin_mount(&world.site.scratch("second"), &[]);
    second.wait_ready();
    let mut both = 0;
    for number in 0..5 {
        let of_first = acknowledged.write(&first, &format!("late{number}"), 100 + number);
        let of_second = acknowledged.write(&second, &format!("second{number}"), 200 + number);
        both += u32::from(of_first == Ended::Ok && of_second == Ended::Ok);
    }
    assert_eq!(
        both, 0,
        "both writers were told that their files are durable"
    );
    world.store.heal();
    assert_no_panic(&first);
    assert_no_panic(&second);
    drop(first);
    exit_code(second, PATIENCE);
    let third = world.begin_mount(&world.site.scratch("third"), &["--takeover"]);
    third.wait_ready();
    assert_eq!(acknowledged.missing(&third), []);
    third.unmount();
}

/// Says that somebody has the volume. That stops a mount until it is told to take over, and no
/// longer.
#[test]
fn a_replayed_lease_that_is_held_stops_a_mount_until_takeover() {
    let volume = Volume::make();
    let world = &volume.world;
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    let held = world.site.bucket().get(LEASE);
    mount.unmount();
    let replay = Rule::on([Op::Get]).of([Kind::Lease]);
    world.store.lie(replay.always(Lie::Instead(Arc::new(held))));
    let mut mount = world.begin_mount(&volume.state, &[]);
    // The process that it names is dead on this machine, which may be enough.
    let start = wait_start(&mut mount, DEADLINE);
    assert!(
        matches!(start, Start::Mounted | Start::Ended(5)),
        "{start:?}: {}",
        mount.log_text()
    );
    drop(mount);
    let mount = world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    world.store.heal();
    exit_code(mount, PATIENCE);
    let mount = world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    mount.unmount();
}

/// An old boundary delays or repeats the deletion of metadata objects that nothing names.
#[test]
fn replayed_boundaries_of_collection_change_nothing_that_is_read() {
    let volume = Volume::make();
    let world = &volume.world;
    let past = world.past();
    for number in 0..3 {
        let mount = world.begin_mount(&volume.state, &[]);
        mount.wait_ready();
        assert_eq!(
            write_synced(
                &at(&mount, format!("b{number}")),
                noise(number, 3000),
                PATIENCE
            ),
            Ended::Ok
        );
        mount.unmount();
    }
    let boundaries = [Op::Get, Op::Head];
    let fired = world.store.lie(
        Rule::on(boundaries)
            .of([Kind::Boundary])
            .always(Lie::From(past.address())),
    );
    for _ in 0..3 {
        let mount = world.begin_mount(&volume.state, &[]);
        mount.wait_ready();
        assert_eq!(
            write_synced(&at(&mount, "again"), noise(7, 3000), PATIENCE),
            Ended::Ok
        );
        volume.assert_whole(&mount);
        assert_eq!(exit_code(mount, PATIENCE), Some(0));
    }
    eprintln!("{} boundaries were replayed", fired.count());
    world.store.heal();
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    for number in 0..3 {
        assert_eq!(
            compare(
                &at(&mount, format!("b{number}")),
                noise(number, 3000),
                PATIENCE
            ),
            Holds::Right
        );
    }
    mount.unmount();
}

/// The store keeps no condition: two mounts both think that they alone write. No wrong byte comes
/// of it, and each of their machines finds what it was promised, or refuses.
#[test]
fn two_winners_are_found_out_by_the_machines_that_were_promised_something() {
    let world = World::start();
    let (one, two) = (world.site.scratch("one"), world.site.scratch("two"));
    let first = world.begin_mount(&one, &[]);
    first.wait_ready();
    let mut of_first = Acknowledged::default();
    let mut of_second = Acknowledged::default();
    of_first.write(&first, "before", 1);
    world.store.lie(
        Rule::on([Op::Put])
            .conditional()
            .always(Lie::IgnoreCondition),
    );
    let second = world.begin_mount(&two, &["--takeover"]);
    second.wait_ready();
    for number in 0..10 {
        of_first.write(&first, &format!("first{number}"), 100 + number);
        of_second.write(&second, &format!("second{number}"), 200 + number);
    }
    assert_no_panic(&first);
    assert_no_panic(&second);
    first.kill();
    second.kill();
    world.store.heal();
    let promised = [("first", &one, &of_first), ("second", &two, &of_second)];
    for (name, state, acknowledged) in promised {
        found_or_refused(&world, name, state, acknowledged);
    }
}

fn found_or_refused(world: &World, name: &str, state: &Path, acknowledged: &Acknowledged) {
    eprintln!("{name}: {} files were acknowledged", acknowledged.0.len());
    let mut mount = world.begin_mount(state, &["--read-only", "--timeout", "20s"]);
    match wait_start(&mut mount, DEADLINE) {
        Start::Ended(code) => {
            eprintln!("{name}: refused with {code}: {}", mount.log_text().trim());
            assert!(code > 0);
        }
        Start::Mounted => {
            let missing = acknowledged.missing(&mount);
            assert!(
                missing.iter().all(|(_, holds)| *holds != Holds::Wrong),
                "{name}: {missing:?}"
            );
            assert_eq!(missing, [], "{name}: mounted without a word");
        }
        Start::Hangs => panic!("{name}: hangs"),
    }
    assert_no_panic(&mount);
}
