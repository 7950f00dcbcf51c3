//! A read-only mount that nobody uses asks the store rarely, and whoever comes back sees what is
//! new.

use std::{
    fs::{self, File},
    time::Duration,
};

use crate::support::{
    commands::shell,
    site::{Site, Transport},
    wait::{block_until, block_until_quiet},
};

/// One look comes so long after the other while the mount is in use.
const FOLLOW: [&str; 3] = ["--read-only", "--follow-every", "100ms"];

/// Returns once looks are more than twenty times as far apart.
fn wait_until_idle(site: &Site) {
    block_until_quiet(
        "looks of a mount that nobody uses",
        Duration::from_millis(2200),
        Duration::from_secs(40),
        || site.stats().total_requests(),
    );
}

#[test]
fn looks_get_rare_and_the_first_read_after_that_sees_what_is_new() {
    let site = Site::start(Transport::Plain);
    let writer = site.mount();
    fs::write(writer.dir.join("file"), b"old").unwrap();
    shell(&writer.dir, "sync file");
    let follower = site.mount_with(&FOLLOW);
    assert_eq!(fs::read(follower.dir.join("file")).unwrap(), b"old");
    for round in 0..2 {
        wait_until_idle(&site);
        let new = format!("new contents of round {round}");
        fs::write(writer.dir.join("file"), &new).unwrap();
        fs::write(writer.dir.join(format!("beside-{round}")), b"").unwrap();
        shell(&writer.dir, "sync file . && sync -f .");
        assert_eq!(fs::read_to_string(follower.dir.join("file")).unwrap(), new);
        assert_eq!(fs::read_dir(&follower.dir).unwrap().count(), 2 + round);
    }
    follower.unmount();
    writer.unmount();
}

#[test]
fn a_mount_with_an_open_file_is_never_idle() {
    let site = Site::start(Transport::Plain);
    let writer = site.mount();
    fs::write(writer.dir.join("file"), b"contents").unwrap();
    shell(&writer.dir, "sync file");
    let follower = site.mount_with(&FOLLOW);
    let open = File::open(follower.dir.join("file")).unwrap();
    let before = site.stats().total_requests();
    // An idle one makes some fifty looks in this time.
    block_until("ninety looks", Duration::from_secs(14), || {
        site.stats().total_requests() >= before + 90
    });
    drop(open);
    follower.unmount();
    writer.unmount();
}

#[test]
fn an_idle_mount_answers_from_what_it_knows_while_the_store_is_away() {
    let site = Site::start(Transport::Plain);
    let writer = site.mount();
    fs::create_dir(writer.dir.join("directory")).unwrap();
    shell(&writer.dir, "sync directory");
    let follower = site.mount_with(&FOLLOW);
    let names = || fs::read_dir(&follower.dir).unwrap().count();
    assert_eq!(names(), 1);
    wait_until_idle(&site);
    site.server()
        .set_faults(strongroom::server::Faults {
            outage: strongroom::server::Outage::Hang,
            ..Default::default()
        })
        .unwrap();
    let began = std::time::Instant::now();
    assert_eq!(names(), 1);
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    let began = std::time::Instant::now();
    assert_eq!(names(), 1, "the second one does not wait again");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    site.server().set_faults(Default::default()).unwrap();
    follower.unmount();
    writer.unmount();
}
