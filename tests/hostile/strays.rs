//! A store that says now and then of an object of the metadata that it is not there, and finds it
//! the next time: a mount that serves asks again.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    support::{
        commands::shell,
        lying::{Form, Kind, Lie, Op, Rule},
        mount::Mount,
    },
    world::{EIO, World, at, within},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// So many names of 200 bytes that their tables are read in many pieces.
const FILES: usize = 6000;

fn missing() -> Lie {
    Lie::refuse(404, Form::Code("NoSuchKey"))
}

fn name(number: usize) -> String {
    format!("{number:0>200}")
}

/// A mount whose metadata is in tables, none of which it has read.
fn cold_mount(world: &World) -> Mount<'_> {
    let mount = world.begin_mount(&world.site.scratch("first"), &[]);
    mount.wait_ready();
    for number in 0..FILES {
        fs::File::create(at(&mount, name(number))).unwrap();
    }
    mount.unmount();
    let mount = world.begin_mount(&world.site.scratch("second"), &[]);
    mount.wait_ready();
    mount
}

#[test]
fn a_stray_404_to_a_read_of_the_metadata_is_asked_again() {
    let world = World::start();
    let mount = cold_mount(&world);
    // Three in a row for each of the first reads of a table, whatever asks.
    let rule = Rule::on([Op::Get]).of([Kind::Table]);
    let lied = world.store.lie(rule.times(3, missing()));
    for number in [0, FILES / 2, FILES - 1] {
        let path = at(&mount, name(number));
        let found = within(PATIENCE, move || {
            fs::metadata(path).map(|found| found.len())
        });
        assert_eq!(found.expect("an answer").map_err(|e| e.kind()), Ok(0));
    }
    assert_eq!(lied.count(), 3, "the metadata was read before");
    let listed = shell(&mount.dir, "ls -f | wc -l");
    assert_eq!(listed.trim(), (FILES + 2).to_string());
    mount.unmount();
}

/// An object that is gone for good is an error for its readers, soon; it is no reason for the mount
/// to end, or to stay broken.
#[test]
fn a_table_that_is_gone_is_eio_within_seconds_and_read_again_when_it_is_back() {
    let world = World::start();
    let mount = cold_mount(&world);
    let rule = Rule::on([Op::Get]).of([Kind::Table]);
    let lied = world.store.lie(rule.always(missing()));
    let path = at(&mount, name(1));
    let began = Instant::now();
    let found = within(PATIENCE, {
        let path = path.clone();
        move || fs::metadata(path).map(drop)
    });
    let error = found.expect("an answer").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(lied.count() > 0);
    world.store.heal();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    fs::write(&path, b"written").unwrap();
    mount.unmount();
}
