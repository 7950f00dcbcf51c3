//! Old headers, and two of one revision.

use std::fs;

use strongroom::session::Exit;

use crate::{
    machine::{Machine, fails, key_bytes, site},
    provider::{Picture, Provider},
    support::{
        commands::{succeed, text},
        site::Site,
    },
};

/// Both copies of the header.
fn headers(provider: &Provider) -> Picture {
    ["laptop/strongroom.json", "laptop/strongroom.copy.json"]
        .into_iter()
        .map(|key| (key.to_owned(), provider.get(key).unwrap()))
        .collect()
}

fn show(provider: &Provider, headers: &Picture) {
    for (key, header) in headers {
        provider.put(key, header);
    }
}

/// Adds a key file with this name on this machine.
fn add(machine: &Machine<'_>, site: &Site, name: &str) -> std::process::Command {
    let (key, new) = (site.path().join("key"), site.path().join(name));
    fs::write(&new, key_bytes(name.as_bytes()[0])).unwrap();
    machine.strongroom(&[
        "key",
        "add",
        &site.url(),
        "--key-file",
        text(&key),
        "--new-key-file",
        text(&new),
    ])
}

#[test]
fn an_old_header_is_refused_by_key_and_does_not_bring_a_removed_slot_back() {
    let site = site();
    let provider = Provider::of(&site);
    // It never mounts: the key commands alone remember.
    let machine = Machine::new(&site, "keys");
    succeed(&add(&machine, &site, "second").output().unwrap());
    let old = headers(&provider);
    let (url, key) = (site.url(), site.path().join("key"));
    let key = ["--key-file", text(&key)];
    let removed = machine
        .strongroom(&["key", "remove", &url, "3", key[0], key[1]])
        .output();
    succeed(&removed.unwrap());
    let new = headers(&provider);

    show(&provider, &old);
    let before = provider.listing();
    for _ in 0..10 {
        let said = fails(&mut add(&machine, &site, "third"), Exit::RolledBack);
        assert!(said.contains("--allow-rollback"), "{said}");
    }
    for args in [
        &["info", &url][..],
        &["key", "list", &url],
        &["key", "remove", &url, "1", key[0], key[1]],
    ] {
        fails(&mut machine.strongroom(args), Exit::RolledBack);
    }
    assert_eq!(before, provider.listing());
    machine.refused(&provider, Exit::RolledBack, 10, &[]);

    show(&provider, &new);
    succeed(&add(&machine, &site, "third").output().unwrap());
    let listed = machine.strongroom(&["key", "list", &url]).output();
    assert_eq!(succeed(&listed.unwrap()).lines().count(), 3);
    machine.mount().unmount();
}

#[test]
fn another_header_of_a_revision_that_was_seen_is_refused() {
    let site = site();
    let provider = Provider::of(&site);
    let before = headers(&provider);
    let machine = Machine::new(&site, "one");
    succeed(&add(&machine, &site, "second").output().unwrap());
    // The provider hides that from another machine, which makes a revision with the same number.
    show(&provider, &before);
    let other = Machine::new(&site, "other");
    succeed(&add(&other, &site, "third").output().unwrap());

    let said = fails(
        &mut machine.strongroom(&["info", &site.url()]),
        Exit::Forked,
    );
    assert!(said.contains("--allow-rollback"), "{said}");
    fails(&mut add(&machine, &site, "fourth"), Exit::Forked);
    machine.refused(&provider, Exit::Forked, 10, &[]);
    machine.mount_with(&["--allow-rollback"]).unmount();
    machine.mount().unmount();
}

#[test]
fn a_header_that_nobody_authenticated_is_not_remembered() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "looking");
    let url = site.url();
    for args in [&["info", &url][..], &["key", "list", &url]] {
        succeed(&machine.strongroom(args).output().unwrap());
    }
    assert!(!machine.state.join("places").exists());
    drop(provider);
}
