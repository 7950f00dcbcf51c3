//! A client dies while the store treats the parts of one file, or two files, differently: the
//! contents that are in the store then.

use std::{
    fs::{self, File},
    io::Write,
    thread,
    time::Duration,
};

use crate::{
    support::{
        lying::{Form, Kind, Lie, Op, Rule},
        random::noise,
        wait::block_until_quiet,
    },
    world::{Ended, Holds, World, at, compare, exit_code, sync, write_synced},
};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// Sizes follow bytes: an object that is late keeps the size down, however much of what lies behind
/// it is in the store.
#[test]
fn after_a_crash_no_file_is_larger_than_what_was_stored_of_it() {
    for op in [Op::Complete, Op::UploadPart] {
        let world = World::start();
        // So that it goes out in several objects.
        let options = ["--upload-delay", "1s"];
        let mount = world.begin_mount(&world.site.scratch("state"), &options);
        mount.wait_ready();
        let contents = noise(3, 80 * MIB);
        let held = world
            .store
            .lie(Rule::on([op]).of([Kind::Data]).once(Lie::Withhold));
        let mut file = File::create(at(&mount, "file")).unwrap();
        for piece in contents.chunks(MIB) {
            file.write_all(piece).unwrap();
            // Writing is as slow as a backup over a network, so that uploads begin meanwhile.
            thread::sleep(Duration::from_millis(60));
        }
        assert!(held.wait(PATIENCE));
        // The other objects of the file are stored meanwhile.
        let quiet = Duration::from_millis(1500);
        block_until_quiet("uploads", quiet, PATIENCE, || world.store.requests());
        mount.kill();
        drop(file);
        world.store.heal();
        let mount = world.begin_mount(&world.site.scratch("another"), &["--takeover"]);
        mount.wait_ready();
        let found = fs::read(at(&mount, "file")).unwrap_or_default();
        let wrong = found
            .chunks(MIB)
            .zip(contents.chunks(MIB))
            .position(|(a, b)| !b.starts_with(a));
        eprintln!("{op:?}: {} of 80 MiB are there", found.len() / MIB);
        assert_eq!(
            wrong,
            None,
            "{op:?}: of {} MiB, this one was never stored",
            found.len() / MIB
        );
        assert!(found.len() <= contents.len());
        mount.unmount();
    }
}

/// Errors belong to a file: what the store refuses of one says nothing of another.
#[test]
fn a_file_whose_upload_is_refused_fails_no_other() {
    let world = World::start();
    let mount = world.begin_mount(&world.site.scratch("state"), &[]);
    mount.wait_ready();
    let refuse = |code| Lie::refuse(403, Form::Code(code));
    world.store.lie(
        Rule::on([Op::UploadPart, Op::Create])
            .of([Kind::Data])
            .always(refuse("AccessDenied")),
    );
    let large = noise(1, 12 * MIB);
    let first = write_synced(
        &at(&mount, "refused"),
        large.clone(),
        Duration::from_secs(10),
    );
    assert_ne!(first, Ended::Ok, "nothing of it is in the store");
    for number in 0..10 {
        let len = [1000, 200 << 10][number as usize % 2];
        let name = format!("other{number}");
        assert_eq!(
            write_synced(&at(&mount, &name), noise(number, len), PATIENCE),
            Ended::Ok,
            "{name}"
        );
    }
    world.store.heal();
    let path = at(&mount, "refused");
    let again = sync(&path, PATIENCE);
    assert!(
        again == Ended::Ok || sync(&path, PATIENCE) == Ended::Ok,
        "{again:?}"
    );
    assert_eq!(exit_code(mount, PATIENCE), Some(0));
    let mount = world.begin_mount(&world.site.scratch("another"), &[]);
    mount.wait_ready();
    assert_eq!(
        compare(&at(&mount, "refused"), large, PATIENCE),
        Holds::Right
    );
    mount.unmount();
}

/// Four writers, whose parts are sent twice, the first copy arriving last: the bytes are the same,
/// the tags are not.
#[test]
fn uploads_whose_parts_come_late_recover() {
    let world = World::start();
    let mount = world.begin_mount(&world.site.scratch("state"), &[]);
    mount.wait_ready();
    for lie in [Lie::Overtaken, Lie::LateDuplicate] {
        let late = world
            .store
            .lie(Rule::on([Op::UploadPart]).of([Kind::Data]).times(4, lie));
        // Until they have come.
        let held = Rule::on([Op::Complete]).of([Kind::Data]);
        world
            .store
            .lie(held.times(4, Lie::Hang(Duration::from_secs(1))));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let path = at(&mount, format!("file{writer}"));
                thread::spawn(move || write_synced(&path, noise(writer, 12 * MIB), PATIENCE))
            })
            .collect();
        for writer in writers {
            assert_eq!(writer.join().unwrap(), Ended::Ok);
        }
        assert_eq!(late.count(), 4);
        world.store.heal();
    }
    assert_eq!(exit_code(mount, PATIENCE), Some(0));
    let mount = world.begin_mount(&world.site.scratch("another"), &[]);
    mount.wait_ready();
    for writer in 0..4 {
        let holds = compare(
            &at(&mount, format!("file{writer}")),
            noise(writer, 12 * MIB),
            PATIENCE,
        );
        assert_eq!(holds, Holds::Right);
    }
    mount.unmount();
}
