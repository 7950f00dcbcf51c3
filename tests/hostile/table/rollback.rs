//! A store that answers with an old state, or with another volume.

use std::{ops::Range, path::Path};

use super::{DEADLINE, PATIENCE, Volume, assert_no_panic};
use crate::{
    support::{
        lying::{Form, Kind, Lie, Op, Rule},
        mount::Mount,
        random::noise,
        wait::block_until,
    },
    world::{
        EIO, Ended, Holds, Past, Start, World, at, compare, exit_code, wait_start, write_synced,
    },
};

/// Writes a file, unmounts.
fn generation(world: &World, state: &Path, name: &str) {
    let mount = world.begin_mount(state, &[]);
    mount.wait_ready();
    assert_eq!(
        write_synced(&at(&mount, name), noise(9, 3000), PATIENCE),
        Ended::Ok
    );
    mount.unmount();
}

/// Writes and syncs the files with these numbers.
fn write_files(mount: &Mount<'_>, prefix: &str, numbers: Range<u64>) {
    for number in numbers {
        let path = at(mount, format!("{prefix}{number}"));
        assert_eq!(
            write_synced(&path, noise(number, 3000), PATIENCE),
            Ended::Ok
        );
    }
}

/// Leads the client back to the honest store, which must still have the files with these numbers.
fn assert_honest_store_has_files(world: &World, state: &Path, numbers: Range<u64>) {
    world.store.lead_to(world.site.server().local_addr());
    let mount = world.begin_mount(state, &["--takeover"]);
    mount.wait_ready();
    for number in numbers {
        let path = at(&mount, format!("f{number}"));
        assert_eq!(compare(&path, noise(number, 3000), PATIENCE), Holds::Right);
    }
    mount.unmount();
}

/// A mount by this machine ends with an error.
fn assert_mount_fails(world: &World, state: &Path) {
    let mut mount = world.begin_mount(state, &["--takeover"]);
    let start = wait_start(&mut mount, DEADLINE);
    assert!(
        matches!(start, Start::Ended(code) if code > 0),
        "{start:?}: {}",
        mount.log_text()
    );
}

/// The mount is refused, and nothing is written.
fn assert_refused(world: &World, state: &Path, options: &[&str], what: &str) -> i32 {
    world.store.forget();
    let mut mount = world.begin_mount(state, options);
    let start = wait_start(&mut mount, DEADLINE);
    assert_no_panic(&mount);
    let Start::Ended(code) = start else {
        panic!("{what}: {start:?}: {}", mount.log_text());
    };
    assert!(code > 0, "{what}: exit {code}");
    let written: Vec<_> = world
        .store
        .seen()
        .into_iter()
        .filter(|seen| seen.op.is_write())
        .map(|seen| (seen.op, seen.key))
        .collect();
    assert!(
        written.is_empty(),
        "{what}: a refused mount wrote {written:?}"
    );
    code
}

#[test]
fn a_rolled_back_volume_is_refused_fifty_times_and_not_one_object_is_written() {
    let world = World::start();
    let state = world.site.scratch("known");
    let mut pasts = Vec::new();
    for number in 0..4 {
        generation(&world, &state, &format!("file{number}"));
        if number == 2 {
            // Opening this state for writing finds something to repair. The next mount does it.
            let copy = world.site.bucket().keys();
            let copy = copy
                .iter()
                .find(|key| key.ends_with("/strongroom.copy.json"));
            world
                .site
                .bucket()
                .delete(copy.expect("the copy of the header"));
        }
        pasts.push(world.past());
    }
    for (older, times) in [(1, 50), (2, 3), (3, 3)] {
        world.store.lead_to(pasts[3 - older].address());
        for attempt in 0..times {
            for options in [&[][..], &["--read-only"], &["--takeover"]]
                .iter()
                .take(if attempt == 0 { 3 } else { 1 })
            {
                let what = format!("{older} unmounts older, attempt {attempt} {options:?}");
                assert_eq!(assert_refused(&world, &state, options, &what), 24, "{what}");
            }
        }
    }
    world.store.lead_to(world.site.server().local_addr());
    let mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    for number in 0..4 {
        assert_eq!(
            compare(
                &at(&mount, format!("file{number}")),
                noise(9, 3000),
                PATIENCE
            ),
            Holds::Right
        );
    }
    mount.unmount();
}

#[test]
fn what_was_fsynced_before_a_kill_is_not_rolled_back_unnoticed() {
    let world = World::start();
    let state = world.site.scratch("known");
    let mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    let mut pasts = Vec::new();
    for number in 0..20 {
        assert_eq!(
            write_synced(
                &at(&mount, format!("f{number}")),
                noise(number, 3000),
                PATIENCE
            ),
            Ended::Ok
        );
        // The last sync before the kill may not be noted yet, so the state before it passes for
        // the newest.
        if [0, 9, 17].contains(&number) {
            pasts.push((number, world.past()));
        }
    }
    mount.kill();
    for (number, past) in &pasts {
        world.store.lead_to(past.address());
        assert_refused(
            &world,
            &state,
            &["--takeover"],
            &format!("state after file {number}"),
        );
    }
    assert_honest_store_has_files(&world, &state, 0..20);
}

/// A volume whose last log objects were hidden by the store, which takes others under their names.
fn without_newest_log(world: &World, hidden: usize) -> (Past, Vec<String>) {
    let mut log: Vec<String> = world.site.bucket().keys();
    log.retain(|key| Kind::of(key) == Kind::Log);
    let newest = log.split_off(log.len() - hidden);
    let past = world.past();
    for key in &newest {
        past.bucket().delete(key);
    }
    (past, newest)
}

