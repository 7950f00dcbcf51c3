//! Mounts that were there before the new key.

use std::{fs, time::Duration};

use crate::{
    place::{Place, fill},
    support::{
        commands::{said, shell},
        random::noise,
        wait::block_until,
    },
};

/// Looks come so soon after each other that tests need not wait for them.
const FOLLOW: [&str; 3] = ["--read-only", "--follow-every", "100ms"];

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_writer_that_runs_goes_on_with_its_key_and_the_next_mount_takes_the_new_one() {
    let place = Place::new();
    let mount = place.mount(&[]);
    fs::write(mount.dir.join("before"), noise(1, 100_000)).unwrap();
    shell(&mount.dir, "sync before");
    place.rotate();
    fs::write(mount.dir.join("after"), noise(2, 100_000)).unwrap();
    shell(&mount.dir, "sync after");
    fs::remove_file(mount.dir.join("before")).unwrap();
    shell(&mount.dir, "sync -f .");
    // Others read what it writes, with the new header.
    let follower = place.mount_elsewhere(&FOLLOW);
    assert!(fs::read(follower.dir.join("after")).unwrap() == noise(2, 100_000));
    follower.unmount();
    mount.unmount();
    assert!(place.epochs("data/").into_values().all(|epoch| epoch == 1));
    // The machine has noted the new header, and the old mount has not made it forget that.
    let mount = place.mount(&[]);
    assert!(fs::read(mount.dir.join("after")).unwrap() == noise(2, 100_000));
    fs::write(mount.dir.join("now"), noise(3, 100_000)).unwrap();
    mount.unmount();
    let epochs: Vec<u32> = place.epochs("data/").into_values().collect();
    assert!(epochs.contains(&1) && epochs.contains(&2), "{epochs:?}");
    place.is_whole();
}

#[test]
fn a_follower_that_runs_shows_what_it_knew_and_says_to_mount_again() {
    let place = Place::new();
    let writer = place.mount(&[]);
    fill(&writer.dir, 1);
    shell(&writer.dir, "sync -f .");
    let follower = place.mount_elsewhere(&FOLLOW);
    for name in ["dir/small3", "dir/small5"] {
        shell(&writer.dir, &format!("sync {name} dir"));
    }
    block_until("the follower has all", PATIENCE, || {
        fs::read(follower.dir.join("dir/small5")).is_ok_and(|found| found == noise(6, 20_000))
    });
    place.rotate();
    // As long as the writer goes on with its key, so does the follower.
    fs::write(writer.dir.join("still"), b"seen").unwrap();
    shell(&writer.dir, "sync still .");
    block_until("the follower follows", PATIENCE, || {
        fs::read(follower.dir.join("still")).is_ok_and(|found| found == b"seen")
    });
    writer.unmount();
    let trouble = || follower.status()["durability"]["trouble"].clone();
    assert!(trouble().is_null(), "{}", trouble());

    let writer = place.mount(&[]);
    fs::write(writer.dir.join("new"), noise(9, 100_000)).unwrap();
    shell(&writer.dir, "sync new .");
    block_until("the follower says so", PATIENCE, || trouble().is_string());
    let told = trouble();
    let told = told.as_str().unwrap();
    assert!(
        told.contains("under key epoch 2") && told.contains("mounted again"),
        "{told}"
    );
    // The files that it knew are there still; nothing is made up for what it cannot read.
    assert!(fs::read(follower.dir.join("dir/small3")).unwrap() == noise(4, 20_000));
    assert!(!follower.dir.join("new").exists());
    // Thirty requests later the log has said it once of each object.
    // While a file is open, looks do not get rarer.
    let open = fs::File::open(follower.dir.join("dir/small3")).unwrap();
    let looks = place.site.stats().total_requests();
    block_until("more looks", PATIENCE, || {
        place.site.stats().total_requests() > looks + 30
    });
    drop(open);
    let log = follower.log_text();
    let mut errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(!errors.is_empty() && errors.len() <= 3, "{log}");
    errors.sort_unstable_by_key(|line| line.split("object ").nth(1));
    errors.dedup_by_key(|line| line.split("object ").nth(1));
    assert_eq!(
        errors.len(),
        log.matches("ERROR").count(),
        "said twice: {log}"
    );
    assert!(log.matches("key epoch 2").count() <= 6, "{log}");
    assert!(
        log.contains("unmount the volume and mount it again"),
        "{log}"
    );
    follower.unmount();

    let again = place.mount_elsewhere(&FOLLOW);
    assert!(fs::read(again.dir.join("new")).unwrap() == noise(9, 100_000));
    again.unmount();
    writer.unmount();
}

#[test]
fn a_writer_from_before_the_new_key_notices_that_a_later_one_took_over() {
    let place = Place::new();
    let mut first = place.mount(&[]);
    fs::write(first.dir.join("file"), noise(1, 100_000)).unwrap();
    shell(&first.dir, "sync -f .");
    place.rotate();
    let second = place.mount_elsewhere(&["--takeover"]);
    fs::write(second.dir.join("mine"), noise(2, 100_000)).unwrap();
    shell(&second.dir, "sync -f .");
    // It asks the store when it writes, or when it renews its lease.
    block_until("the first one fails", Duration::from_secs(60), || {
        let written = fs::write(first.dir.join("late"), b"late");
        written.is_err() || fs::File::open(&first.dir).is_ok_and(|dir| dir.sync_all().is_err())
    });
    block_until("it says why", PATIENCE, || {
        first
            .log_text()
            .contains("another mount has taken this volume over")
    });
    first.let_go();
    assert_eq!(first.wait_gone(), 25, "{}", first.log_text());
    second.unmount();
    place.is_whole();
}

#[test]
fn a_rewrite_needs_the_volume_for_itself() {
    let place = Place::new();
    place.rotate();
    let writer = place.mount(&[]);
    let refused = place.rewriting().output().unwrap();
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains("mounted by process"), "{told}");
    fs::write(writer.dir.join("file"), b"goes on").unwrap();
    writer.unmount();
    place.rewrite();
}
