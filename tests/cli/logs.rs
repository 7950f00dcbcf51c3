//! The shape of log lines: for people, for the journal, for programs.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    process::Stdio,
    time::Duration,
};

use crate::{
    running::BackgroundMount,
    support::{
        commands::text,
        site::{Site, Transport},
        wait::block_until,
    },
};

/// The log of a mount in the foreground, whose standard error is a file; the environment says that
/// it is this stream to the journal.
fn log_of(site: &Site, name: &str, options: &[&str], is_journal: bool) -> String {
    let log = site.path().join(name);
    let file = File::create(&log).expect("log");
    let facts = file.metadata().expect("facts");
    let dir = site.scratch(&format!("{name}-mnt"));
    let args = ["mount", &site.url(), text(&dir), "--foreground"];
    let mut run = site.strongroom(&args).with_passphrase(site);
    run.command.args(options).stdout(Stdio::null()).stderr(file);
    if is_journal {
        let stream = format!("{}:{}", facts.dev(), facts.ino());
        run.command.env("JOURNAL_STREAM", stream);
    } else {
        // As a program that systemd started hands it on to one with a log of its own.
        run.command.env("JOURNAL_STREAM", "8:1");
    }
    let mut child = run.command.spawn().expect("mount");
    let lines = || fs::read_to_string(&log).expect("log");
    let is_mounted = || lines().contains("is mounted on");
    block_until("it is mounted", Duration::from_secs(20), is_mounted);
    let unmounted = site.strongroom(&["umount", text(&dir)]).output();
    assert_eq!(unmounted.status.code(), Some(0));
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    lines()
}

#[test]
fn a_line_is_text_with_its_time_or_with_a_priority_for_the_journal() {
    let site = Site::start(Transport::Plain);
    let version = format!("strongroom {}", env!("CARGO_PKG_VERSION"));
    let text = log_of(&site, "text", &[], false);
    let begins = |line: &str, with: &str| line.starts_with(with);
    assert!(
        text.lines()
            .all(|line| begins(line, "20") && line.contains("Z ")),
        "{text}"
    );
    assert!(
        text.contains(&version) && text.contains("--memory 512 MiB"),
        "{text}"
    );

    let journal = log_of(&site, "journal", &[], true);
    assert!(journal.contains(&version), "{journal}");
    for line in journal.lines() {
        assert!(begins(line, "<6>strongroom::"), "{line}");
        assert!(!line.contains("INFO") && !line.contains("Z "), "{line}");
    }
}

#[test]
fn a_line_is_a_json_object_where_that_is_asked_for() {
    let site = Site::start(Transport::Plain);
    for (name, options) in [
        ("json", &["--log-format", "json"][..]),
        ("option", &["-o", "log-format=json"]),
    ] {
        let log = log_of(&site, name, options, true);
        let mut messages = Vec::new();
        for line in log.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect(line);
            assert_eq!(object["level"], "INFO");
            assert!(object["timestamp"].is_string() && object["target"].is_string());
            messages.push(object["message"].as_str().expect("a message").to_owned());
        }
        let is_mounted = |message: &String| message.contains("is mounted on");
        assert!(messages.iter().any(is_mounted), "{log}");
    }
}

#[test]
fn the_log_of_a_mount_is_begun_anew_at_its_size_and_the_one_before_is_kept() {
    const SIZE: u64 = 20 << 10;
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "rotated");
    let options = ["--log-max-size", "20KiB", "--log-level", "debug"];
    mount.mount(&site, &options);
    let log = || {
        let volume = fs::read_dir(&mount.state).expect("state directory");
        let mut volumes = volume.filter_map(|entry| Some(entry.ok()?.path().join("mount.log")));
        volumes.find(|log| log.exists()).expect("a log")
    };
    let (log, before) = (log(), log().with_extension("log.1"));
    let first_line = fs::read_to_string(&log).expect("log");
    let first_line = first_line.lines().next().expect("a line").to_owned();
    // Requests to the store are logged at this level, until the file was begun anew twice.
    let gone = || !fs::read_to_string(&before).is_ok_and(|text| text.contains(&first_line));
    block_until("it was begun anew twice", Duration::from_secs(60), || {
        fs::write(mount.dir.join("file"), b"text").expect("written");
        File::open(mount.dir.join("file"))
            .and_then(|file| file.sync_all())
            .expect("synced");
        before.exists() && gone()
    });
    mount.umount(&site);
    for file in [&log, &before] {
        let len = fs::metadata(file).expect("there").len();
        assert!(len < SIZE + (4 << 10), "{}: {len}", file.display());
    }
}
