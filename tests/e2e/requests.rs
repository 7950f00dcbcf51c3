//! Requests that common work takes, by the server's own count, and those that the kernel makes of
//! it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom},
    thread,
    time::{Duration, Instant},
};

use strongroom::server::StatsSnapshot;

use crate::support::{
    bucket::puts,
    commands::shell,
    mount::Mount,
    random::noise,
    site::{Site, Transport},
    wait::block_until_quiet,
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
    assert!(reading <= 60, "reading took {reading} GETs");
}

/// Requests of the kernel to this mount, by kind.
fn kernel_requests(mount: &Mount<'_>) -> BTreeMap<String, u64> {
    let status = mount.status();
    let kinds = status["kernel_requests"].as_object().unwrap().iter();
    kinds
        .map(|(kind, count)| (kind.clone(), count.as_u64().unwrap()))
        .collect()
}

#[test]
fn unpacking_costs_the_kernel_a_dozen_requests_a_file() {
    const FILES: u64 = 2000;
    let site = Site::start(Transport::Plain);
    let source = site.scratch("source");
    let mut writes = 0;
    for index in 0..FILES {
        let dir = source.join(format!("d{:02}", index / 100));
        fs::create_dir_all(&dir).unwrap();
        let len = index * 7919 % (30 << 10);
        fs::write(
            dir.join(format!("f{:02}", index % 100)),
            noise(index, len as usize),
        )
        .unwrap();
        // tar writes what it has read of its archive: 20 blocks of 512 bytes, wherever they begin.
        writes += len.div_ceil(10_240) + 1;
    }
    shell(&source, "tar --sort=name -cf ../small.tar .");
    let mount = site.mount();
    let before = kernel_requests(&mount);
    shell(&mount.dir, "tar -xf ../small.tar");
    let after = kernel_requests(&mount);
    mount.unmount();

    let asked = |kind: &str| after[kind] - before.get(kind).copied().unwrap_or(0);
    eprintln!("before {before:?}\nafter {after:?}");
    // The directories, and the first files, which are written into the page cache.
    let some = FILES / 20;
    // utimensat, fchown and fchmod.
    assert!(asked("setattr") <= 3 * FILES + some);
    // Only for fchown: the kernel looks for capabilities to be cleared.
    assert!(asked("getxattr") <= FILES + some);
    // The kernel asks for the directory again, which creating a file has changed.
    assert!(asked("getattr") <= FILES + some);
    assert!(asked("lookup") <= FILES + some);
    assert!(asked("create") == FILES && asked("flush") == FILES);
    assert!(asked("release") <= FILES);
    assert!(asked("write") <= writes + some);
}

#[test]
fn comparing_a_tree_with_its_archive_moves_it_once_in_few_requests() {
    const FILES: u64 = 4000;
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let source = site.scratch("source");
    let mut bytes = 0;
    for index in 0..FILES {
        let dir = source.join(format!("d{:02}", index / 100));
        fs::create_dir_all(&dir).unwrap();
        let len = 1024 + (index * 7919 % (30 << 10)) as usize;
        bytes += len as u64;
        fs::write(dir.join(format!("f{:02}", index % 100)), noise(index, len)).unwrap();
    }
    shell(&source, "tar --sort=name -cf ../tree.tar .");
    let mount = site.mount_with(&["--upload-delay", "10s"]);
    shell(&mount.dir, "tar -xf ../tree.tar");
    mount.unmount();

    let mount = site.mount();
    let before = site.stats();
    shell(&mount.dir, "tar -df ../tree.tar");
    let after = site.stats();
    let reading = gets(&after) - gets(&before);
    let moved = after.socket_bytes_written - before.socket_bytes_written;
    eprintln!("tar -d of {bytes} bytes: {reading} GETs, {moved} bytes moved");
    // Seen on two cores: 1.00 to 1.30 times the bytes and 27 to 254 GETs. Where the server and the
    // mount share cores the store seems far, and far ones are asked for smaller pieces.
    assert!(moved <= bytes * 14 / 10, "{moved} bytes moved for {bytes}");
    assert!(reading <= FILES / 8, "tar -d took {reading} GETs");

    // The last one's pack is here.
    let small = mount.dir.join("d39/f99");
    let before = site.stats().total_requests();
    for _ in 0..200 {
        fs::File::open(&small).unwrap();
    }
    let opening = site.stats().total_requests() - before;
    mount.unmount();
    assert!(opening <= 3, "{opening} requests for opening a file");
}

