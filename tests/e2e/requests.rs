//! How many requests common work takes, by the server's own count.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    time::Instant,
};

use strongroom::server::StatsSnapshot;

use super::{
    harness::{Site, Transport, puts, shell},
    tree::noise,
};

fn gets(stats: &StatsSnapshot) -> u64 {
    ["GetObject", "HeadObject", "ListObjectsV2"]
        .iter()
        .map(|operation| stats.count(operation))
        .sum()
}

#[test]
fn five_thousand_small_files_cost_few_requests() {
    let site = Site::start(Transport::Plain);
    let source = site.scratch("source");
    for index in 0..5000u64 {
        let dir = source.join(format!("d{:02}", index / 100));
        fs::create_dir_all(&dir).unwrap();
        let len = 1024 + (index * 7919 % (15 << 10)) as usize;
        fs::write(dir.join(format!("f{:02}", index % 100)), noise(index, len)).unwrap();
    }
    shell(&source, "tar --sort=name -cf ../small.tar .");

    let mount = site.mount();
    let before = site.stats();
    let began = Instant::now();
    shell(&mount.dir, "tar -xf ../small.tar");
    mount.unmount();
    let seconds = began.elapsed().as_secs();
    let after = site.stats();
    let unpacking = puts(&after) - puts(&before);
    eprintln!("unpack and drain: {unpacking} PUTs");

    let mount = site.mount();
    let before = site.stats();
    shell(&mount.dir, "find . -ls | wc -l | grep -qx 5051");
    let after = site.stats();
    let listing = gets(&after) - gets(&before);
    eprintln!("find -ls: {listing} GETs");
    let before = site.stats();
    shell(
        &mount.dir,
        "find . -type f | sort | xargs cat | sha256sum > ../read.sum",
    );
    let after = site.stats();
    let reading = gets(&after) - gets(&before);
    eprintln!("reading all in order: {reading} GETs");
    shell(
        &source,
        "find . -type f | sort | xargs cat | sha256sum | cmp - ../read.sum",
    );
    mount.unmount();

    // The log goes out each second.
    let unpacking_max = 28 + seconds;
    assert!(
        unpacking <= unpacking_max,
        "unpacking took {unpacking} PUTs in {seconds} s"
    );
    assert!(listing <= 25, "listing took {listing} GETs");
    assert!(reading <= 120, "reading took {reading} GETs");
}

#[test]
fn renaming_a_directory_costs_the_same_whatever_it_holds() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    shell(
        &mount.dir,
        "mkdir many; for i in $(seq 1 2000); do echo $i > many/f$i; done; sync many",
    );
    // Everything dirty is out, and the write-back's timers have passed.
    let mut last = site.stats().total_requests();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let now = site.stats().total_requests();
        if now == last {
            break;
        }
        last = now;
    }
    let before = site.stats();
    fs::rename(mount.dir.join("many"), mount.dir.join("moved")).unwrap();
    fs::File::open(&mount.dir).unwrap().sync_all().unwrap();
    let after = site.stats();
    let requests = after.total_requests() - before.total_requests();
    assert!(
        requests <= 3,
        "rename took {requests} requests: {:?} -> {:?}",
        before.requests,
        after.requests
    );
    assert_eq!(fs::read_dir(mount.dir.join("moved")).unwrap().count(), 2000);
    mount.unmount();
}

#[test]
fn ten_bytes_of_a_large_file_move_less_than_a_mebibyte() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    shell(
        &mount.dir,
        "head -c 1073741824 /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 0 > large",
    );
    mount.unmount();
    let mount = site.mount();
    for offset in [0, 700_000_000] {
        let before = site.stats();
        let mut file = fs::File::open(mount.dir.join("large")).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        let mut ten = [0; 10];
        file.read_exact(&mut ten).unwrap();
        drop(file);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let after = site.stats();
        let moved = after.socket_bytes_written - before.socket_bytes_written;
        eprintln!("10 bytes at {offset}: {moved} bytes moved");
        assert!(moved <= 1 << 20, "{moved} bytes moved for 10");
    }
    mount.unmount();
}
