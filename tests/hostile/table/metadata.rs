//! Metadata objects that are not what was written: the mount is refused, or what it shows is right.

use std::{fs, sync::Arc, time::Duration};

use super::{DEADLINE, PATIENCE, Volume, assert_no_panic};
use crate::{
    support::{
        lying::{Form, Kind, Lie, Op, Rule, answer::broken},
        mount::Mount,
        random::noise,
    },
    world::{EIO, Ended, Start, at, compare, exit_code, wait_start, write_synced},
};

const KINDS: [(Kind, &str); 3] = [
    (Kind::Log, "/meta/wal/"),
    (Kind::Table, "/meta/compacted/"),
    (Kind::Manifest, "/meta/manifest/"),
];

/// A volume whose newest files are in the log only: their mount was killed.
fn volume_with_a_log() -> Volume {
    let volume = Volume::make();
    let mount = volume.world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    for number in 0..4 {
        let path = at(&mount, format!("in-the-log-{number}"));
        assert_eq!(
            write_synced(&path, noise(50 + number, 3000), PATIENCE),
            Ended::Ok
        );
    }
    mount.kill();
    volume
}

/// Every name that must be there is there with its contents, or the operation fails with EIO;
/// nothing else.
fn assert_right_or_eio(volume: &Volume, mount: &Mount<'_>, what: &str) {
    let names = (0..4).map(|n| (format!("in-the-log-{n}"), noise(50 + n, 3000)));
    let files = volume
        .files
        .iter()
        .map(|file| (file.name.clone(), file.contents.clone()));
    for (name, contents) in names.chain(files) {
        match fs::read(at(mount, &name)) {
            Ok(found) => assert!(found == contents, "{what}: {name} holds something else"),
            // A machine that never saw the volume cannot know that the newest log object is
            // missing.
            Err(error) if what == "Log hidden" && name == "in-the-log-3" => {
                eprintln!("{what}: {name}: {error}")
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(EIO), "{what}: {name}: {error}"),
        }
    }
}

/// A mount from a machine that knows nothing of the volume; was it refused?
fn lied_to(volume: &Volume, what: &str, options: &[&str], number: u32) -> bool {
    let world = &volume.world;
    let machine = world.site.scratch(&format!("machine{number}"));
    let mut mount = world.begin_mount(&machine, options);
    let start = wait_start(&mut mount, DEADLINE);
    match start {
        Start::Mounted => {
            assert_right_or_eio(volume, &mount, what);
            assert_no_panic(&mount);
            world.store.heal();
            exit_code(mount, PATIENCE);
            false
        }
        Start::Ended(code) => {
            assert!(code > 0, "{what}: ended with {code}");
            assert_no_panic(&mount);
            world.store.heal();
            true
        }
        Start::Hangs => panic!("{what}: neither mounts nor ends"),
    }
}

