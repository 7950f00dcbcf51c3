//! Key slots: adding, listing, changing, removing; the last one stays.

use std::fs;

use strongroom::session::Exit;

use crate::{
    running::assert_refused,
    support::{
        bucket::BUCKET,
        commands::{succeed, text},
        site::{Site, Transport},
    },
};

#[test]
fn slots_are_added_changed_and_removed_and_each_unlocks() {
    let site = Site::start(Transport::Plain);
    let url = site.url();
    let (key, recovery, other) = (
        site.path().join("key"),
        site.path().join("recovery"),
        site.path().join("other"),
    );
    fs::write(&key, (1..=64).collect::<Vec<u8>>()).unwrap();
    fs::write(&other, "another passphrase\n").unwrap();

    let add_key = site
        .strongroom(&["key", "add", &url, "--new-key-file", text(&key)])
        .with_passphrase(&site);
    assert!(succeed(&add_key.output()).contains("slot 2"));
    // A key file unlocks, and makes a recovery key.
    let add_recovery = [
        "key",
        "add",
        &url,
        "--key-file",
        text(&key),
        "--new-recovery-key-file",
        text(&recovery),
    ];
    assert!(succeed(&site.strongroom(&add_recovery).output()).contains("slot 3"));
    // The recovery key unlocks, and changes the passphrase.
    let change = [
        "key",
        "change",
        &url,
        "--slot",
        "1",
        "--recovery-key-file",
        text(&recovery),
        "--new-passphrase-file",
        text(&other),
    ];
    succeed(&site.strongroom(&change).output());
    let mut old = site
        .strongroom(&["key", "remove", &url, "2"])
        .with_passphrase(&site);
    assert_refused(&mut old.command, Exit::WrongKey, &["wrong passphrase"]);

    let list = succeed(&site.strongroom(&["key", "list", &url]).output());
    let kinds: Vec<_> = list
        .lines()
        .map(|line| line.split_whitespace().nth(2).unwrap())
        .collect();
    assert_eq!(kinds, ["passphrase", "key-file", "recovery-key"]);

    for slot in ["2", "3"] {
        succeed(
            &site
                .strongroom(&[
                    "key",
                    "remove",
                    &url,
                    slot,
                    "--passphrase-file",
                    text(&other),
                ])
                .output(),
        );
    }
    let mut last = site.strongroom(&[
        "key",
        "remove",
        &url,
        "1",
        "--passphrase-file",
        text(&other),
    ]);
    assert_refused(&mut last.command, Exit::LastSlot, &["last", "add another"]);
    let mut missing = site.strongroom(&[
        "key",
        "remove",
        &url,
        "9",
        "--passphrase-file",
        text(&other),
    ]);
    assert_refused(
        &mut missing.command,
        Exit::Usage,
        &["no key slot 9", "key list"],
    );
}

#[test]
fn a_recovery_key_replaces_the_passphrase_and_stays_what_it_is() {
    let site = Site::start(Transport::Plain);
    let url = site.url();
    let path = |name: &str| site.path().join(name);
    let (recovery, key, other, third) =
        (path("recovery"), path("key"), path("other"), path("third"));
    fs::write(&key, (1..=64).collect::<Vec<u8>>()).unwrap();
    fs::write(&other, "another passphrase\n").unwrap();
    fs::write(&third, "a third passphrase\n").unwrap();
    let add = [
        "key",
        "add",
        &url,
        "--new-recovery-key-file",
        text(&recovery),
    ];
    succeed(&site.strongroom(&add).with_passphrase(&site).output());
    let kinds = || -> Vec<String> {
        let list = succeed(&site.strongroom(&["key", "list", &url]).output());
        let kind = |line: &str| line.split_whitespace().nth(2).unwrap().to_owned();
        list.lines().map(kind).collect()
    };
    let by_recovery_key = [
        "key",
        "change",
        &url,
        "--recovery-key-file",
        text(&recovery),
    ];

    let set_passphrase = [
        &by_recovery_key[..],
        &["--new-passphrase-file", text(&other)],
    ]
    .concat();
    let said = succeed(&site.strongroom(&set_passphrase).output());
    assert!(said.contains("slot 1 is a passphrase now"), "{said}");
    assert_eq!(kinds(), ["passphrase", "recovery-key"]);
    let mut old = site
        .strongroom(&["key", "remove", &url, "2"])
        .with_passphrase(&site);
    assert_refused(&mut old.command, Exit::WrongKey, &["wrong passphrase"]);
    // The recovery key opens as before.
    let add_key = [
        "key",
        "add",
        &url,
        "--recovery-key-file",
        text(&recovery),
        "--new-key-file",
        text(&key),
    ];
    succeed(&site.strongroom(&add_key).output());
    // No slot turns into another kind unless it is named.
    let by_passphrase = ["key", "change", &url, "--passphrase-file", text(&other)];
    let by_key_file = ["key", "change", &url, "--key-file", text(&key)];
    let made = path("made");
    let unclear = [
        [&by_passphrase[..], &["--new-key-file", text(&key)]].concat(),
        [&by_key_file[..], &["--new-passphrase-file", text(&third)]].concat(),
        [
            &by_passphrase[..],
            &["--new-recovery-key-file", text(&made)],
        ]
        .concat(),
    ];
    for change in unclear {
        assert_refused(
            &mut site.strongroom(&change).command,
            Exit::Usage,
            &["which slot", "--slot"],
        );
    }
    assert!(!made.exists(), "a recovery key was written for nothing");
    // With two passphrases the recovery key cannot tell which one is lost.
    let add_third = [
        "key",
        "add",
        &url,
        "--passphrase-file",
        text(&other),
        "--new-passphrase-file",
        text(&third),
    ];
    succeed(&site.strongroom(&add_third).output());
    assert_refused(
        &mut site.strongroom(&set_passphrase).command,
        Exit::Usage,
        &["which slot is to become a passphrase", "--slot"],
    );
    let named = [&set_passphrase[..], &["--slot", "4"]].concat();
    succeed(&site.strongroom(&named).output());
    assert_eq!(
        kinds(),
        ["passphrase", "recovery-key", "key-file", "passphrase"]
    );
}

#[test]
fn info_shows_the_header_without_a_key() {
    let site = Site::without_volume(Transport::Plain);
    let url = format!("s3://{BUCKET}/laptop");
    let recovery = site.path().join("recovery");
    let init = [
        "init",
        &url,
        "--create-bucket",
        "--recovery-key-file",
        text(&recovery),
    ];
    succeed(&site.strongroom(&init).with_passphrase(&site).output());
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(&recovery).unwrap()) & 0o777,
        0o600
    );

    let text = succeed(&site.strongroom(&["info", &url]).output());
    assert!(
        text.contains("Argon2id, 3 passes, 64 MiB, 4 lanes"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&succeed(
        &site.strongroom(&["info", "--json", &url]).output(),
    ))
    .unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["slots"][0]["kind"], "passphrase");
    assert_eq!(json["slots"][0]["argon2id"]["memory_kib"], 64 * 1024);
    assert_eq!(json["slots"][1]["kind"], "recovery-key");
}
