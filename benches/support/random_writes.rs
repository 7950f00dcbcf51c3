//! Random writes of pages, and the sequential read of the file that they leave.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

use crate::{
    PAGE,
    harness::site::Site,
    make_file, say, seconds,
    support::{MIB, Random, noise, timed},
    traffic,
};

/// How random writes are measured, and the limits that are named beside the figures.
pub struct RandomWrites {
    options: &'static [&'static str],
    what: &'static str,
    /// How long the file is left alone before it is read.
    quiet: Duration,
    rate: &'static str,
    moved: &'static str,
}

/// Read back at once, as the writes left it.
pub const RANDOM_WRITE: RandomWrites = RandomWrites {
    options: &[],
    what: "the default --upload-delay",
    quiet: Duration::ZERO,
    rate: "10,000/s",
    moved: "3",
};

/// Every overwritten byte is absorbed, if there is memory for it.
pub const ABSORBED_WRITE: RandomWrites = RandomWrites {
    options: &["--upload-delay", "1m"],
    what: "--upload-delay 1m",
    quiet: Duration::ZERO,
    rate: "10,000/s",
    moved: "1.3",
};

/// Read back after the file was quiet for a minute, in which it may be put in order.
pub const SCATTERED_WRITE: RandomWrites = RandomWrites {
    options: &[],
    what: "the default --upload-delay",
    quiet: Duration::from_secs(60),
    rate: "25,000/s",
    moved: "3",
};

/// Writes pages at random for 20 s, then reads the file in order.
pub fn run(site: &Site, how: &RandomWrites) {
    const FILE_MIB: usize = 256;
    let mount = site.mount_with(how.options);
    make_file(&mount.dir.join("fragmented"), FILE_MIB);
    make_file(&mount.dir.join("whole"), FILE_MIB);
    let file = OpenOptions::new()
        .write(true)
        .open(mount.dir.join("fragmented"))
        .expect("open");
    let before = site.stats();
    let mut random = Random(7);
    let page = noise(PAGE as usize);
    let mut distinct = HashSet::new();
    let (mut writes, began) = (0_u64, Instant::now());
    while began.elapsed() < Duration::from_secs(20) {
        let number = random.next() % ((FILE_MIB * MIB) as u64 / PAGE);
        file.write_all_at(&page, number * PAGE).expect("write");
        distinct.insert(number);
        writes += 1;
    }
    let rate = writes as f64 / began.elapsed().as_secs_f64();
    let drained = timed(|| file.sync_all().expect("fsync"));
    let synced = site.stats();
    let distinct = distinct.len() as u64 * PAGE;
    let moved = synced.socket_bytes_read - before.socket_bytes_read;
    let peak = mount.memory_bytes("VmHWM") / MIB as u64;
    drop(file);
    thread::sleep(how.quiet);
    let after = site.stats();
    mount.unmount();
    say(
        &format!("random 4 KiB writes for 20 s, {}", how.what),
        format!("{rate:.0}/s"),
        how.rate,
    );
    say(
        "  bytes moved for each distinct byte written",
        format!("{:.2}", moved as f64 / distinct as f64),
        &format!("{}; {}", how.moved, traffic(&before, &synced)),
    );
    say("  peak RSS until then", format!("{peak} MiB"), site.memory);
    if !how.quiet.is_zero() {
        say(
            "  quiet",
            seconds(how.quiet),
            &format!("-; {}", traffic(&synced, &after)),
        );
    }
    say("  fsync afterwards", seconds(drained), "3 s");
    let [fragmented, whole] = ["fragmented", "whole"].map(|name| {
        let mount = site.mount();
        let before = site.stats();
        let took = timed(|| {
            let mut file = File::open(mount.dir.join(name)).expect("open");
            let mut buffer = vec![0; MIB];
            while file.read(&mut buffer).expect("read") > 0 {}
        });
        let after = site.stats();
        mount.unmount();
        let moved = after.socket_bytes_written - before.socket_bytes_written;
        say(
            &format!("  cold sequential read of the {name} file"),
            format!("{:.0} MiB/s", FILE_MIB as f64 / took.as_secs_f64()),
            &format!(
                "{} GETs, {:.2} times its size",
                after.count("GetObject") - before.count("GetObject"),
                moved as f64 / (FILE_MIB * MIB) as f64
            ),
        );
        took.as_secs_f64()
    });
    say(
        "  speed of the fragmented file beside the whole one",
        format!("{:.2}", whole / fragmented),
        "0.5",
    );
}
