//! `mount --record` and `serve --replay`: where a recording may be, and mistakes.

use std::fs;

use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::{succeed, text},
        har,
        site::{Site, Transport},
    },
};

#[test]
fn a_mount_in_the_background_records_and_status_shows_it() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "record");
    // The process in the background leaves the directory that it was started in.
    let mut command = mount.command(&site, &["-o", "record=traffic.har,record-minutes=3"]);
    succeed(&command.current_dir(site.path()).output().unwrap());
    fs::write(mount.dir.join("file"), "contents").unwrap();
    let path = site.path().join("traffic.har");
    let recording = &mount.status(&site)["recording"];
    assert_eq!(recording["file"], text(&path));
    assert_eq!(recording["minutes"], 3);
    assert_eq!(recording["bound_bytes"], 16 << 20);
    let shown = succeed(&site.strongroom(&["status", text(&mount.dir)]).output());
    assert!(shown.contains("\nRecording\n"), "{shown}");
    assert!(shown.contains("3 minutes, 16 MiB at most"), "{shown}");

    let other = BackgroundMount::prepare(&site, "other");
    let mut second = other.command(&site, &["--read-only", "--record", text(&path)]);
    assert_refused(
        &mut second,
        Exit::Usage,
        &["another mount records there", "--record"],
    );
    mount.umount(&site);
    let waited = crate::support::wait::holds(std::time::Duration::from_secs(20), || {
        fs::metadata(&path).is_ok_and(|meta| meta.len() < 8 << 20)
    });
    assert!(waited, "the recording is put together at the end");
    assert!(har::read(&path).len() > 5);
}

#[test]
fn a_file_that_cannot_be_recorded_in_is_refused_before_anything_else_and_not_touched() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "record");
    let letter = site.path().join("letter");
    fs::write(&letter, "dear").unwrap();
    let requests = site.stats().total_requests();
    for (options, words) in [
        (
            ["--record", text(&letter)],
            ["is no recording", "another file"],
        ),
        (
            ["--record", "/no/such/place.har"],
            ["/no/such/place.har", "another file"],
        ),
        (
            ["--record", "/dev/null"],
            ["no regular file", "another file"],
        ),
        (["--record-minutes", "0"], ["1 to 1440", "record-minutes"]),
        (["--record-size", "1KiB"], ["64 KiB", "record-size"]),
        (["-o", "record-size=lots"], ["'record-size'", "--help"]),
    ] {
        assert_refused(&mut mount.command(&site, &options), Exit::Usage, &words);
    }
    assert_eq!(fs::read_to_string(&letter).unwrap(), "dear");
    assert_eq!(site.stats().total_requests(), requests, "nothing was asked");
}

#[test]
fn a_mount_that_fails_leaves_a_recording_of_how() {
    let mut site = Site::without_volume(Transport::Plain);
    // Nobody listens there.
    site.endpoint = "http://127.0.0.1:1".to_owned();
    let mount = BackgroundMount::prepare(&site, "failed");
    let path = site.path().join("failed.har");
    let mut command = mount.command(&site, &["--record", text(&path)]);
    assert_refused(&mut command, Exit::Unreachable, &["127.0.0.1:1"]);
    let entries = har::read(&path);
    assert!(
        entries.iter().all(|entry| entry.outcome() == "0 refused"),
        "{entries:?}"
    );
    let most = entries.iter().map(|entry| entry.attempt).max();
    assert_eq!(most, Some(5), "{entries:?}");
}

#[test]
fn a_file_that_is_no_recording_is_not_replayed() {
    let site = Site::without_volume(Transport::Plain);
    let letter = site.path().join("letter");
    fs::write(&letter, "{\"log\": {\"entries\": [{}]}}").unwrap();
    let missing = site.path().join("missing.har");
    for (file, word) in [(&letter, "no recording"), (&missing, "missing.har")] {
        let root = site.path().join("elsewhere");
        let options = [
            "serve",
            text(&root),
            "--listen",
            "127.0.0.1:0",
            "--replay",
            text(file),
        ];
        let mut run = site.strongroom(&options);
        assert_refused(&mut run.command, Exit::Usage, &[word, "mount --record"]);
        assert!(!root.exists(), "nothing was begun");
    }
}
