//! Nothing grows with the number of requests: memory, connections, handshakes, descriptors.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::cgroup::{Cgroup, MEMORY_LIMIT};
use crate::support::plot::{Panel, slope, svg};
use crate::support::{
    har,
    mount::Mount,
    site::{Site, Transport},
};

const FRAME: u64 = 65_536;
const CONNECTIONS_MAX: u64 = 16;

fn descriptors(mount: &Mount<'_>) -> usize {
    fs::read_dir(format!("/proc/{}/fd", mount.pid()))
        .expect("descriptors")
        .count()
}

/// RSS goes up and down by this much as the allocator keeps free pages and returns them: seen are 3
/// MiB within 10,000 requests, in either direction.
const RSS_SWING: f64 = (4 << 20) as f64;

/// Random frames of a file that no cache holds, and now and then a small file and its fsync, until
/// the server has counted `requests`. What the allocator has handed out may grow by `growth_max`
/// bytes a request. RSS may too, and by the swing beside it: its slope is as exact as the run is
/// long. `options` go to the mount.
fn requests_over_tls(requests: u64, growth_max: f64, options: &[&str]) {
    let mut site = Site::start(Transport::Tls);
    site.memory = "128MiB";
    let mount = site.mount();
    let file_len: u64 = 512 << 20;
    let mut file = File::create(mount.dir.join("large")).expect("create");
    let mut noise = vec![0_u8; 1 << 20];
    for round in 0..file_len >> 20 {
        for (at, byte) in noise.iter_mut().enumerate() {
            *byte = (at as u64 * 31 + round * 7) as u8;
        }
        file.write_all(&noise).expect("write");
    }
    file.sync_all().expect("fsync");
    drop(file);
    mount.unmount();

    let mount = site.mount_with(options);
    let file = File::open(mount.dir.join("large")).expect("open");
    let before = site.stats();
    let frames = file_len / FRAME;
    let (mut allocated, mut resident, mut most_descriptors) = (Vec::new(), Vec::new(), 0);
    let mut done = 0;
    let mut round = 0;
    while done < requests {
        for _ in 0..200 {
            let mut few = [0; 100];
            file.read_exact_at(&mut few, round * 6_151 % frames * FRAME)
                .expect("read");
            round += 1;
        }
        let small = mount.dir.join(format!("small{}", round % 7));
        let mut small = File::create(small).expect("create");
        small.write_all(&noise[..5000]).expect("write");
        small.sync_all().expect("fsync");
        done = site.stats().total_requests() - before.total_requests();
        if done > requests / 2 {
            let sample = mount.memory_sample();
            if resident.is_empty() {
                eprintln!("after {done}: {}", sample.text());
            }
            allocated.push((done as f64, sample.allocated as f64));
            resident.push((done as f64, sample.rss as f64));
            most_descriptors = most_descriptors.max(descriptors(&mount));
        }
    }
    eprintln!("after {done}: {}", mount.memory_sample().text());
    drop(file);
    let after = site.stats();
    let handshakes = after.tls_handshakes - before.tls_handshakes;
    let aborted = after.requests_aborted - before.requests_aborted;
    let (growth, rss_growth) = (slope(&allocated), slope(&resident));
    eprintln!(
        "{done} requests over TLS: {growth:.1} bytes allocated and {rss_growth:.1} of RSS a request, {handshakes} handshakes ({aborted} bodies let go), at most {most_descriptors} descriptors"
    );
    assert!(
        growth < growth_max,
        "{growth} bytes a request are kept allocated"
    );
    let swing = RSS_SWING / (requests / 2) as f64;
    assert!(
        rss_growth < growth_max + swing,
        "RSS grows by {rss_growth} bytes a request"
    );
    assert!(
        handshakes <= CONNECTIONS_MAX + aborted,
        "{handshakes} handshakes"
    );
    assert!(most_descriptors < 64, "{most_descriptors} descriptors");
    mount.unmount();
}

