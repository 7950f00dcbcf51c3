//! Key slots: adding, listing, changing, removing; the last one stays.

use std::fs;

use strongroom::cli::exit::Exit;

use crate::{
    harness::{BUCKET, Site, Transport},
    support::{assert_refused, printed, text},
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
    assert!(printed(&add_key.output()).contains("slot 2"));
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
    assert!(printed(&site.strongroom(&add_recovery).output()).contains("slot 3"));
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
    printed(&site.strongroom(&change).output());
    let mut old = site
        .strongroom(&["key", "remove", &url, "2"])
        .with_passphrase(&site);
    assert_refused(&mut old.command, Exit::WrongKey, &["wrong passphrase"]);

    let list = printed(&site.strongroom(&["key", "list", &url]).output());
    let kinds: Vec<_> = list
        .lines()
        .map(|line| line.split_whitespace().nth(2).unwrap())
        .collect();
    assert_eq!(kinds, ["passphrase", "key-file", "recovery-key"]);

    for slot in ["2", "3"] {
        printed(
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
    printed(&site.strongroom(&init).with_passphrase(&site).output());
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(&recovery).unwrap()) & 0o777,
        0o600
    );

    let text = printed(&site.strongroom(&["info", &url]).output());
    assert!(
        text.contains("Argon2id, 3 passes, 64 MiB, 4 lanes"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&printed(
        &site.strongroom(&["info", "--json", &url]).output(),
    ))
    .unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["slots"][0]["kind"], "passphrase");
    assert_eq!(json["slots"][0]["argon2id"]["memory_kib"], 64 * 1024);
    assert_eq!(json["slots"][1]["kind"], "recovery-key");
}
