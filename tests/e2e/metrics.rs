//! Clients of the metrics cost next to nothing and hold nothing up, however many there are and
//! however slow.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::Path,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use crate::support::{
    openmetrics::{Exposition, REQUEST, answer_at, scrape},
    site::{Site, Transport},
};

const CLIENTS: usize = 100;

/// Resident memory that all clients together may add.
const GROWTH_MAX: u64 = 1 << 20;

/// A write with fsync, and a read of it, take a few milliseconds; this only tells it from a client
/// that is waited for.
const OPERATION_MAX: Duration = Duration::from_secs(3);

/// Clients that begin a request and never end it.
fn silent(socket: &Path, count: usize) -> Vec<UnixStream> {
    let client = |_| {
        let mut stream = UnixStream::connect(socket).expect("connected");
        stream.write_all(&REQUEST[..20]).expect("sent");
        stream
    };
    (0..count).map(client).collect()
}

/// Silent clients take all places, and a hundred others ask at once. Returns when those have their
/// answers; `meanwhile` is done again and again until then.
fn crowd(socket: &Path, mut meanwhile: impl FnMut()) {
    let _silent = silent(socket, 4);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| answer_at(socket, REQUEST).expect("an answer")))
            .collect();
        while !clients.iter().all(ScopedJoinHandle::is_finished) {
            meanwhile();
        }
        for client in clients {
            let (_, body) = client.join().expect("no panic");
            Exposition::parse(&body);
        }
    });
}

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
        let read = fs::read(mount.dir.join("file")).expect("read");
        assert_eq!(read.len(), 64 << 10);
        began.elapsed()
    };
    // The code is resident, and the allocator has its arenas, before anything is compared.
    for _ in 0..30 {
        work();
        scrape(&socket);
    }
    let before = mount.memory_bytes("VmRSS");
    let mut most = before;
    let mut look = || {
        most = most.max(mount.memory_bytes("VmRSS"));
        thread::sleep(Duration::from_millis(2));
    };
    // As many as the kernel lets wait, until the first of them have had their time.
    let clients = silent(&socket, 60);
    clients[0].set_nonblocking(true).expect("a mode");
    while (&clients[0]).read(&mut [0]).is_err() {
        look();
    }
    drop(clients);
    crowd(&socket, look);
    eprintln!(
        "resident {} KiB before and {} KiB at most",
        before >> 10,
        most >> 10
    );
    assert!(most <= before + GROWTH_MAX, "{before} bytes, then {most}");

    let mut slowest = Duration::ZERO;
    crowd(&socket, || slowest = slowest.max(work()));
    eprintln!("the slowest operation took {slowest:?}");
    assert!(slowest < OPERATION_MAX, "{slowest:?}");
    drop(file);
    mount.unmount();
}