#[test]
fn hidden_log_objects_are_missed_though_the_store_takes_others_under_their_names() {
    // The newest may not have been noted on this machine when its mount is killed.
    for hidden in [2, 3] {
        let world = World::start();
        let state = world.site.scratch("known");
        let mount = world.begin_mount(&state, &[]);
        mount.wait_ready();
        write_files(&mount, "f", 0..5);
        mount.kill();
        let (fork, _) = without_newest_log(&world, hidden);
        world.store.lead_to(fork.address());
        for _ in 0..3 {
            assert_refused(
                &world,
                &state,
                &["--takeover"],
                &format!("{hidden} log objects hidden"),
            );
        }
        assert_honest_store_has_files(&world, &state, 0..5);
    }
}

/// Two histories were written: one on a machine that knows nothing of the other. Log objects of one
/// are shown among those of the other.
#[test]
fn log_objects_of_another_branch_are_refused() {
    let world = World::start();
    let state = world.site.scratch("first");
    let mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    write_files(&mount, "f", 0..5);
    mount.kill();
    let (fork, hidden) = without_newest_log(&world, 2);
    world.store.lead_to(fork.address());
    let mount = world.begin_mount(&world.site.scratch("second"), &["--takeover"]);
    mount.wait_ready();
    write_files(&mount, "g", 0..5);
    mount.kill();
    // One object of the first branch in the second, under its own name.
    for key in &hidden {
        let object = world_object(&world, key);
        let name = key.clone();
        let rule = Rule::on([Op::Get, Op::Head]).keys(move |asked| asked == name);
        world
            .store
            .lie(rule.always(Lie::Instead(std::sync::Arc::new(object))));
        for machine in ["second", "third"] {
            assert_mount_fails(&world, &world.site.scratch(machine));
        }
        world.store.heal();
    }
    // The machine that saw the first branch refuses the second.
    assert_refused(&world, &state, &["--takeover"], "the other branch");
}

/// The object as the server holds it, whatever store the client is led to.
fn world_object(world: &World, key: &str) -> Vec<u8> {
    let fork = world.past();
    fork.bucket().get(key)
}

#[test]
fn another_volume_in_its_place_is_refused_though_the_passphrase_opens_it() {
    let world = World::start();
    let state = world.site.scratch("known");
    generation(&world, &state, "mine");
    let stranger = World::start();
    generation(
        &stranger,
        &stranger.site.scratch("state"),
        "attackers-choice",
    );
    world.store.lead_to(stranger.site.server().local_addr());
    for options in [&[][..], &["--read-only"], &["--takeover"]] {
        for _ in 0..3 {
            assert_refused(&world, &state, options, "another volume");
        }
    }
    world.store.lead_to(world.site.server().local_addr());
    let mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    assert_eq!(
        compare(&at(&mount, "mine"), noise(9, 3000), PATIENCE),
        Holds::Right
    );
    mount.unmount();
}

#[test]
fn a_follower_never_goes_back() {
    let world = World::start();
    let writer = world.begin_mount(&world.site.scratch("writer"), &[]);
    writer.wait_ready();
    assert_eq!(
        write_synced(&at(&writer, "old"), noise(1, 3000), PATIENCE),
        Ended::Ok
    );
    let past = world.past();
    assert_eq!(
        write_synced(&at(&writer, "new"), noise(2, 3000), PATIENCE),
        Ended::Ok
    );
    crate::world::sync_dir(&writer.dir);
    let reader = world.begin_mount(
        &world.site.scratch("reader"),
        &["--read-only", "--timeout", "20s"],
    );
    reader.wait_ready();
    block_until("the follower follows", PATIENCE, || {
        at(&reader, "new").exists()
    });
    // Only what the reader asks for comes from the past: the writer would notice.
    writer.unmount();
    world.store.lead_to(past.address());
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(6) {
        match std::fs::read(at(&reader, "new")) {
            Ok(found) => assert!(found == noise(2, 3000)),
            Err(error) => assert_eq!(
                error.raw_os_error(),
                Some(EIO),
                "the follower went back: {error}"
            ),
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    world.store.lead_to(world.site.server().local_addr());
    assert_no_panic(&reader);
    exit_code(reader, PATIENCE);
}

/// The store loses what it acknowledged, under a mount that goes on writing.
#[test]
fn log_objects_that_the_store_lost_under_a_living_mount_are_missed_by_the_next() {
    let volume = Volume::make();
    let world = &volume.world;
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    write_files(&mount, "f", 0..3);
    let (fork, _) = without_newest_log(world, 1);
    world.store.lead_to(fork.address());
    for number in 3..6 {
        write_synced(
            &at(&mount, format!("f{number}")),
            noise(number, 3000),
            PATIENCE,
        );
    }
    mount.kill();
    for machine in [volume.state.clone(), world.site.scratch("another")] {
        assert_mount_fails(world, &machine);
    }
}

#[test]
fn manifests_that_are_hidden_make_no_new_database() {
    let volume = Volume::make();
    let world = &volume.world;
    for (what, keys) in [("manifests", "/meta/manifest/"), ("all metadata", "/meta/")] {
        world
            .store
            .hide(move |key| format!("/{key}").contains(keys));
        for machine in [volume.state.clone(), world.site.scratch("another")] {
            for _ in 0..3 {
                assert_refused(world, &machine, &["--takeover"], &format!("{what} hidden"));
            }
        }
        world.store.heal();
    }
    world
        .store
        .lie(Rule::on([Op::List]).always(Lie::refuse(404, Form::Code("NoSuchKey"))));
    let mut mount = world.begin_mount(&volume.state, &[]);
    assert_ne!(wait_start(&mut mount, DEADLINE), Start::Hangs);
    drop(mount);
    world.store.heal();
    let mount = world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    mount.unmount();
}