#[test]
fn reading_a_file_in_order_moves_little_twice() {
    const LEN: usize = 12 << 20;
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let mount = site.mount();
    fs::write(mount.dir.join("file"), noise(1, LEN)).unwrap();
    mount.unmount();

    let mount = site.mount();
    let before = site.stats();
    // tar reads in blocks of this size.
    shell(&mount.dir, "dd if=file bs=10240 of=/dev/null status=none");
    let after = site.stats();
    mount.unmount();
    let moved = after.socket_bytes_written - before.socket_bytes_written;
    let reading = gets(&after) - gets(&before);
    eprintln!("{LEN} bytes in order: {reading} GETs, {moved} bytes moved");
    // The kernel asks for the next piece while one is being read, and the window reads ahead: none
    // of them fetches what another has begun to. 1.001 was seen in 14 runs of 14, with 26 to 28
    // GETs.
    assert!(moved <= LEN as u64 * 102 / 100, "{moved} bytes moved");
    assert!(reading <= 31, "reading took {reading} GETs");
}

#[test]
fn files_that_are_read_to_the_end_one_after_the_other_come_in_large_pieces() {
    const LEN: usize = 8 << 20;
    let mut site = Site::start(Transport::Plain);
    site.memory = "256MiB";
    site.disk_cache = "off";
    let mount = site.mount();
    for number in 0..10 {
        fs::write(mount.dir.join(format!("file{number}")), noise(number, LEN)).unwrap();
    }
    fs::create_dir(mount.dir.join("small")).unwrap();
    for number in 0..300 {
        let name = format!("small/{number:03}");
        fs::write(mount.dir.join(name), noise(number, 20_000)).unwrap();
    }
    mount.unmount();

    let mount = site.mount();
    let during = |line: &str| {
        let before = site.stats();
        shell(&mount.dir, line);
        // Until nothing is under way any more for a reader that left.
        thread::sleep(Duration::from_millis(300));
        let after = site.stats();
        let moved = after.socket_bytes_written - before.socket_bytes_written;
        (gets(&after) - gets(&before), moved)
    };
    let whole = |number: u64| {
        let (gets, moved) = during(&format!("cat file{number} > /dev/null"));
        eprintln!("file {number}: {gets} GETs, {moved} bytes");
        assert!(moved <= LEN as u64 * 102 / 100, "{moved} bytes moved");
        gets
    };
    let first = whole(0);
    (1..4).for_each(|number| {
        whole(number);
    });
    let later = whole(4);
    let (small, _) = during("cat small/* > /dev/null");
    eprintln!("small files: {small} GETs");
    assert!(
        small <= 30,
        "{small} GETs for small files that lie together"
    );
    assert!(later * 4 <= first, "{first} GETs, later {later}");

    // The first reader that leaves costs a quarter of what was read in a row, here all of its file,
    // and ends the habit.
    let leave = |number: u64| {
        let (_, moved) = during(&format!("head -c 1500000 file{number} > /dev/null"));
        eprintln!("left file {number}: {moved} bytes");
        moved
    };
    assert!(leave(5) <= LEN as u64 * 102 / 100, "too much ahead");
    for number in 6..10 {
        assert!(leave(number) <= 3 << 20, "the habit has not ended");
    }
    mount.unmount();
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
    let (quiet, within) = (
        std::time::Duration::from_millis(2500),
        std::time::Duration::from_secs(60),
    );
    block_until_quiet("requests", quiet, within, || site.stats().total_requests());
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
