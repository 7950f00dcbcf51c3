//! Key slots: adding, listing, changing, removing; the last one stays.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, assert_refused, typed, write_secret},
    support::{
        bucket::BUCKET,
        commands::{said, succeed, text},
        site::{PASSPHRASE, Site, Transport},
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
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    write_secret(&other, "another passphrase\n");

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
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    write_secret(&other, "another passphrase\n");
    write_secret(&third, "a third passphrase\n");
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

#[test]
fn slots_have_labels_times_and_hosts_that_only_a_key_shows() {
    const LABEL: &str = "canary-label of the nas";
    let site = Site::start(Transport::Plain);
    let url = site.url();
    let (key, new) = (site.path().join("key"), site.path().join("new"));
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    write_secret(&new, "another passphrase\n");
    let host = nix::unistd::gethostname().expect("a name");
    let host = host.to_str().expect("UTF-8");
    let run = |args: &[&str]| succeed(&site.strongroom(args).with_passphrase(&site).output());
    let shown = |args: &[&str]| {
        let list = succeed(
            &site
                .strongroom(&[&["key", "list", &url], args].concat())
                .output(),
        );
        list.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let with_key = ["--key-file", text(&key)];

    run(&[
        "key",
        "add",
        &url,
        "--new-key-file",
        text(&key),
        "--label",
        LABEL,
    ]);
    let (open, sealed) = (shown(&with_key), shown(&[]));
    assert!(
        open[0].contains(&format!(" on {host}")) && open[0].contains(", made 20"),
        "{open:?}"
    );
    assert!(
        open[1].ends_with(&format!(" on {host}: {LABEL}")),
        "{open:?}"
    );
    assert!(
        sealed[0].ends_with("4 lanes") && sealed[1].ends_with("HKDF-SHA-256"),
        "{sealed:?}"
    );
    for object in site.bucket().keys() {
        let bytes = site.bucket().get(&object);
        // A host's name of two letters is in any object, by chance.
        for secret in [LABEL, host].iter().filter(|secret| secret.len() > 5) {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {object}");
        }
    }

    // A slot keeps its label when its secret changes, and loses it with the slot.
    run(&["key", "label", &url, "1", "Ann"]);
    run(&["key", "change", &url, "--new-passphrase-file", text(&new)]);
    assert!(
        shown(&with_key)[0].ends_with(": Ann"),
        "{:?}",
        shown(&with_key)
    );
    let with_new = ["--passphrase-file", text(&new)];
    let again = ["key", "remove", &url, "2"];
    succeed(&site.strongroom(&[&again[..], &with_new].concat()).output());
    let again = ["key", "add", &url, "--new-key-file", text(&key)];
    succeed(&site.strongroom(&[&again[..], &with_new].concat()).output());
    assert!(
        shown(&with_key)[1].ends_with(&format!(" on {host}")),
        "{:?}",
        shown(&with_key)
    );
    // Notes that somebody has changed are told of, hold nothing up, and are written anew.
    let mut notes = site.bucket().keys();
    notes.retain(|key| key.ends_with("/slots"));
    let notes = notes.pop().expect("the notes");
    let mut damaged = site.bucket().get(&notes).to_vec();
    *damaged.last_mut().expect("a byte") ^= 1;
    site.bucket().put(&notes, damaged);
    let list = site.strongroom(&[&["key", "list", &url], &with_key[..]].concat());
    let list = list.output();
    let told = String::from_utf8_lossy(&list.stderr).into_owned();
    assert!(
        told.contains("cannot be read") && told.contains("key label"),
        "{told}"
    );
    assert_eq!(succeed(&list).lines().count(), 2);
    let label = ["key", "label", &url, "2", "nas again"];
    succeed(&site.strongroom(&[&label[..], &with_key].concat()).output());
    assert!(
        shown(&with_key)[1].ends_with(": nas again"),
        "{:?}",
        shown(&with_key)
    );
    // Without its notes the volume is what it was.
    let notes = site
        .bucket()
        .keys()
        .into_iter()
        .find(|key| key.ends_with("/slots"));
    site.bucket().delete(&notes.expect("the notes"));
    assert!(shown(&with_key)[0].ends_with("4 lanes"));
    let empty = ["key", "label", &url, "1", "", "--key-file", text(&key)];
    assert!(succeed(&site.strongroom(&empty).output()).contains("no label"));
    let mut none = site.strongroom(&["key", "label", &url, "7", "x", "--key-file", text(&key)]);
    assert_refused(&mut none.command, Exit::Usage, &["no key slot 7"]);
    let mut long = site.strongroom(&["key", "label", &url, "1", "two\nlines"]);
    assert_eq!(long.command.output().expect("runs").status.code(), Some(2));
}

#[test]
fn a_secret_is_tested_and_a_file_that_others_read_is_told_of() {
    let site = Site::start(Transport::Plain);
    let url = site.url();
    let pass = site.path().join("pass");
    let test = || {
        site.strongroom(&["key", "test", &url])
            .with_passphrase(&site)
            .output()
    };
    assert_eq!(succeed(&test()), "slot 1, a passphrase, opens the volume\n");
    assert!(test().stderr.is_empty());
    fs::set_permissions(&pass, Permissions::from_mode(0o644)).expect("chmod");
    let told = said(&test());
    assert!(
        told.contains("other users") && told.contains("chmod 600"),
        "{told}"
    );
    assert!(told.contains("opens the volume"), "{told}");
    write_secret(&pass, "wrong\n");
    let mut wrong = site
        .strongroom(&["key", "test", &url])
        .with_passphrase(&site);
    assert_refused(&mut wrong.command, Exit::WrongKey, &["wrong passphrase"]);
}

#[test]
fn a_passphrase_that_was_typed_wrong_is_asked_for_three_times() {
    let site = Site::start(Transport::Plain);
    let url = site.url();
    let right = format!("wrong,worse,{PASSPHRASE}");
    for command in [&["key", "test", &url][..], &["usage", &url]] {
        let told = said(&typed(&site, &right, command));
        assert!(told.starts_with("exit Some(0)"), "{told}");
        assert_eq!(
            told.matches("wrong passphrase; try again").count(),
            2,
            "{told}"
        );
        assert!(!told.contains(PASSPHRASE), "{told}");
    }
    let mount = BackgroundMount::prepare(&site, "typed");
    let args = [
        "mount",
        &url,
        text(&mount.dir),
        "--state-dir",
        text(&mount.state),
    ];
    let told = said(&typed(&site, &right, &args));
    assert!(told.starts_with("exit Some(0)"), "{told}");
    fs::write(mount.dir.join("file"), b"text").expect("mounted");
    mount.umount(&site);
    let told = said(&typed(&site, "wrong,wrong,wrong", &["key", "test", &url]));
    assert!(told.starts_with("exit Some(3)"), "{told}");
    assert_eq!(told.matches("Passphrase: ").count(), 3, "{told}");
}
