//! A new passphrase that can be guessed is told of, wherever it comes from, and used all the same.

use std::process::Output;

use crate::{
    running::{typed, write_secret},
    support::{
        commands::{said, succeed, text},
        site::{PASSPHRASE, Site, Transport},
    },
};

const WEAK: &str = "sunshine7";
const HINT: &str = "strongroom: the new passphrase could be guessed in about ";
const ADVICE: &str = ": use four or more random words";

/// It succeeded, and said so in one line if it is to.
fn assert_hint(output: &Output, wanted: bool) {
    let told = said(output);
    assert!(output.status.success(), "{told}");
    let lines = told.lines().filter(|line| line.starts_with(HINT));
    let lines: Vec<_> = lines.map(str::trim_end).collect();
    assert_eq!(lines.len(), usize::from(wanted), "{told}");
    assert!(lines.iter().all(|line| line.ends_with(ADVICE)), "{told}");
    for secret in [WEAK, PASSPHRASE] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn a_weak_passphrase_from_a_file_is_told_of_and_a_strong_one_is_not() {
    let site = Site::without_volume(Transport::Plain);
    let weak = site.path().join("weak");
    write_secret(&weak, format!("{WEAK}\n"));
    let url = site.url();
    let init = [
        "init",
        &url,
        "--create-bucket",
        "--passphrase-file",
        text(&weak),
    ];
    let made = site.strongroom(&init).output();
    assert_hint(&made, true);
    assert!(!String::from_utf8_lossy(&made.stdout).contains(HINT));

    let strong = site.path().join("pass");
    let key = site.path().join("key");
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    let with_weak = ["--passphrase-file", text(&weak)];
    let run = |args: &[&str]| {
        let all = [&["key", args[0], &url], &args[1..], &with_weak].concat();
        site.strongroom(&all).output()
    };
    assert_hint(
        &run(&["add", "--new-passphrase-file", text(&strong)]),
        false,
    );
    assert_hint(&run(&["add", "--new-passphrase-file", text(&weak)]), true);
    let change = [
        "change",
        "--slot",
        "2",
        "--new-passphrase-file",
        text(&weak),
    ];
    assert_hint(&run(&change), true);
    // Neither keys nor what opens a volume are judged.
    assert_hint(&run(&["add", "--new-key-file", text(&key)]), false);
    let recovery = site.path().join("recovery");
    let add = ["add", "--new-recovery-key-file", text(&recovery)];
    assert_hint(&run(&add), false);
    assert_hint(&run(&["test"]), false);
}

#[test]
fn a_weak_passphrase_that_is_typed_is_told_of() {
    let site = Site::start(Transport::Plain);
    let (url, pass) = (site.url(), site.path().join("pass"));
    let add = ["key", "add", &url, "--passphrase-file", text(&pass)];
    assert_hint(&typed(&site, &format!("{WEAK},{WEAK}"), &add), true);
    let long = "rename unpaved crouton shakable";
    assert_hint(&typed(&site, &format!("{long},{long}"), &add), false);
    // The passphrase that was told of opens the volume.
    succeed(&typed(&site, WEAK, &["key", "test", &url]));
    let other = format!("s3://{}/other", crate::support::bucket::BUCKET);
    let init = typed(&site, &format!("{WEAK},{WEAK}"), &["init", &other]);
    assert_hint(&init, true);
}
