//! A provider that hides the newest log objects from one mount and shows them again to the next.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    mount::Mount,
    random::noise,
    site::{Site, Transport},
};

/// Writes a file and returns when it is in the store, by one log object.
fn write_synced(dir: &Path, name: &str, seed: u64) {
    let file = dir.join(name);
    fs::write(&file, noise(seed, 3000)).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    fs::File::open(dir).unwrap().sync_all().unwrap();
}

fn log_keys(site: &Site) -> Vec<String> {
    let keys = site.bucket().keys();
    keys.into_iter()
        .filter(|key| key.contains("/meta/wal/"))
        .collect()
}

/// Mounts, and waits for the refusal.
fn refused(site: &Site) -> String {
    let mut mount: Mount<'_> = site.begin_mount(&["--takeover"]);
    assert_ne!(mount.wait_gone(), 0);
    mount.log_text()
}

#[test]
fn a_history_that_was_written_over_a_hidden_one_is_told_apart_when_the_hidden_one_is_shown_again() {
    for hidden in 1..=3 {
        let site = Site::start(Transport::Plain);
        let mount = site.mount();
        for seed in 0..5 {
            write_synced(&mount.dir, &format!("f{seed}"), seed);
        }
        mount.kill();
        let keys = log_keys(&site);
        let (_, end) = keys.split_at(keys.len() - hidden);
        let originals: Vec<_> = end
            .iter()
            .map(|key| (key.clone(), site.bucket().get(key)))
            .collect();
        for key in end {
            site.bucket().delete(key);
        }
        // A machine that never saw the volume cannot know. Its mount is interrupted as soon as it
        // answers.
        site.mount_with(&["--takeover"]).kill();
        let other = log_keys(&site);
        assert!(other.len() > keys.len() - hidden, "nothing was written");
        // Each original alone: it is not continued by what comes after it, or does not continue
        // what is before it.
        for (key, stored) in &originals {
            let written = other.contains(key).then(|| site.bucket().get(key));
            site.bucket().put(key, stored.clone());
            let said = refused(&site);
            assert!(
                said.contains("belongs to another history of the volume")
                    && said.contains("meta/wal/"),
                "{hidden} hidden, {key} shown: {said}"
            );
            match written {
                Some(written) => site.bucket().put(key, written),
                None => site.bucket().delete(key),
            }
        }
    }
}

#[test]
fn kills_right_after_the_mount_and_between_log_objects_never_refuse_the_next_mount() {
    let site = Site::start(Transport::Plain);
    for round in 0..6 {
        let mount = site.mount_with(&["--takeover"]);
        for seed in 0..round {
            let path = mount.dir.join(format!("f{seed}"));
            assert!(fs::read(path).unwrap() == noise(seed, 3000));
        }
        write_synced(&mount.dir, &format!("f{round}"), round);
        let dir = mount.dir.clone();
        let writing = std::thread::spawn(move || {
            for i in 0..1000 {
                if fs::write(dir.join(format!("lost{i}")), b"x").is_err() {
                    return;
                }
                let _ = fs::File::open(&dir).and_then(|dir| dir.sync_all());
            }
        });
        // Any moment will do: this is where the process is killed, not a wait for something.
        std::thread::sleep(Duration::from_millis(round * 7));
        mount.kill();
        writing.join().unwrap();
    }
    let mount = site.mount_with(&["--takeover"]);
    write_synced(&mount.dir, "last", 99);
    mount.unmount();
    site.mount().unmount();
}
