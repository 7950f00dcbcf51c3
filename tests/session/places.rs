//! Another volume where one is known.

use std::fs;

use strongroom::session::Exit;

use crate::{
    machine::{Machine, add_key_file, fails, key_bytes, site, write_synced},
    provider::Provider,
    support::{
        commands::{succeed, text},
        site::Site,
    },
};

/// Puts a new volume with the same secrets in the place of the first; what the first was.
fn replace_volume(site: &Site, provider: &Provider) -> crate::provider::Picture {
    let machine = Machine::new(site, "knowing");
    let mount = machine.mount();
    write_synced(&mount.dir.join("mine"), b"mine");
    mount.unmount();
    let first = provider.picture();
    provider.show(&Default::default());
    // Made on another machine: this one knows nothing of it.
    let state = site.scratch("attacker-state");
    let mut init = site.strongroom(&["init", &site.url(), "--state-dir", text(&state)]);
    init.command.env_remove("STRONGROOM_STATE_DIR");
    succeed(&init.with_passphrase(site).output());
    first
}

#[test]
fn another_volume_at_a_known_url_is_refused_by_every_command_and_nothing_is_written() {
    let site = site();
    let provider = Provider::of(&site);
    let first = replace_volume(&site, &provider);
    let machine = Machine::new(&site, "knowing");
    let pass = site.path().join("pass");
    let pass = ["--passphrase-file", text(&pass)];
    let before = provider.listing();
    // It has no slot for this key file at all: what is told is that it is another volume.
    let said = machine.refused(&provider, Exit::OtherVolume, 10, &[]);
    assert!(said.contains("--allow-other-volume"), "{said}");
    let url = site.url();
    let new = site.path().join("new");
    fs::write(&new, key_bytes(8)).unwrap();
    for args in [
        &["info", &url][..],
        &["key", "list", &url],
        &[
            "key",
            "add",
            &url,
            pass[0],
            pass[1],
            "--new-key-file",
            text(&new),
        ],
        &["key", "remove", &url, "1", pass[0], pass[1]],
        &[
            "key",
            "change",
            &url,
            pass[0],
            pass[1],
            "--new-key-file",
            text(&new),
        ],
    ] {
        fails(&mut machine.strongroom(args), Exit::OtherVolume);
    }
    assert_eq!(before, provider.listing());

    let mount = machine.mount_with(&["--allow-other-volume"]);
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 0);
    mount.unmount();
    // From then on it is the one that is known here, and the first is the other one.
    machine.mount().unmount();
    provider.show(&first);
    machine.refused(&provider, Exit::OtherVolume, 5, &[]);
}

#[test]
fn a_volume_that_is_made_anew_on_this_machine_is_known_at_once() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::first(&site);
    machine.mount().unmount();
    let first = provider.picture();
    provider.show(&Default::default());
    site.make_volume();
    add_key_file(&site);
    machine.mount().unmount();
    provider.show(&first);
    machine.refused(&provider, Exit::OtherVolume, 5, &[]);
}

#[test]
fn a_volume_that_is_known_elsewhere_is_known_at_its_new_place() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let states = crate::machine::pictures(&machine, &provider, 2);
    for (key, object) in &states[0] {
        provider.put(&key.replacen("laptop/", "copy/", 1), object);
    }
    let key = site.path().join("key");
    let dir = site.scratch("copy-mnt");
    let args = [
        "mount",
        "s3://vault/copy",
        text(&dir),
        "--foreground",
        "--key-file",
        text(&key),
    ];
    let said = fails(&mut machine.strongroom(&args), Exit::RolledBack);
    let known_from = format!("s3://vault/laptop on {}", site.endpoint);
    assert!(said.contains(&known_from), "{said}");
    assert!(said.contains("use --allow-rollback once"), "{said}");
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("strongroom: "))
            .count(),
        1
    );

    // Its user says that it is a copy. From then on each place is remembered by itself.
    let at = |url: &str| {
        let run = machine.strongroom(&["mount", url, text(&dir), "--key-file", text(&key)]);
        let umount = machine.strongroom(&["umount", text(&dir)]);
        (run, umount)
    };
    let (mut mount, mut umount) = at("s3://vault/copy");
    succeed(&mount.arg("--allow-rollback").output().unwrap());
    write_synced(&dir.join("in the copy"), b"more");
    let copied = provider.picture();
    succeed(&umount.output().unwrap());
    for _ in 0..2 {
        for url in ["s3://vault/copy", "s3://vault/laptop"] {
            let (mut mount, mut umount) = at(url);
            succeed(&mount.output().unwrap());
            write_synced(&dir.join("file"), b"more");
            succeed(&umount.output().unwrap());
        }
    }
    // Neither can be rolled back unnoticed, and the message is about that place alone.
    let show = |picture: &crate::provider::Picture, prefix: &str| {
        for key in provider.keys() {
            if key.starts_with(prefix) && !picture.contains_key(&key) {
                provider.delete(&key);
            }
        }
        for (key, object) in picture {
            if key.starts_with(prefix) {
                provider.put(key, object);
            }
        }
    };
    for (url, prefix, picture) in [
        ("s3://vault/copy", "copy/", &copied),
        ("s3://vault/laptop", "laptop/", &states[1]),
    ] {
        show(picture, prefix);
        let (mut mount, _) = at(url);
        let said = fails(mount.arg("--foreground"), Exit::RolledBack);
        assert!(!said.contains("never met"), "{said}");
    }
}
