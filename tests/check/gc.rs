//! Mounts that die leave objects in the bucket; `gc` deletes those, and nothing else.

use std::{
    fs,
    io::Write,
    time::{Duration, SystemTime},
};

use crate::{
    copies::{command, fsck, mount, site},
    support::{
        bucket::BUCKET,
        commands::said,
        lying::{Lie, LyingStore, Op, Rule},
        random::noise,
    },
};

/// `gc --json`.
fn gc(site: &crate::support::site::Site, options: &[&str]) -> serde_json::Value {
    let mut all = vec!["--json"];
    all.extend(options);
    let output = command(site, "gc", &site.url(), &all);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Uploads under way, by the server.
fn uploads(site: &crate::support::site::Site) -> usize {
    let client = site.bucket().client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
        listed.unwrap().uploads().len()
    })
}

#[test]
fn after_kills_in_the_middle_of_uploads_nothing_is_left_that_the_metadata_does_not_name() {
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &[]);
    fs::write(mounted.dir.join("kept"), noise(1, 200_000)).unwrap();
    mounted.unmount();
    for round in 0..3u64 {
        let mounted = mount(&site, &url, &["--upload-delay", "1m"]);
        let parts_before = site.stats().count("UploadPart");
        let mut large = fs::File::create(mounted.dir.join("large")).unwrap();
        // Parts go out as they fill; the object is never completed.
        large.write_all(&noise(round, 30 << 20)).unwrap();
        let started = std::time::Instant::now();
        while site.stats().count("UploadPart") < parts_before + 1 + round {
            assert!(started.elapsed().as_secs() < 30, "no part goes out");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        mounted.kill();
    }
    // A key that no session could have made stays, whatever its object looks like.
    site.bucket().put("laptop/data/readme", b"mine".to_vec());
    let stray = format!("laptop/data/{}/{:016x}", "ab".repeat(16), 3);
    site.bucket().put(&stray, noise(9, 5000));
    let odd = format!("laptop/data/{}/three", "ab".repeat(16));
    site.bucket().put(&odd, b"mine".to_vec());

    assert!(uploads(&site) > 0, "the kills left no upload");
    let keys = site.bucket().keys();
    let looked = gc(&site, &["--dry-run"]);
    assert!(looked["uploads"].as_u64().unwrap() > 0, "{looked}");
    assert!(looked["left_objects"].as_u64().unwrap() > 0, "{looked}");
    assert_eq!(keys, site.bucket().keys(), "--dry-run deleted something");
    // Objects of a session that the metadata does not know stay if the metadata may be older than
    // the bucket.
    let careful = gc(&site, &["--dry-run", "--allow-rollback"]);
    assert_eq!(careful["living_sessions"], 1, "{careful}");
    assert!(
        careful["left_bytes"].as_u64() < looked["left_bytes"].as_u64(),
        "{careful}"
    );
    let swept = gc(&site, &[]);
    assert!(swept["freed_bytes"].as_u64().unwrap() >= 5000, "{swept}");
    assert_eq!(swept["foreign"], 2, "{swept}");
    assert_eq!(uploads(&site), 0);
    let keys = site.bucket().keys();
    assert!(!keys.contains(&stray) && keys.contains(&odd), "{keys:?}");

    // The check says the same: everything below data/ is named.
    let output = command(&site, "fsck", &url, &["--data", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let summary = String::from_utf8(output.stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary.lines().last().unwrap()).unwrap();
    assert_eq!(summary["unnamed_objects"], 0, "{summary}");
    let again = gc(&site, &[]);
    assert_eq!(again["freed_bytes"], 0, "{again}");
    let mounted = mount(&site, &url, &["--read-only"]);
    assert!(fs::read(mounted.dir.join("kept")).unwrap() == noise(1, 200_000));
    mounted.unmount();
}

#[test]
fn what_was_removed_while_it_was_open_in_a_mount_that_died_is_let_go_of() {
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &[]);
    let held = fs::File::create(mounted.dir.join("held")).unwrap();
    (&held).write_all(&noise(1, 400_000)).unwrap();
    held.sync_all().unwrap();
    fs::remove_file(mounted.dir.join("held")).unwrap();
    fs::File::open(&mounted.dir).unwrap().sync_all().unwrap();
    mounted.kill();
    let swept = gc(&site, &[]);
    assert_eq!(swept["orphans"], 1, "{swept}");
    // Nobody has a byte of its object any more, and it stays for its grace all the same.
    assert_eq!(swept["garbage_kept_objects"], 1, "{swept}");
    fsck(&site, &url, &[], 0);
    let after = gc(&site, &[]);
    assert_eq!(after["orphans"], 0, "{after}");
}

/// Listings say of these keys that they were written so long ago.
fn aged(store: &LyingStore, keys: &[&str], age: Duration) {
    let written = time::OffsetDateTime::from(SystemTime::now() - age);
    let format = &time::format_description::well_known::Rfc3339;
    let written = written.format(format).unwrap();
    let keys: Vec<String> = keys.iter().map(|key| format!("<Key>{key}</Key>")).collect();
    let lie = Lie::change(move |answer| {
        let listing = String::from_utf8(answer.body.clone()).unwrap();
        let entries = listing.split("<Contents>").map(|entry| {
            let (begin, end) = ("<LastModified>", "</LastModified>");
            match (entry.find(begin), entry.find(end)) {
                (Some(from), Some(to)) if keys.iter().any(|key| entry.contains(key)) => {
                    let (head, tail) = (&entry[..from], &entry[to..]);
                    format!("{head}{begin}{written}{tail}")
                }
                _ => entry.to_owned(),
            }
        });
        answer.body = entries.collect::<Vec<_>>().join("<Contents>").into_bytes();
    });
    store.heal();
    store.lie(Rule::on([Op::List]).always(lie));
}

#[test]
fn notes_of_readers_that_are_silent_for_ten_minutes_go_and_those_of_living_ones_stay() {
    let mut site = site();
    let store = LyingStore::before(site.server().local_addr());
    let url = site.url();
    let writer = mount(&site, &url, &[]);
    fs::write(writer.dir.join("file"), noise(1, 300_000)).unwrap();
    writer.unmount();
    site.endpoint = store.endpoint();
    let notes = || -> Vec<String> {
        let keys = site.bucket().keys().into_iter();
        keys.filter(|key| key.contains("/readers/")).collect()
    };
    let new_note = |known: &[String]| {
        let began = std::time::Instant::now();
        loop {
            if let Some(note) = notes().into_iter().find(|note| !known.contains(note)) {
                return note;
            }
            assert!(began.elapsed().as_secs() < 20, "it leaves no note");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let dead = mount(&site, &url, &["--read-only"]);
    let of_the_dead = new_note(&[]);
    dead.kill();
    let living = mount(&site, &url, &["--read-only"]);
    let of_the_living = new_note(std::slice::from_ref(&of_the_dead));
    // Nobody of ours has made that.
    let odd = "laptop/readers/mine".to_owned();
    site.bucket().put(&odd, b"mine".to_vec());

    let silent = [of_the_dead.as_str(), odd.as_str()];
    aged(&store, &silent, Duration::from_secs(590));
    let swept = gc(&site, &[]);
    assert_eq!(swept["reader_notes"], 0, "{swept}");
    assert_eq!(notes().len(), 3);

    aged(&store, &silent, Duration::from_secs(601));
    let looked = gc(&site, &["--dry-run"]);
    assert_eq!(looked["reader_notes"], 1, "{looked}");
    assert_eq!(notes().len(), 3, "--dry-run deleted something");
    let swept = gc(&site, &[]);
    assert_eq!(swept["reader_notes"], 1, "{swept}");
    assert_eq!(swept["foreign"], 1, "{swept}");
    let mut left = [of_the_living, odd];
    left.sort();
    assert_eq!(notes(), left);
    store.heal();
    assert!(fs::read(living.dir.join("file")).unwrap() == noise(1, 300_000));
    // A reader that unmounts takes its note away.
    living.unmount();
    assert_eq!(notes(), ["laptop/readers/mine"]);
}
