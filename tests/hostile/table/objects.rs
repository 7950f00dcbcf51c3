//! Data objects that are not what was written.

use std::{sync::Arc, time::Duration};

use super::{PATIENCE, Volume, assert_sound, read_to_error};
use crate::{
    support::lying::{Endless, Form, Lie, Op, Rule, answer::broken},
    world::{EIO, Holds, World, at, compare},
};

const HEADER_LEN: usize = 128;
const FRAME_LEN: usize = (64 << 10) + 16;

/// An object's header and its frames.
fn frames(object: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, rest) = object.split_at(HEADER_LEN);
    (
        header.to_vec(),
        rest.chunks(FRAME_LEN).map(<[u8]>::to_vec).collect(),
    )
}

fn joined(header: &[u8], frames: &[Vec<u8>]) -> Vec<u8> {
    [header, &frames.concat()].concat()
}

/// The first file's object is answered with a lie. Its read fails without a wrong byte; others are
/// read; and when the store is honest again, so is it, in the same mount.
fn read_fails_until_healed(volume: &Volume, lies: Vec<(&str, Lie)>) {
    lied_to(volume, lies, false);
}

fn lied_to(volume: &Volume, lies: Vec<(&str, Lie)>, may_be_right: bool) {
    let world = &volume.world;
    let victim = &volume.files[0];
    for (what, lie) in lies {
        // A mount for each: what was read once is cached.
        let mount = world.begin_mount(&world.site.scratch("reader"), &["--timeout", "20s"]);
        mount.wait_ready();
        let key = victim.key.clone();
        let fired = world.store.lie(
            Rule::on([Op::Get])
                .keys(move |asked| asked == key)
                .always(lie),
        );
        let (got, error) = read_to_error(&at(&mount, &victim.name), &victim.contents);
        assert!(fired.count() > 0, "{what}: nothing was asked for");
        match error {
            None => assert!(
                may_be_right && got == victim.contents.len(),
                "{what}: read {got} bytes"
            ),
            Some(errno) => assert!(
                [EIO, nix::libc::ETIMEDOUT].contains(&errno),
                "{what}: errno {errno}"
            ),
        }
        let other = &volume.files[2];
        let holds = compare(&at(&mount, &other.name), other.contents.clone(), PATIENCE);
        assert_eq!(
            holds,
            Holds::Right,
            "{what}: a file that has nothing to do with it"
        );
        world.store.heal();
        let holds = compare(&at(&mount, &victim.name), victim.contents.clone(), PATIENCE);
        assert_eq!(holds, Holds::Right, "{what}: after healing");
        assert_sound(&mount, what);
        mount.unmount();
    }
}

fn instead(object: Vec<u8>) -> Lie {
    Lie::Instead(Arc::new(object))
}

#[test]
fn flipped_bits_are_never_read() {
    let volume = Volume::make();
    let object = volume.world.site.bucket().get(&volume.files[0].key);
    let flipped = |at: usize| {
        let mut object = object.clone();
        object[at] ^= 0x10;
        instead(object)
    };
    let last = object.len() - 1;
    read_fails_until_healed(
        &volume,
        vec![
            ("in the first frame", flipped(HEADER_LEN)),
            ("in a tag", flipped(HEADER_LEN + FRAME_LEN - 1)),
            ("in the middle", flipped(object.len() / 2)),
            ("in the last tag", flipped(last)),
            ("in each answer", Lie::change(broken::flip)),
        ],
    );
}

#[test]
fn truncated_and_extended_objects_are_never_read_beyond_what_is_right() {
    let volume = Volume::make();
    let object = volume.world.site.bucket().get(&volume.files[0].key);
    let (header, mut all) = frames(&object);
    let lonely = joined(&header, &all[..all.len() - 1]);
    read_fails_until_healed(
        &volume,
        vec![
            ("half", instead(object[..object.len() / 2].to_vec())),
            ("the last frame is missing", instead(lonely)),
            (
                "a byte is missing",
                instead(object[..object.len() - 1].to_vec()),
            ),
            ("the header alone", instead(header.clone())),
        ],
    );
    all.push(all[0].clone());
    let longer = joined(&header, &all);
    lied_to(
        &volume,
        vec![
            ("a frame more", instead(longer)),
            ("bytes more", Lie::change(broken::longer)),
        ],
        true,
    );
}

