//! A mount whose local disk cache holds everything already, beside the local disk itself.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{
    harness::{mount::Mount, site::Site},
    make_file, say,
    support::{MIB, timed},
};

const FILE_MIB: usize = 768;
const ROUNDS: usize = 3;

/// Needs `--disk-cache 1GiB` or more, and root, who may empty the kernel's page cache.
pub fn run(site: &Site) {
    if site.disk_cache == "off" {
        say("a warm local disk", "needs --disk-cache".into(), "");
        return;
    }
    let state = site.scratch("warm-state");
    let state = state.to_str().expect("path");
    let mount = || site.mount_with(&["--state-dir", state]);

    let writing = mount();
    make_file(&writing.dir.join("file"), FILE_MIB);
    writing.unmount();
    // Frames that came faster than the disk took them were left out of the cache: reading brings
    // the rest.
    for _ in 0..2 {
        let filling = mount();
        read_through(&filling.dir.join("file"));
        filling.unmount();
    }
    let plain = site.scratch("plain").join("file");
    make_file(&plain, FILE_MIB);

    let (mut local, mut warm, mut fetched) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        empty_page_cache();
        local.push(timed(|| read_through(&plain)));
        let mount = mount();
        empty_page_cache();
        warm.push(timed(|| read_through(&mount.dir.join("file"))));
        fetched += frames_fetched(&mount);
        mount.unmount();
    }
    let (local, warm) = (rate(local), rate(warm));
    say(
        &format!("read {FILE_MIB} MiB in order, the local disk has all"),
        format!("{warm:.0} of {local:.0} MiB/s"),
        "0.8 of the disk itself",
    );
    say("  frames fetched", fetched.to_string(), "0");
}

fn read_through(path: &Path) {
    let mut file = File::open(path).expect("open");
    let mut buffer = vec![0; MIB];
    while file.read(&mut buffer).expect("read") > 0 {}
}

/// Only root may.
pub fn empty_page_cache() {
    // Dirty pages cannot be dropped.
    let synced = Command::new("sync").status().expect("sync");
    assert!(synced.success());
    fs::write("/proc/sys/vm/drop_caches", "3").expect("only root may empty the page cache");
}

fn frames_fetched(mount: &Mount<'_>) -> u64 {
    let status = mount.status();
    status["disk_cache"]["misses"].as_u64().expect("a number")
}

/// MiB a second in the median round.
fn rate(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort();
    FILE_MIB as f64 / rounds[rounds.len() / 2].as_secs_f64()
}
