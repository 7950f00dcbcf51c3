//! What mounts leave in the bucket when they die, and what `gc` makes of it.

use std::{fs, io::Write};

use crate::{
    harness::BUCKET,
    support::{command, fsck, mount, said, site},
    tree::noise,
};

/// `gc --json`.
fn gc(site: &crate::harness::Site, options: &[&str]) -> serde_json::Value {
    let mut all = vec!["--json"];
    all.extend(options);
    let output = command(site, "gc", &site.url(), &all);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Uploads under way, by the server.
fn uploads(site: &crate::harness::Site) -> usize {
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
        let mut large = fs::File::create(mounted.dir.join("large")).unwrap();
        // Parts go out as they fill; the object is never completed.
        large.write_all(&noise(round, 30 << 20)).unwrap();
        let started = std::time::Instant::now();
        while site.stats().count("UploadPart") < 1 + 2 * round {
            assert!(started.elapsed().as_secs() < 30, "no part goes out");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        mounted.kill();
    }
    // What nobody of ours has made stays, whatever it looks like.
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
    // Of a session that the metadata does not know nothing goes if that may be older than the bucket.
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
