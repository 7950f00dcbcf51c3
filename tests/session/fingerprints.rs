//! `mount --expect`: a state that was written down, on a machine that never saw the volume.

use std::fs;

use strongroom::session::Exit;

use crate::{
    machine::{Machine, fails, site, write_synced},
    provider::Provider,
    support::{
        commands::{succeed, text},
        site::Site,
    },
};

/// Mounts, writes, unmounts by `strongroom umount`; the fingerprint that it printed.
fn write_and_take(machine: &Machine<'_>, site: &Site, name: &str) -> String {
    let mut mount = machine.mount();
    write_synced(&mount.dir.join(name), &[1; 3000]);
    let said = succeed(&site.strongroom(&["umount", text(&mount.dir)]).output());
    assert_eq!(mount.wait_gone(), 0);
    let fingerprint = said.trim().strip_prefix("fingerprint ").unwrap().to_owned();
    assert!(fingerprint.starts_with("sr1-"), "{fingerprint}");
    fingerprint
}

#[test]
fn umount_info_and_status_show_the_fingerprint_that_a_new_machine_expects() {
    let site = site();
    let writer = Machine::new(&site, "writer");
    let fingerprint = write_and_take(&writer, &site, "one");
    let info = writer.strongroom(&["info", &site.url(), "--json"]).output();
    let info: serde_json::Value = serde_json::from_str(&succeed(&info.unwrap())).unwrap();
    assert_eq!(info["fingerprint_seen"], fingerprint.as_str());
    // A reader changes nothing, so that it shows the very same.
    let reader = Machine::new(&site, "reader");
    let mount = reader.mount_with(&["--read-only", "--expect", &fingerprint]);
    assert_eq!(mount.status()["mount"]["fingerprint"], fingerprint.as_str());
    let table = succeed(&site.strongroom(&["status", text(&mount.dir)]).output());
    assert!(table.contains(&fingerprint), "{table}");
    mount.unmount();
    // A later state has it behind it.
    let later = write_and_take(&writer, &site, "two");
    assert_ne!(later, fingerprint);
    for (name, expect) in [("second", &fingerprint), ("third", &later)] {
        let option = format!("expect={expect}");
        let mount = Machine::new(&site, name).mount_with(&["-o", &option]);
        assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 2);
        mount.unmount();
    }
}

#[test]
fn an_older_state_or_another_volume_is_not_what_was_expected() {
    let site = site();
    let provider = Provider::of(&site);
    let writer = Machine::new(&site, "writer");
    write_and_take(&writer, &site, "one");
    let old = provider.picture();
    let newest = write_and_take(&writer, &site, "two");
    provider.show(&old);
    let fresh = Machine::new(&site, "fresh");
    for options in [
        &["--expect", &newest][..],
        &["--expect", &newest, "--read-only"],
        // `--expect` does not ask what this machine happened to see: nothing else accepts another
        // state.
        &["--expect", &newest, "--allow-rollback"],
    ] {
        fresh.refused(&provider, Exit::NotExpected, 10, options);
    }
    // Nothing of it was believed.
    assert!(!fresh.state.join("places").exists());
    provider.show(&Default::default());
    site.make_volume();
    crate::machine::add_key_file(&site);
    fresh.refused(&provider, Exit::NotExpected, 5, &["--expect", &newest]);
    fresh.mount().unmount();
}

#[test]
fn a_mistyped_fingerprint_is_told_before_anything_is_done() {
    let site = site();
    let machine = Machine::new(&site, "one");
    for wrong in ["sr1-aaaaaaaaaaaaa-1-aaaa", "sr2-x", "", "fingerprint"] {
        fails(
            &mut machine.mount_command(&["--expect", wrong]),
            Exit::Usage,
        );
    }
    let said = fails(
        &mut machine.mount_command(&["-o", "expect=sr1-aaaaaaaaaaaaa-1-aaaa"]),
        Exit::Usage,
    );
    assert!(said.contains("last four letters"), "{said}");
}
