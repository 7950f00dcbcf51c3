//! `--max-upload-rate` and `--max-download-rate`, over a server that would take far more.

use std::{
    fs::{self, File},
    io::Write,
    time::{Duration, Instant},
};

use crate::support::{
    random::noise,
    site::{Site, Transport},
};

const MIB: usize = 1 << 20;
const FILE_BYTES: usize = 24 * MIB;
const RATE: f64 = (4 * MIB) as f64;

/// Bytes that may be under way beyond the rate: one range of a download, or buffers of sockets, and
/// what an idle line catches up on.
const AHEAD_BYTES: f64 = (16 * MIB) as f64;

fn assert_kept(moved: u64, took: Duration) {
    let allowed = RATE * took.as_secs_f64() + AHEAD_BYTES;
    assert!(moved as f64 <= allowed, "{moved} bytes in {took:?}");
    assert!(moved >= FILE_BYTES as u64, "only {moved} bytes");
}

#[test]
fn a_mount_keeps_to_its_rates_both_ways_and_fsync_does_not_wait_for_them() {
    let site = Site::start(Transport::Plain);
    let limits = [
        "--max-upload-rate",
        "4MiB/s",
        "-o",
        "max-download-rate=4MiB",
    ];
    let content = noise(3, FILE_BYTES);
    let mount = site.mount_with(&limits);
    let before = site.stats().socket_bytes_read;
    let began = Instant::now();
    let mut file = File::create(mount.dir.join("file")).expect("create");
    file.write_all(&content).expect("write");
    let large = std::thread::spawn(move || file.sync_all());
    // A small file is durable while the large one is on its way.
    let mut synced = 0;
    while !large.is_finished() {
        let mut small = File::create(mount.dir.join(format!("small-{synced}"))).expect("create");
        small.write_all(b"a line").expect("write");
        let asked = Instant::now();
        small.sync_all().expect("fsync");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        synced += 1;
    }
    large.join().expect("no panic").expect("fsync");
    let took = began.elapsed();
    assert!(synced >= 3, "{synced} in {took:?}");
    assert!(took >= Duration::from_secs(4), "{took:?}");
    assert_kept(site.stats().socket_bytes_read - before, took);
    let status = mount.status();
    for limit in ["upload_limit", "download_limit"] {
        assert_eq!(status["link"][limit].as_u64(), Some(4 << 20), "{limit}");
    }
    mount.unmount();

    let mount = site.mount_with(&limits);
    let before = site.stats().socket_bytes_written;
    let began = Instant::now();
    let read = fs::read(mount.dir.join("file")).expect("read");
    let took = began.elapsed();
    assert!(read == content, "other bytes");
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert_kept(site.stats().socket_bytes_written - before, took);
    mount.unmount();
}
