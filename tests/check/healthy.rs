//! Healthy volumes of every kind are whole: a false alarm is as bad as a miss.

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use strongroom::server::Faults;

use crate::{
    copies::{command, fill, fsck, mount, site},
    support::{commands::said, random::noise, tree::odd},
};

#[test]
fn a_volume_is_whole_when_it_is_new_and_whatever_was_put_into_it() {
    let site = site();
    let url = site.url();
    fsck(&site, &url, &["--data"], 0);
    let mounted = mount(&site, &url, &[]);
    fill(&mounted.dir);
    fs::create_dir(mounted.dir.join("odd")).unwrap();
    odd(&mounted.dir.join("odd"));
    mounted.unmount();
    let keys = site.bucket().keys();
    fsck(&site, &url, &["--data"], 0);
    assert_eq!(keys, site.bucket().keys(), "a check wrote something");
    // A repair finds nothing to do.
    let out = fsck(&site, &url, &["--data", "--repair"], 0);
    assert!(out.contains("is whole"), "{out}");
}

#[test]
fn a_volume_is_whole_after_kills_with_orphans_and_replacements() {
    let site = site();
    let url = site.url();
    for round in 0..4u64 {
        let mounted = mount(&site, &url, &["--upload-delay", "200ms"]);
        let dir = &mounted.dir;
        for index in 0..12u64 {
            let seed = round * 100 + index;
            fs::write(
                dir.join(format!("file{index}")),
                noise(seed, 5000 * index as usize),
            )
            .unwrap();
            // Replaced by rename, before its contents are committed.
            fs::write(dir.join("new"), noise(seed, 9000)).unwrap();
            fs::rename(dir.join("new"), dir.join(format!("replaced{}", index % 3))).unwrap();
        }
        // Open, and without a name when the mount dies.
        let held = fs::File::create(dir.join("orphan")).unwrap();
        held.write_all_at(&noise(round, 300_000), 0).unwrap();
        held.sync_all().unwrap();
        fs::remove_file(dir.join("orphan")).unwrap();
        fs::File::open(dir).unwrap().sync_all().unwrap();
        let mut large = fs::File::create(dir.join(format!("large{round}"))).unwrap();
        large.write_all(&noise(round, 9 << 20)).unwrap();
        mounted.kill();
        drop((held, large));
        fsck(&site, &url, &["--data"], 0);
    }
    // Nor does a repair take anything for damage that a kill left.
    fsck(&site, &url, &["--data", "--repair"], 0);
    let mounted = mount(&site, &url, &[]);
    mounted.unmount();
    fsck(&site, &url, &["--data"], 0);
}

#[test]
fn a_check_beside_a_living_writer_sees_one_state_and_no_fault() {
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &["--upload-delay", "100ms"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = &mounted.dir;
            for index in 0u64.. {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let name = dir.join(format!("file{}", index % 17));
                fs::write(
                    &name,
                    noise(index, 1000 + (index as usize * 7919) % 400_000),
                )
                .unwrap();
                let _ = fs::rename(&name, dir.join(format!("moved{}", index % 5)));
                let _ = fs::create_dir(dir.join(format!("dir{}", index % 9)));
                let _ = fs::remove_dir(dir.join(format!("dir{}", (index + 4) % 9)));
                if index % 3 == 0 {
                    fs::File::open(dir).unwrap().sync_all().unwrap();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for round in 0..12 {
            let options = if round % 2 == 0 { &["--data"][..] } else { &[] };
            let output = command(&site, "fsck", &url, options);
            assert_eq!(
                output.status.code(),
                Some(0),
                "round {round}: {}",
                said(&output)
            );
            assert!(said(&output).contains("mounted for writing"));
        }
        // A repair, and a collection, must not touch what somebody else writes to.
        for command_name in ["fsck", "gc"] {
            let options = match command_name {
                "fsck" => &["--repair"][..],
                _ => &[],
            };
            let output = command(&site, command_name, &url, options);
            assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        }
        let output = command(&site, "gc", &url, &["--dry-run"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        stop.store(true, Ordering::Release);
    });
    mounted.unmount();
    fsck(&site, &url, &["--data"], 0);
}

#[test]
fn the_stored_volume_of_an_earlier_version_is_whole() {
    let site = site();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/volume-1");
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let key = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
            let object = fs::read(entry.path()).unwrap();
            site.bucket().put(&format!("stored/{key}"), object);
        }
    }
    let pass = site.path().join("pass");
    let url = format!("s3://{}/stored", crate::support::bucket::BUCKET);
    let checked = site
        .strongroom(&[
            "fsck",
            &url,
            "--data",
            "--passphrase-file",
            pass.to_str().unwrap(),
        ])
        .output();
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
}

#[test]
fn a_check_opens_every_frame_as_fsck_does_with_data() {
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &[]);
    fs::write(mounted.dir.join("file"), noise(7, 700_000)).unwrap();
    mounted.unmount();
    let frames = |command_name: &str, options: &[&str]| {
        let output = command(&site, command_name, &url, options);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = lines.lines().last().expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(summary).expect("JSON");
        summary["frames"].as_u64().expect("a number")
    };
    let opened = frames("fsck", &["--data", "--json"]);
    assert!(opened >= 10, "{opened}");
    assert_eq!(frames("check", &["--json"]), opened);
    assert_eq!(frames("fsck", &["--json"]), 0);
}

#[test]
fn what_keeps_a_volume_from_being_opened_has_the_codes_that_scripts_know() {
    let site = site();
    let wrong = site.path().join("wrong");
    fs::write(&wrong, noise(5, 64)).unwrap();
    let url = site.url();
    let code = |args: &[&str]| site.strongroom(args).output().status.code();
    let wrong = wrong.to_str().unwrap();
    assert_eq!(code(&["fsck", &url, "--key-file", wrong]), Some(3));
    assert_eq!(code(&["fsck", &url, "--no-such-option"]), Some(16));
    let key = crate::copies::key_of(&site);
    let nothing = format!("s3://{}/nothing", crate::support::bucket::BUCKET);
    assert_eq!(code(&["fsck", &nothing, "--key-file", &key]), Some(8));
}

#[test]
fn a_check_that_is_interrupted_ends_at_once_and_gives_the_lease_back() {
    let site = site();
    let (url, key) = (site.url(), crate::copies::key_of(&site));
    let hang = Faults {
        latency: Duration::from_millis(200),
        ..Faults::default()
    };
    site.server().set_faults(hang).unwrap();
    let before = site.stats().count("PutObject");
    let mut command = site
        .strongroom(&["fsck", &url, "--repair", "--key-file", &key])
        .command;
    let mut child = command.spawn().unwrap();
    // The lease is taken.
    while site.stats().count("PutObject") == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(32));
    site.server().set_faults(Faults::default()).unwrap();
    let began = std::time::Instant::now();
    fsck(&site, &url, &["--repair"], 0);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "it waited for a lease"
    );
}