fn every_kind_lied_about(options: &[&str]) {
    let volume = volume_with_a_log();
    let (mut refused, mut refused_or_mounted) = (0, 0);
    for (kind, dir) in KINDS {
        // Attempts that were let in have written some.
        let keys = volume.world.site.bucket().keys();
        let mine: Vec<String> = keys
            .iter()
            .filter(|key| key.contains(dir))
            .cloned()
            .collect();
        let newest = mine
            .last()
            .unwrap_or_else(|| panic!("no object in {dir}"))
            .clone();
        let other = mine.iter().rev().nth(1).cloned();
        let object = volume.world.site.bucket().get(&newest);
        let mut flipped = object.clone();
        let middle = object.len() / 2;
        flipped[middle] ^= 1;
        let mut longer = object.clone();
        longer.extend_from_slice(&[0; 100]);
        let mut lies = vec![
            ("flipped", Lie::Instead(Arc::new(flipped))),
            (
                "truncated",
                Lie::Instead(Arc::new(object[..object.len() - 20].to_vec())),
            ),
            ("extended", Lie::Instead(Arc::new(longer))),
            ("flipped in each answer", Lie::change(broken::flip)),
            ("hidden", Lie::refuse(404, Form::Code("NoSuchKey"))),
        ];
        if let Some(other) = other {
            let other = volume.world.site.bucket().get(&other);
            lies.push(("another of its kind", Lie::Instead(Arc::new(other))));
        }
        for (what, lie) in lies {
            let what = format!("{kind:?} {what}");
            let key = newest.clone();
            let rule = Rule::on([Op::Get, Op::Head]).keys(move |asked| asked == key);
            volume.world.store.lie(rule.always(lie));
            let was_refused = lied_to(&volume, &what, options, refused_or_mounted);
            refused_or_mounted += 1;
            eprintln!(
                "{what}: {}",
                if was_refused { "refused" } else { "mounted" }
            );
            refused += usize::from(was_refused);
        }
    }
    assert!(
        refused > 5,
        "only {refused} were noticed when the mount began"
    );
    // The attempts above have changed nothing.
    let mount = volume.world.begin_mount(&volume.state, &["--takeover"]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    for n in 0..4 {
        let holds = compare(
            &at(&mount, format!("in-the-log-{n}")),
            noise(50 + n, 3000),
            PATIENCE,
        );
        assert_eq!(holds, crate::world::Holds::Right);
    }
    mount.unmount();
}

#[test]
fn a_reader_of_changed_metadata_is_refused_or_right() {
    every_kind_lied_about(&["--read-only", "--timeout", "20s"]);
}

#[test]
fn a_writer_on_changed_metadata_is_refused_or_right_and_harms_nothing() {
    every_kind_lied_about(&["--takeover", "--timeout", "20s"]);
}

/// Old versions of data, tables and log objects cannot be replayed, because there are none.
#[test]
fn only_the_header_the_lease_and_the_boundaries_are_ever_written_twice() {
    let volume = volume_with_a_log();
    let world = &volume.world;
    for round in 0..3 {
        let mount = world.begin_mount(&volume.state, &["--takeover"]);
        mount.wait_ready();
        for (name, len) in [("again", 12 << 20), ("small", 200 << 10), ("tiny", 100)] {
            assert_eq!(
                write_synced(&at(&mount, name), noise(round, len), PATIENCE),
                Ended::Ok
            );
        }
        mount.unmount();
    }
    let mut written = std::collections::BTreeMap::<String, u32>::new();
    for seen in world.store.seen() {
        let writes = matches!(seen.op, Op::Put | Op::Complete)
            && seen.status.is_some_and(|status| status < 300);
        if writes
            && !matches!(
                seen.kind,
                Kind::Header | Kind::Lease | Kind::Boundary | Kind::Other
            )
        {
            *written.entry(seen.key).or_default() += 1;
        }
    }
    assert!(written.len() > 20, "{written:?}");
    let twice: Vec<_> = written.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written more than once: {twice:?}");
}

#[test]
fn a_store_that_withholds_metadata_ends_a_mount_within_its_patience() {
    let volume = Volume::make();
    for kind in [Kind::Header, Kind::Manifest, Kind::Table] {
        volume.world.store.lie(
            Rule::on([Op::Get, Op::List])
                .of([kind])
                .always(Lie::Withhold),
        );
        let mut mount = volume
            .world
            .begin_mount(&volume.world.site.scratch("other"), &["--timeout", "20s"]);
        let began = std::time::Instant::now();
        // A mount may wait for the store; whoever waits for it can end it.
        let start = wait_start(&mut mount, Duration::from_secs(5));
        if start == Start::Hangs {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(mount.pid() as i32),
                nix::sys::signal::Signal::SIGTERM,
            )
            .unwrap();
            assert!(
                matches!(wait_start(&mut mount, DEADLINE), Start::Ended(_)),
                "{kind:?}: SIGTERM does not end it"
            );
        }
        eprintln!("{kind:?}: ended after {:?}", began.elapsed());
        volume.world.store.heal();
    }
}
