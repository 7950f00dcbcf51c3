//! Clients of the metrics cost next to nothing and hold nothing up, however many there are and
//! however slow.

use std::{
    fs::File,
    io::Write,
    os::unix::{fs::FileExt, net::UnixStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    openmetrics::{Exposition, REQUEST, answer_at, scrape},
    site::{Site, Transport},
};

const CLIENTS: usize = 100;

/// What all clients together may add to the resident memory.
const GROWTH_MAX: u64 = 1 << 20;

/// A write with fsync, and a read of it, take a few milliseconds; this only tells it from a client
/// that is waited for.
const OPERATION_MAX: Duration = Duration::from_secs(3);

#[test]
fn slow_clients_and_a_hundred_at_once_take_a_mebibyte_and_hold_nothing_up() {
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let socket = site.path().join("metrics.sock");
    let mount = site.mount_with(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    let file = File::create(mount.dir.join("file")).expect("create");
    let work = || {
        let began = Instant::now();
        file.write_all_at(&[7; 64 << 10], 0).expect("write");
        file.sync_all().expect("fsync");
        assert_eq!(
            std::fs::read(mount.dir.join("file")).expect("read").len(),
            64 << 10
        );
        began.elapsed()
    };
    // The code is resident and the allocator has its arenas before anything is compared.
    for _ in 0..30 {
        work();
        thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| drop(scrape(&socket)))));
        });
    }
    let before = mount.memory_bytes("VmRSS");

    // These take all places, and never end their requests.
    let silent: Vec<UnixStream> = (0..4)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).expect("connected");
            stream.write_all(&REQUEST[..20]).expect("sent");
            stream
        })
        .collect();
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let slowest = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(mount.memory_bytes("VmRSS"), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| answer_at(&socket, REQUEST).expect("an answer")))
            .collect();
        let mut slowest = Duration::ZERO;
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            slowest = slowest.max(work());
        }
        for client in clients {
            let (_, body) = client.join().expect("no panic");
            Exposition::parse(&body);
        }
        done.store(true, Ordering::Relaxed);
        slowest
    });
    let most = most.load(Ordering::Relaxed);
    eprintln!(
        "resident {} KiB before and {} KiB at most; the slowest operation took {slowest:?}",
        before >> 10,
        most >> 10
    );
    assert!(most <= before + GROWTH_MAX, "{before} bytes, then {most}");
    assert!(slowest < OPERATION_MAX, "{slowest:?}");
    drop(silent);
    drop(file);
    mount.unmount();
}
