//! Answers have a bound before they are authenticated: answers without an end, listings without an
//! end, texts for the terminal.

use super::{
    DEADLINE, MEMORY_BYTES, PATIENCE, Volume, assert_no_panic, assert_sound, watch_memory,
};
use crate::{
    support::{
        lying::{Endless, Form, Kind, Lie, Op, Rule},
        random::noise,
    },
    world::{Ended, Holds, Start, at, compare, exit_code, let_go_lazily, wait_start, write_synced},
};

/// Sends endless answers to a mount that begins; it ends or mounts within the deadline and its
/// memory.
fn begins_bounded(ops: &[Op], kinds: &[Kind], endless: Endless) {
    let volume = Volume::make();
    let world = &volume.world;
    for options in [
        &["--timeout", "20s"][..],
        &["--timeout", "20s", "--read-only"],
    ] {
        let fired = world
            .store
            .lie(Rule::on(ops).of(kinds).always(Lie::Endless(endless)));
        let before = world.store.endless_bytes();
        let mut mount = world.begin_mount(&volume.state, options);
        let (done, peak) = watch_memory(mount.pid(), DEADLINE, || {
            mount.has_ended() || mount.is_mounted()
        });
        let taken = (world.store.endless_bytes() - before) >> 20;
        eprintln!(
            "{endless:?} {ops:?} {kinds:?} {options:?}: met {}, done {done}, peak {} MiB, {taken} MiB taken",
            fired.count(),
            peak >> 20
        );
        assert!(
            peak < MEMORY_BYTES,
            "peak {} MiB after {taken} MiB",
            peak >> 20
        );
        assert!(done, "neither mounts nor ends");
        assert_no_panic(&mount);
        if !mount.has_ended() {
            let_go_lazily(&mount.dir);
        }
        world.store.heal();
        let _ = wait_start(&mut mount, PATIENCE);
        drop(mount);
    }
    let mount = world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    assert_eq!(exit_code(mount, PATIENCE), Some(0));
}

#[test]
fn an_endless_body_of_a_listing_is_cut() {
    begins_bounded(&[Op::List], &[], Endless::Listing);
}

#[test]
fn endless_pages_of_a_listing_end() {
    begins_bounded(&[Op::List], &[], Endless::Pages);
}

#[test]
fn pages_of_a_listing_that_do_not_advance_end() {
    begins_bounded(&[Op::List], &[], Endless::SamePages);
}

#[test]
fn an_endless_error_to_the_header_is_cut() {
    begins_bounded(&[Op::Get], &[Kind::Header], Endless::Error(404));
}

#[test]
fn an_endless_header_object_is_cut() {
    begins_bounded(&[Op::Get], &[Kind::Header], Endless::Object);
    begins_bounded(&[Op::Get], &[Kind::Header], Endless::ChunkedObject);
}

#[test]
fn an_endless_lease_is_cut() {
    begins_bounded(&[Op::Get], &[Kind::Lease], Endless::Object);
}

#[test]
fn an_endless_manifest_is_cut() {
    begins_bounded(&[Op::Get], &[Kind::Manifest], Endless::Object);
}

#[test]
fn an_endless_head_of_an_answer_is_cut() {
    begins_bounded(&[Op::Get, Op::List, Op::HeadBucket], &[], Endless::Headers);
}

/// A dead session is cleared in the background: the mount is there, and stays within its memory.
#[test]
fn endless_pages_of_unfinished_uploads_stay_within_memory() {
    let volume = Volume::make();
    let world = &volume.world;
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    write_synced(&at(&mount, "made"), noise(1, 300 << 10), PATIENCE);
    mount.kill();
    let fired = world
        .store
        .lie(Rule::on([Op::ListUploads]).always(Lie::Endless(Endless::UploadPages)));
    let mount = world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    assert!(fired.wait(PATIENCE));
    let mut pages = 0;
    let (_, peak) = watch_memory(mount.pid(), std::time::Duration::from_secs(20), || {
        pages = fired.count();
        false
    });
    assert!(
        peak < MEMORY_BYTES,
        "peak {} MiB after {pages} pages",
        peak >> 20
    );
    volume.assert_whole(&mount);
    world.store.heal();
    assert_eq!(exit_code(mount, PATIENCE), Some(0));
}

#[test]
fn endless_answers_to_writes_stay_within_memory_and_lose_nothing() {
    let volume = Volume::make();
    let world = &volume.world;
    let mount = world.begin_mount(&volume.state, &["--timeout", "20s"]);
    mount.wait_ready();
    let mut number = 0;
    for op in [Op::Put, Op::Create, Op::UploadPart, Op::Complete] {
        for endless in [
            Endless::Error(400),
            Endless::Error(503),
            Endless::ChunkedObject,
            Endless::Headers,
        ] {
            number += 1;
            let what = format!("{endless:?} to {op:?}");
            let fired = world
                .store
                .lie(Rule::on([op]).times(2, Lie::Endless(endless)));
            let (path, contents) = (at(&mount, format!("w{number}")), noise(number, 11 << 20));
            let (file, bytes) = (path.clone(), contents.clone());
            let writing = std::thread::spawn(move || write_synced(&file, bytes, PATIENCE));
            let (_, peak) = watch_memory(mount.pid(), DEADLINE, || writing.is_finished());
            assert!(peak < MEMORY_BYTES, "{what}: peak {} MiB", peak >> 20);
            assert!(fired.count() > 0, "{what}: met nothing");
            world.store.heal();
            let ended = crate::world::sync(&path, PATIENCE);
            let ended = if ended == Ended::Ok {
                ended
            } else {
                crate::world::sync(&path, PATIENCE)
            };
            assert_eq!(ended, Ended::Ok, "{what}");
            assert_eq!(compare(&path, contents, PATIENCE), Holds::Right, "{what}");
        }
    }
    assert_sound(&mount, "after endless answers to writes");
    assert_eq!(exit_code(mount, DEADLINE), Some(0));
}

#[test]
fn texts_of_the_store_reach_the_terminal_without_control_characters() {
    let volume = Volume::make();
    let world = &volume.world;
    // As XML may carry them: a reference for what may not stand there itself.
    let code = "Bad&#27;[2J&#7;\u{1b}]0;owned\u{7}\u{9b}31m";
    for op in [Op::HeadBucket, Op::Get, Op::List, Op::Put] {
        world
            .store
            .lie(Rule::on([op]).always(Lie::refuse(400, Form::Code(code))));
        let mut mount = world.begin_mount(&world.site.scratch("other"), &["--timeout", "20s"]);
        let start = wait_start(&mut mount, DEADLINE);
        if start != Start::Mounted {
            assert_ne!(start, Start::Hangs, "{op:?}");
        }
        let log = mount.log_text();
        let control = log.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{op:?}: {log:?}");
        drop(mount);
        world.store.heal();
    }
}