#[test]
fn reordered_repeated_and_spliced_frames_are_never_read() {
    let volume = Volume::make();
    let bucket = volume.world.site.bucket();
    let (header, all) = frames(&bucket.get(&volume.files[0].key));
    let (_, others) = frames(&bucket.get(&volume.files[1].key));
    let mut reordered = all.clone();
    reordered.swap(3, 4);
    let mut repeated = all.clone();
    repeated[7] = repeated[6].clone();
    let mut dropped = all.clone();
    dropped.remove(5);
    let mut spliced = all.clone();
    spliced.truncate(all.len() / 2);
    spliced.extend_from_slice(&others[all.len() / 2..]);
    read_fails_until_healed(
        &volume,
        vec![
            ("reordered", instead(joined(&header, &reordered))),
            ("repeated", instead(joined(&header, &repeated))),
            ("one left out", instead(joined(&header, &dropped))),
            (
                "spliced with another object's",
                instead(joined(&header, &spliced)),
            ),
        ],
    );
}

#[test]
fn objects_in_the_place_of_others_are_never_read() {
    let volume = Volume::make();
    let other = volume.world.site.bucket().get(&volume.files[1].key);
    // Another volume with the same passphrase, whose file holds the same bytes.
    let stranger = World::start();
    let mount = stranger.begin_mount(&stranger.site.scratch("state"), &[]);
    mount.wait_ready();
    let ended = crate::world::write_synced(
        &at(&mount, "file0"),
        volume.files[0].contents.clone(),
        PATIENCE,
    );
    assert_eq!(ended, crate::world::Ended::Ok);
    mount.unmount();
    let keys = stranger.site.bucket().keys();
    let key = keys
        .iter()
        .find(|key| key.contains("/data/"))
        .expect("an object");
    let foreign = stranger.site.bucket().get(key);
    read_fails_until_healed(
        &volume,
        vec![
            ("swapped", instead(other)),
            ("another volume's", instead(foreign)),
            ("another range", Lie::OtherRange(FRAME_LEN as u64)),
            ("one byte further", Lie::OtherRange(1)),
        ],
    );
}

#[test]
fn a_deleted_or_hidden_object_fails_its_own_reads_only() {
    let volume = Volume::make();
    read_fails_until_healed(
        &volume,
        vec![("hidden", Lie::refuse(404, Form::Code("NoSuchKey")))],
    );
    let gone = &volume.files[0];
    volume.world.site.bucket().delete(&gone.key);
    let mount = volume
        .world
        .begin_mount(&volume.world.site.scratch("later"), &[]);
    mount.wait_ready();
    assert_eq!(
        read_to_error(&at(&mount, &gone.name), &gone.contents),
        (0, Some(EIO))
    );
    let log = mount.log_text();
    assert!(
        log.contains(gone.key.strip_prefix("laptop/").unwrap()),
        "the log does not name it: {log}"
    );
    for file in &volume.files[1..] {
        assert_eq!(
            compare(&at(&mount, &file.name), file.contents.clone(), PATIENCE),
            Holds::Right
        );
    }
    mount.unmount();
}

#[test]
fn an_answer_that_breaks_off_or_is_mislabelled_is_never_read_and_costs_few_requests() {
    let volume = Volume::make();
    for (what, lie) in [
        ("broken off", Lie::change(broken::cut_off)),
        ("empty and broken off", Lie::change(broken::empty)),
        ("half", Lie::change(broken::short)),
        ("a byte", Lie::change(broken::one_byte)),
        ("nothing", Lie::change(broken::nothing)),
        ("mislabelled", Lie::change(broken::mislabelled)),
    ] {
        volume.world.store.forget();
        let began = std::time::Instant::now();
        lied_to(&volume, vec![(what, lie)], true);
        let seconds = began.elapsed().as_secs_f64();
        let asked = volume
            .world
            .store
            .seen()
            .iter()
            .filter(|seen| seen.lied)
            .count();
        eprintln!("{what}: {asked} requests in {seconds:.1} s");
        assert!(
            (asked as f64) < 100.0 + seconds * 20.0,
            "{what}: {asked} requests in {seconds:.1} s"
        );
    }
}

#[test]
fn a_store_that_withholds_or_drips_ends_a_read_at_its_deadline() {
    let volume = Volume::make();
    read_fails_until_healed(
        &volume,
        vec![
            ("withheld", Lie::Withhold),
            (
                "a byte every two seconds",
                Lie::Drip(Duration::from_secs(2)),
            ),
        ],
    );
}

#[test]
fn endless_answers_to_reads_stay_within_memory() {
    let volume = Volume::make();
    for endless in [
        Endless::Object,
        Endless::ChunkedObject,
        Endless::Error(404),
        Endless::Error(503),
        Endless::Headers,
    ] {
        let sent = volume.world.store.endless_bytes();
        lied_to(
            &volume,
            vec![(&format!("{endless:?}"), Lie::Endless(endless))],
            false,
        );
        eprintln!(
            "{endless:?}: {} MiB taken",
            (volume.world.store.endless_bytes() - sent) >> 20
        );
    }
    assert!(volume.world.store.endless_bytes() > 0);
}
