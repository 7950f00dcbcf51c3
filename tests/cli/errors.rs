//! Each thing that can be wrong has one line that says what and what to do, and an exit code of its
//! own.

use std::{fs, process::Command};

use strongroom::{server::Outage, session::Exit};

use crate::{
    running::{BackgroundMount, assert_refused, strongroom, write_secret},
    support::{
        bucket::BUCKET,
        commands::{BINARY, text},
        raw_store::store_without_conditions,
        site::{Site, Transport},
    },
};

/// `mount` of the site's volume on a fresh directory.
fn mount(site: &Site, options: &[&str]) -> Command {
    BackgroundMount::prepare(site, "refused").command(site, options)
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let site = Site::start(Transport::Plain);
    let wrong = site.path().join("wrong");
    write_secret(&wrong, "not the passphrase");
    let dir = site.scratch("mnt");
    let mut run = site.strongroom(&[
        "mount",
        &site.url(),
        text(&dir),
        "--passphrase-file",
        text(&wrong),
    ]);
    assert_refused(
        &mut run.command,
        Exit::WrongKey,
        &["wrong passphrase", "try again"],
    );
    let key = site.path().join("key");
    write_secret(&key, (0..64).collect::<Vec<u8>>());
    let mut run = site.strongroom(&["mount", &site.url(), text(&dir), "--key-file", text(&key)]);
    assert_refused(&mut run.command, Exit::WrongKey, &["key file", "key list"]);
}

#[test]
fn what_is_wrong_with_bucket_and_credentials_is_told_apart() {
    let site = Site::without_volume(Transport::Plain);
    let mut run = site.strongroom(&["info", "s3://no-such-bucket/x"]);
    assert_refused(
        &mut run.command,
        Exit::NoBucket,
        &["no-such-bucket", "--create-bucket"],
    );

    let mut run = site.strongroom(&["info", &site.url()]);
    run.command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    assert_refused(
        &mut run.command,
        Exit::NoCredentials,
        &["no S3 credentials", "AWS_ACCESS_KEY_ID"],
    );

    let mut run = site.strongroom(&["info", &site.url()]);
    run.command.env("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_refused(
        &mut run.command,
        Exit::BadCredentials,
        &["refuses the credentials", "secret"],
    );

    let mut run = site.strongroom(&["info", &site.url()]);
    run.command.env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    assert_refused(
        &mut run.command,
        Exit::Unreachable,
        &["does not answer", "--endpoint-url"],
    );
}

#[test]
fn a_store_that_ignores_conditions_is_refused_by_name_of_what_it_lacks() {
    let site = Site::without_volume(Transport::Plain);
    let lax = store_without_conditions();
    let endpoint = lax.url();
    let mut run = site
        .strongroom(&["init", &site.url(), "--endpoint-url", &endpoint])
        .with_passphrase(&site);
    assert_refused(
        &mut run.command,
        Exit::StoreUnfit,
        &["lacks conditional PUT (If-None-Match)", "operations.md"],
    );
}

#[test]
fn an_endpoint_whose_certificate_is_unknown_is_refused() {
    let site = Site::without_volume(Transport::Tls);
    let mut run = site.strongroom(&["info", &site.url()]);
    run.command.env_remove("AWS_CA_BUNDLE");
    assert_refused(&mut run.command, Exit::Tls, &["--ca-bundle"]);
}

#[test]
fn init_refuses_a_prefix_that_is_not_empty_and_one_with_a_volume() {
    let site = Site::start(Transport::Plain);
    let mut again = site
        .strongroom(&["init", &site.url()])
        .with_passphrase(&site);
    assert_refused(
        &mut again.command,
        Exit::VolumeExists,
        &["a volume at", "another prefix"],
    );
    site.bucket().put("photos/cat.jpg", b"meow".to_vec());
    let url = format!("s3://{BUCKET}/photos");
    let mut other = site.strongroom(&["init", &url]).with_passphrase(&site);
    assert_refused(
        &mut other.command,
        Exit::NotEmpty,
        &["not empty", "empty prefix"],
    );
    assert_eq!(site.bucket().get("photos/cat.jpg"), b"meow");
}

#[test]
fn a_place_without_a_volume_is_named() {
    let site = Site::start(Transport::Plain);
    let url = format!("s3://{BUCKET}/elsewhere");
    let dir = site.scratch("mnt");
    let mut run = site
        .strongroom(&["mount", &url, text(&dir)])
        .with_passphrase(&site);
    assert_refused(
        &mut run.command,
        Exit::NoVolume,
        &["no volume at", "strongroom init"],
    );
    let mut run = site.strongroom(&["info", &url]);
    assert_refused(&mut run.command, Exit::NoVolume, &["no volume at"]);
}

#[test]
fn mount_points_that_cannot_be_used_are_told_apart() {
    let site = Site::without_volume(Transport::Plain);
    let refused = |dir: &str, exit, words: &[&str]| {
        let mut run = site
            .strongroom(&["mount", &site.url(), dir])
            .with_passphrase(&site);
        assert_refused(&mut run.command, exit, words);
    };
    let missing = site.path().join("missing");
    refused(
        text(&missing),
        Exit::MountPointMissing,
        &["does not exist", "mkdir"],
    );
    let file = site.path().join("file");
    fs::write(&file, b"x").unwrap();
    refused(
        text(&file),
        Exit::MountPointNotDirectory,
        &["not a directory"],
    );
    refused(
        "/proc",
        Exit::MountPointInUse,
        &["mounted on /proc already", "unmount"],
    );
}

