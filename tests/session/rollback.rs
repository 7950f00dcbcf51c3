//! Old states of a volume, shown to a machine that has seen newer ones.

use std::fs;

use strongroom::session::Exit;

use crate::{
    machine::{Machine, pictures, site, write_synced},
    provider::Provider,
};

#[test]
fn an_older_state_is_refused_however_often_it_is_tried_and_nothing_is_written() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let states = pictures(&machine, &provider, 6);
    for back in [1, 2, 3, 5] {
        provider.show(&states[5 - back]);
        let said = machine.refused(&provider, Exit::RolledBack, 50, &[]);
        assert!(said.contains("--allow-rollback"), "{said}");
        machine.refused(&provider, Exit::RolledBack, 3, &["--read-only"]);
        machine.refused(&provider, Exit::RolledBack, 3, &["--takeover"]);
    }
    // The newest is still what this machine knows, and believes.
    provider.show(&states[5]);
    let mount = machine.mount();
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 6);
    mount.unmount();
}

#[test]
fn an_older_state_that_was_accepted_once_is_what_is_known_from_then_on() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let states = pictures(&machine, &provider, 3);
    provider.show(&states[0]);
    machine.refused(&provider, Exit::RolledBack, 1, &[]);
    machine.mount_with(&["--allow-rollback"]).unmount();
    let mount = machine.mount();
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 1);
    mount.unmount();
}

#[test]
fn what_fsync_returned_for_is_remembered_through_a_kill() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let mount = machine.mount();
    let mut states = Vec::new();
    for number in 0..20 {
        write_synced(&mount.dir.join(format!("file{number}")), &[1; 3000]);
        if number == 9 || number == 17 {
            states.push(provider.picture());
        }
    }
    let last = provider.picture();
    mount.kill();
    for state in &states {
        provider.show(state);
        machine.refused(&provider, Exit::RolledBack, 5, &[]);
    }
    provider.show(&last);
    let mount = machine.mount();
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 20);
    mount.unmount();
}

#[test]
fn what_a_reader_has_seen_is_remembered_too() {
    let site = site();
    let provider = Provider::of(&site);
    let states = pictures(&Machine::new(&site, "writer"), &provider, 2);
    let reader = Machine::new(&site, "reader");
    reader.mount_with(&["--read-only"]).unmount();
    provider.show(&states[0]);
    reader.refused(&provider, Exit::RolledBack, 5, &["--read-only"]);
    reader.refused(&provider, Exit::RolledBack, 5, &[]);
}

#[test]
fn what_an_earlier_version_noted_is_still_compared_with() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "old");
    let states = pictures(&machine, &provider, 2);
    let id = fs::read_dir(&machine.state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.len() == 32)
        .unwrap();
    // The state directory as that version left it: a note by volume, none by place.
    fs::remove_dir_all(machine.state.join("places")).unwrap();
    provider.show(&states[0]);
    fs::write(
        machine.state.join(id).join("seen.json"),
        r#"{"generation":1000000,"header_revision":1}"#,
    )
    .unwrap();
    machine.refused(&provider, Exit::RolledBack, 5, &[]);
}

#[test]
fn a_machine_that_lost_its_state_mounts_what_it_is_shown() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "forgetful");
    let states = pictures(&machine, &provider, 2);
    provider.show(&states[0]);
    fs::remove_dir_all(&machine.state).unwrap();
    machine.mount().unmount();
    // Damaged counts as lost.
    for entry in fs::read_dir(machine.state.join("places")).unwrap() {
        fs::write(entry.unwrap().path(), b"{").unwrap();
    }
    machine.mount().unmount();
}

#[test]
fn another_branch_that_has_gone_on_is_refused_by_who_saw_the_first_and_by_its_fingerprint() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let mount = machine.mount();
    write_synced(&mount.dir.join("common"), &[1; 3000]);
    let before = provider.picture();
    for number in 0..2 {
        write_synced(&mount.dir.join(format!("first{number}")), &[1; 3000]);
    }
    let fingerprint = mount.status()["mount"]["fingerprint"].clone();
    mount.kill();
    // The provider hides what was written since from another machine, which writes more than the
    // first did.
    provider.show(&before);
    let mount = Machine::new(&site, "other").mount();
    for number in 0..10 {
        write_synced(&mount.dir.join(format!("second{number}")), &[2; 3000]);
    }
    mount.kill();
    machine.refused(&provider, Exit::Forked, 10, &[]);
    machine.refused(&provider, Exit::Forked, 3, &["--read-only"]);
    let expect = ["--expect", fingerprint.as_str().unwrap()];
    Machine::new(&site, "fresh").refused(&provider, Exit::NotExpected, 5, &expect);
    // A user who decides for that branch gets it whole.
    let mount = machine.mount_with(&["--allow-rollback"]);
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 11);
    mount.unmount();
    machine.mount().unmount();
}
