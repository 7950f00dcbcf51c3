//! Answers that nobody waits for any more are dropped, not drained: the server sends no more of
//! them, and the memory is back.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    commands::shell,
    mount::Mount,
    site::{Site, Transport},
    wait::{SOON, block_until},
};

const MIB: u64 = 1 << 20;

fn write_noise(path: &Path, mebibytes: u64) {
    let (dir, name) = (
        path.parent().expect("parent"),
        path.file_name().expect("name"),
    );
    let len = mebibytes * MIB;
    let key = "00112233445566778899aabbccddeeff";
    shell(
        dir,
        &format!(
            "head -c {len} /dev/zero | openssl enc -aes-128-ctr -nosalt -K {key} -iv 0 > {}",
            name.display()
        ),
    );
}

/// Waits until nothing is reserved any more.
fn assert_all_given_back(mount: &Mount<'_>) {
    let began = Instant::now();
    loop {
        let reserved = mount.reserved_bytes();
        if reserved == 0 {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{reserved} bytes are still reserved: {:#}",
            mount.status()["memory"]
        );
        thread::sleep(Duration::from_millis(250));
    }
}

/// Opens a large file, reads ten bytes and closes it, again and again, each time where it was not
/// read before.
fn early_closes(opens: u64, file_mebibytes: u64) {
    let mut site = Site::start(Transport::Plain);
    // Small enough that the frame cache is full, and RSS where it stays, before the first tenth is
    // over.
    site.memory = "128MiB";
    let mount = site.mount();
    write_noise(&mount.dir.join("large"), file_mebibytes);
    mount.unmount();

    let mount = site.mount();
    let idle = mount.memory_bytes("VmRSS");
    let path = mount.dir.join("large");
    let before = site.stats();
    let frames = file_mebibytes * MIB / 65_536;
    let mut tenths = Vec::new();
    for round in 0..opens {
        let file = File::open(&path).expect("open");
        let mut ten = [0; 10];
        // A stride that is prime to the number of frames visits them all, none near the last.
        let frame = round * 6_151 % frames;
        file.read_exact_at(&mut ten, frame * 65_536 + 1000)
            .expect("read");
        drop(file);
        if (round + 1).is_multiple_of(opens / 10) {
            tenths.push(mount.memory_bytes("VmRSS"));
        }
    }
    let after = site.stats();
    let moved = (after.socket_bytes_written - before.socket_bytes_written) / opens;
    let connections = after.connections_accepted - before.connections_accepted;
    assert!(moved <= 256 << 10, "{moved} bytes moved an open");
    assert_all_given_back(&mount);
    // The allocator returns pages a second after they were freed.
    thread::sleep(Duration::from_secs(2));
    let settled = mount.memory_bytes("VmRSS");
    eprintln!(
        "{opens} early closes: {moved} bytes each, {connections} connections, RSS idle {idle}, at each tenth {tenths:?}, settled {settled}"
    );
    // It goes up and down by a MiB or two; a leak goes up only.
    let (early, late) = (&tenths[..5], &tenths[5..]);
    assert!(
        late.iter().min() <= early.iter().max(),
        "RSS grows: {tenths:?}"
    );
    assert_eq!(connections, 0, "bodies that were read to their end");
    assert!(
        settled <= idle + 16 * MIB,
        "RSS {idle} when idle, {settled} after the burst"
    );
    mount.unmount();
}

#[test]
fn three_thousand_early_closes_move_and_keep_little() {
    early_closes(3000, 256);
}

#[test]
fn ten_bytes_of_a_hundred_gibibytes_cost_what_ten_bytes_cost() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    write_noise(&mount.dir.join("huge"), 16);
    shell(&mount.dir, "truncate -s 100G huge; printf end >> huge");
    mount.unmount();
    let mount = site.mount();
    let path = mount.dir.join("huge");
    for read in ["head -c 10", "tail -c 3"] {
        let before = site.stats().socket_bytes_written;
        let bytes = shell(&mount.dir, &format!("{read} huge | wc -c"));
        assert!(["10", "3"].contains(&bytes.trim()), "{bytes}");
        let moved = site.stats().socket_bytes_written - before;
        assert!(moved <= 256 << 10, "{read}: {moved} bytes moved");
    }
    assert_eq!(fs::metadata(&path).expect("stat").len(), (100 << 30) + 3);
    mount.unmount();
}

/// Many readers that each take a few MiB of a large file and close it.
fn partial_readers(readers: usize, file_mebibytes: u64) {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    for reader in 0..readers {
        write_noise(&mount.dir.join(format!("f{reader}")), file_mebibytes);
    }
    mount.unmount();

    let mount = site.mount();
    let before = site.stats().socket_bytes_written;
    thread::scope(|scope| {
        for reader in 0..readers {
            let path = mount.dir.join(format!("f{reader}"));
            scope.spawn(move || {
                let mut file = File::open(path).expect("open");
                let mut piece = vec![0; 128 << 10];
                for _ in 0..32 {
                    file.read_exact(&mut piece).expect("read");
                }
            });
        }
    });
    thread::sleep(Duration::from_millis(500));
    let moved = site.stats().socket_bytes_written - before;
    let wanted = readers as u64 * 4 * MIB;
    let ratio = moved as f64 / wanted as f64;
    let peak = mount.memory_bytes("VmHWM");
    eprintln!(
        "{readers} readers of 4 of {file_mebibytes} MiB: {ratio:.2}x of what was wanted, peak RSS {} MiB",
        peak / MIB
    );
    assert!(ratio <= 1.25, "{moved} bytes moved for {wanted}");
    assert!(peak < 512 * MIB, "peak RSS {peak}");
    assert_all_given_back(&mount);
    mount.unmount();
}

#[test]
fn readers_that_stop_early_move_little_more_than_they_read() {
    partial_readers(16, 32);
}

#[test]
fn a_killed_reader_stops_the_server() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    write_noise(&mount.dir.join("large"), 256);
    mount.unmount();
    let mount = site.mount();
    let slow = strongroom::server::Faults {
        bandwidth: Some(20 * MIB),
        ..Default::default()
    };
    site.server().set_faults(slow).expect("faults");
    let before = site.stats().socket_bytes_written;
    let mut reader = Command::new("cat")
        .arg(mount.dir.join("large"))
        .stdout(Stdio::null())
        .spawn()
        .expect("cat");
    let sent = || site.stats().socket_bytes_written - before;
    block_until("the reader reads", SOON, || sent() > 4 * MIB);
    reader.kill().expect("kill");
    reader.wait().expect("wait");
    thread::sleep(Duration::from_millis(500));
    let then = site.stats().socket_bytes_written;
    thread::sleep(Duration::from_secs(1));
    let moved = site.stats().socket_bytes_written - then;
    assert!(moved < 64 << 10, "{moved} bytes went on to nobody");
    assert_all_given_back(&mount);
    mount.unmount();
}

mod long {
    #[test]
    #[ignore = "ten thousand opens of a gibibyte"]
    fn ten_thousand_early_closes_move_and_keep_little() {
        super::early_closes(10_000, 1024);
    }

    #[test]
    #[ignore = "four gibibytes"]
    fn sixty_four_readers_that_stop_early_move_little_more_than_they_read() {
        super::partial_readers(64, 64);
    }
}