/// Reads, writes, lists, renames and removes for as long as it is told, with pauses of up to
/// `pause_max_ms` in between.
fn mixed_load(dir: &Path, thread: usize, until: Instant, pause_max_ms: u64) {
    let mut state = thread as u64 + 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let own = dir.join(format!("t{thread}"));
    fs::create_dir(&own).expect("mkdir");
    let mut bytes = vec![thread as u8; 1 << 20];
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(random(pause_max_ms + 1)));
        let path = own.join(format!("f{}", random(40)));
        match random(6) {
            0 => {
                let mut file = File::create(&path).expect("create");
                for _ in 0..random(24) {
                    file.write_all(&bytes).expect("write");
                }
            }
            1 => {
                for small in 0..50 {
                    fs::write(
                        own.join(format!("s{small}")),
                        &bytes[..random(9000) as usize],
                    )
                    .expect("write");
                }
            }
            2 => {
                if let Ok(mut file) = File::open(&path) {
                    let mut got = 0;
                    while let Ok(read @ 1..) = file.read(&mut bytes) {
                        assert!(bytes[..read].iter().all(|byte| *byte == thread as u8));
                        got += read;
                        if random(30) == 0 {
                            break;
                        }
                    }
                    assert!(got <= 24 << 20);
                }
            }
            3 => {
                if let Ok(file) = fs::OpenOptions::new().write(true).open(&path) {
                    // Within the file: a hole would read as zeros.
                    if file.metadata().expect("stat").len() >= 2 << 20 {
                        file.write_all_at(&bytes[..4096], random(1 << 20))
                            .expect("write");
                    }
                    file.sync_all().expect("fsync");
                }
            }
            4 => {
                let _ = fs::rename(&path, own.join(format!("f{}", random(40))));
            }
            _ => {
                let _ = fs::remove_file(&path);
                assert!(fs::read_dir(&own).expect("list").count() < 200);
            }
        }
    }
}

/// A mixed load on four threads under `--memory 128MiB`; prints RSS over time.
fn mixed_load_for(duration: Duration, pause_max_ms: u64) {
    let cgroup = Cgroup::new();
    let site = cgroup.site(Transport::Tls);
    let mount = site.mount();
    let began = Instant::now();
    let mut samples = Vec::new();
    mount.explained_during("mixed load", || {
        thread::scope(|scope| {
            for thread in 0..4 {
                let dir = &mount.dir;
                scope.spawn(move || mixed_load(dir, thread, began + duration, pause_max_ms));
            }
            let every = (duration / 360).max(Duration::from_millis(250));
            while began.elapsed() < duration {
                thread::sleep(every);
                samples.push((began.elapsed().as_secs(), mount.memory_bytes("VmRSS") >> 20));
            }
        });
    });
    let peak = mount.memory_bytes("VmHWM");
    eprintln!("RSS in MiB by second: {samples:?}; peak {} MiB", peak >> 20);
    if let Ok(path) = std::env::var("STRONGROOM_LONG_PLOT") {
        let title = format!(
            "RSS of the mount under a mixed load, MiB; peak {}, limit {}",
            peak >> 20,
            MEMORY_LIMIT >> 20
        );
        let panel = Panel {
            title,
            limit: Some((MEMORY_LIMIT >> 20) as f64),
            curves: vec![
                samples
                    .iter()
                    .map(|&(s, mib)| (s as f64, mib as f64))
                    .collect(),
            ],
            marks: Vec::new(),
        };
        fs::write(path, svg(&[panel])).expect("plot");
    }
    assert!(peak < MEMORY_LIMIT, "peak RSS {peak}");
    assert_eq!(cgroup.oom_kills(), 0);
    mount.unmount();
}

#[test]
fn twenty_thousand_requests_over_tls_leave_nothing_behind() {
    // One MiB in 10,000 requests; the long run is ten times as exact.
    requests_over_tls(20_000, 100.0, &[]);
}

#[test]
fn twenty_thousand_requests_that_are_recorded_leave_nothing_behind() {
    // The cost of the recording alone is measured more exactly without a mount, in
    // tests/store/recorded.rs.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("traffic.har");
    let options = [
        "--record",
        path.to_str().expect("a path"),
        "--record-size",
        "1MiB",
    ];
    requests_over_tls(20_000, 100.0, &options);
    assert!(fs::metadata(&path).expect("there").len() <= 1 << 20);
    assert!(har::read(&path).len() > 200);
}

#[test]
fn a_mixed_load_stays_within_128_mib() {
    mixed_load_for(Duration::from_secs(20), 0);
}

mod long {
    use std::time::Duration;

    #[test]
    #[ignore = "some minutes"]
    fn a_hundred_and_fifty_thousand_requests_over_tls_leave_nothing_behind() {
        super::requests_over_tls(150_000, 10.0, &[]);
    }

    #[test]
    #[ignore = "an hour"]
    fn an_hour_of_mixed_load_stays_within_128_mib() {
        let minutes = std::env::var("STRONGROOM_LONG_MINUTES")
            .ok()
            .and_then(|minutes| minutes.parse().ok())
            .unwrap_or(60);
        // Without pauses some 350 MB a second are written, and the server's disk has to hold what
        // is deleted after two minutes only.
        super::mixed_load_for(Duration::from_secs(minutes * 60), 200);
    }
}