#[test]
fn a_machine_without_the_fuse_device_is_told_what_is_missing() {
    let site = Site::without_volume(Transport::Plain);
    let dir = site.scratch("mnt");
    // In a mount namespace of its own, /dev is empty.
    let line = format!(
        "mount -t tmpfs none /dev && exec {BINARY} mount {} {} --passphrase-file {}",
        site.url(),
        text(&dir),
        text(&site.path().join("pass"))
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &line]);
    assert_refused(&mut command, Exit::NoFuse, &["/dev/fuse", "modprobe"]);
}

#[test]
fn a_newer_format_and_a_damaged_header_are_told_apart() {
    let site = Site::start(Transport::Plain);
    let keys = ["laptop/strongroom.json", "laptop/strongroom.copy.json"];
    let header = String::from_utf8(site.bucket().get(keys[0])).unwrap();
    let mut newer: serde_json::Value = serde_json::from_str(&header).unwrap();
    newer["format"] = 2.into();
    for key in keys {
        site.bucket().put(key, newer.to_string().into_bytes());
    }
    assert_refused(
        &mut mount(&site, &[]),
        Exit::NewerFormat,
        &["format 2", "newer"],
    );
    for key in keys {
        site.bucket()
            .put(key, header.as_bytes()[..header.len() / 2].to_vec());
    }
    assert_refused(
        &mut mount(&site, &[]),
        Exit::DamagedHeader,
        &["damaged", "restore"],
    );
}

#[test]
fn memory_under_the_floor_is_refused() {
    let mut command = strongroom(&["mount", "s3://bucket/x", "/mnt", "--memory", "64MiB"]);
    assert_refused(
        &mut command,
        Exit::MemoryTooSmall,
        &["64 MiB", "at least 128 MiB"],
    );
    let mut command = strongroom(&["mount", "s3://bucket/x", "/mnt", "-o", "memory=1MiB"]);
    assert_refused(&mut command, Exit::MemoryTooSmall, &["at least 128 MiB"]);
}

#[test]
fn a_wrong_command_line_is_one_line_too() {
    for (args, words) in [
        (
            &["mount", "--frobnicate"][..],
            &["'--frobnicate'", "mount --help"][..],
        ),
        (
            &["mount", "--memroy=1GiB"],
            &["'--memroy'", "did you mean '--memory'"],
        ),
        (&["frobnicate"], &["'frobnicate'", "--help"]),
        (&["mount"], &["<URL>", "mount --help"]),
        (
            &["mount", "s3://bucket/x", "/mnt", "--memory", "lots"],
            &["--memory", "'lots'"],
        ),
        (
            &["mount", "s3://bucket/x", "/mnt", "--durability", "never"],
            &["'never'", "fsync or close"],
        ),
        (
            &["mount", "s3://bucket/x", "/mnt", "-o", "ro,frobnicate"],
            &["mount option 'frobnicate'"],
        ),
        (
            &["mount", "s3://bucket/x", "/mnt", "-o", "frobnicate=1"],
            &["mount option 'frobnicate'"],
        ),
        (&["mount", "bucket/x", "/mnt"], &["s3://bucket/prefix"]),
        (
            &["init", "s3://bucket/x", "--passphrase-file", "/nonexistent"],
            &["/nonexistent"],
        ),
        (
            &[
                "init",
                "s3://bucket/x",
                "--passphrase-file",
                "a",
                "--key-file",
                "b",
            ],
            &["--passphrase-file", "--key-file"],
        ),
        (
            &["init", "s3://bucket/x", "--passphrase-file", "/dev/null"],
            &["empty"],
        ),
    ] {
        assert_refused(&mut strongroom(args), Exit::Usage, words);
    }
}

#[test]
fn a_directory_that_is_no_mount_of_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    assert_refused(
        &mut strongroom(&["status", text(dir.path())]),
        Exit::NotMounted,
        &["not a Strongroom mount"],
    );
    let mut umount = strongroom(&[
        "umount",
        text(dir.path()),
        "--state-dir",
        text(state.path()),
    ]);
    assert_refused(&mut umount, Exit::NotMounted, &["not a Strongroom mount"]);
}

#[test]
fn a_busy_mount_stays_and_says_so() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "busy");
    mount.mount(&site, &[]);
    let open = fs::File::create(mount.dir.join("open")).unwrap();
    let mut umount = site.strongroom(&["umount", text(&mount.dir)]);
    assert_refused(&mut umount.command, Exit::Busy, &["busy", "fuser"]);
    drop(open);
    mount.umount(&site);
}

#[test]
fn a_drain_that_is_given_up_is_not_called_durable() {
    let site = Site::start(Transport::Plain);
    let mut mount = site.mount();
    fs::write(mount.dir.join("file"), vec![7; 1 << 20]).unwrap();
    site.server()
        .set_faults(strongroom::server::Faults {
            outage: Outage::Refuse,
            ..Default::default()
        })
        .unwrap();
    mount.let_go();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(mount.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(
        mount.wait_gone(),
        i32::from(Exit::NotDurable.code()),
        "{}",
        mount.log_text()
    );
    assert!(
        mount.log_text().contains("not everything became durable"),
        "{}",
        mount.log_text()
    );
}
