//! Reads in no order: small files in three orders, and random reads of a file for 12 s.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use strongroom::server::StatsSnapshot;

use crate::{
    PAGE,
    harness::site::Site,
    make_file, say, seconds,
    support::{MIB, Random, noise},
};

const FILES: usize = 5000;
const FILE_MIB: usize = 256;
const READ_FOR: Duration = Duration::from_secs(12);

fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut random = Random(seed);
    for last in (1..items.len()).rev() {
        items.swap(last, random.next() as usize % (last + 1));
    }
    items
}

/// GETs and bytes since `before`.
fn moved(site: &Site, before: &StatsSnapshot) -> String {
    let now = site.stats();
    let gets = now.count("GetObject") - before.count("GetObject");
    let bytes = now.socket_bytes_written - before.socket_bytes_written;
    format!("{gets} GETs, {:.1} MB", bytes as f64 / 1e6)
}

pub fn run(site: &Site) {
    let mount = site.mount();
    let content = noise(MIB);
    let names: Vec<String> = (0..FILES)
        .map(|index| format!("d{:02}/f{:02}", index / 100, index % 100))
        .collect();
    for dir in 0..FILES / 100 {
        fs::create_dir(mount.dir.join(format!("d{dir:02}"))).expect("mkdir");
    }
    let created = shuffled(names.clone(), 0x5eed);
    for (index, name) in created.iter().enumerate() {
        let len = 1024 + index * 7919 % (15 << 10);
        let at = index * 4093 % (MIB - len);
        fs::write(mount.dir.join(name), &content[at..at + len]).expect("write");
    }
    make_file(&mount.dir.join("file"), FILE_MIB);
    mount.unmount();

    let orders = [
        ("in order of directories", names.clone()),
        ("in order of creation", created),
        ("shuffled", shuffled(names, 0xfeed)),
    ];
    for (order, names) in orders {
        let mount = site.mount();
        let before = site.stats();
        let began = Instant::now();
        for name in names {
            fs::read(mount.dir.join(name)).expect("read");
        }
        let what = format!("cold read of {FILES} small files, {order}");
        say(&what, seconds(began.elapsed()), "- / 3 s");
        say("  moved", moved(site, &before), "- / 60 GETs, 1.2 times");
        mount.unmount();
    }
    let mount = site.mount();
    let before = site.stats();
    let reads = read_at_random(&mount.dir.join("file"));
    let what = format!("random 4 KiB reads of {FILE_MIB} MiB for 12 s, cold");
    let rate = reads as f64 / READ_FOR.as_secs_f64();
    say(&what, format!("{rate:.0}/s"), "");
    say("  moved", moved(site, &before), "2.5 times the file");
    mount.unmount();
}

fn read_at_random(path: &Path) -> u64 {
    let file = File::open(path).expect("open");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut page = [0; PAGE as usize];
    let mut reads = 0;
    let began = Instant::now();
    while began.elapsed() < READ_FOR {
        let at = random.next() % ((FILE_MIB * MIB) as u64 / PAGE) * PAGE;
        file.read_exact_at(&mut page, at).expect("read");
        reads += 1;
    }
    reads
}
