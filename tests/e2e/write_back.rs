//! When data that nobody syncs goes out, and in what.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use crate::support::{
    site::{Site, Transport},
    wait::holds,
};

const PAGE: usize = 4096;
const PAGES: usize = 16_384;

/// Each page of the file once, all over the place.
fn shuffled() -> impl Iterator<Item = usize> {
    // Odd, so that it reaches every page.
    (0..PAGES).map(|index| index * 6_151 % PAGES)
}

fn write_pages(file: &File, pages: impl Iterator<Item = usize>, round: u8) {
    for page in pages {
        let content = [round ^ page as u8; PAGE];
        file.write_all_at(&content, (page * PAGE) as u64)
            .expect("write");
    }
}

/// Reads the file in order; each of its pages must be that of `round`.
fn assert_pages(file: &File, round: u8) {
    let mut content = vec![0; 1 << 20];
    for first in (0..PAGES).step_by(content.len() / PAGE) {
        file.read_exact_at(&mut content, (first * PAGE) as u64)
            .expect("read");
        for (page, bytes) in (first..).zip(content.chunks(PAGE)) {
            let expected = round ^ page as u8;
            assert!(bytes.iter().all(|byte| *byte == expected), "page {page}");
        }
    }
}

#[test]
fn what_nobody_syncs_goes_out_after_the_delay_and_not_before() {
    let site = Site::start(Transport::Plain);
    for (delay, is_out) in [("1s", true), ("1h", false)] {
        let mount = site.mount_with(&["--upload-delay", delay]);
        let before = site.stats().socket_bytes_read;
        let file = File::create(mount.dir.join(delay)).expect("create");
        file.write_all_at(&[7; 1 << 20], 0).expect("write");
        let out = || site.stats().socket_bytes_read - before >= 1 << 20;
        let went_out = holds(Duration::from_secs(4), out);
        assert_eq!(went_out, is_out, "--upload-delay {delay}");
        file.sync_all().expect("fsync");
        assert!(out(), "fsync waits for no delay");
        drop(file);
        mount.unmount();
    }
}

#[test]
fn what_is_overwritten_within_the_delay_is_uploaded_once_and_lies_in_order() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--upload-delay", "1h"]);
    let path = mount.dir.join("file");
    let file = File::create(&path).expect("create");
    let before = site.stats().socket_bytes_read;
    for round in 1..=4 {
        write_pages(&file, shuffled(), round);
    }
    let moved = || site.stats().socket_bytes_read - before;
    assert!(moved() < 1 << 20, "nothing but metadata is due");
    file.sync_all().expect("fsync");
    let moved = moved();
    let len = (PAGES * PAGE) as u64;
    assert!(moved < len * 11 / 10, "{moved} bytes moved for {len}");
    drop(file);
    mount.unmount();

    let mount = site.mount();
    let before = site.stats();
    let file = File::open(mount.dir.join("file")).expect("open");
    assert_pages(&file, 4);
    let after = site.stats();
    let moved = after.socket_bytes_written - before.socket_bytes_written;
    assert!(moved < len * 12 / 10, "{moved} bytes moved for {len}");
    drop(file);
    mount.unmount();
}

/// Six times the delay of what is written once, which other files do not wait for.
#[test]
fn a_file_that_is_overwritten_all_the_time_waits_longer_and_goes_out_all_the_same() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--upload-delay", "700ms"]);
    let path = mount.dir.join("file");
    let file = File::create(&path).expect("create");
    write_pages(&file, shuffled().take(4_096), 0);
    file.sync_all().expect("fsync");
    let sent = || site.stats().socket_bytes_read;
    let before = sent();
    let began = Instant::now();
    let (mut round, mut out_after) = (0_u8, None);
    while began.elapsed() < Duration::from_secs(7) {
        round = round.wrapping_add(1);
        write_pages(&file, shuffled().take(4_096), round);
        if out_after.is_none() && sent() - before > 1 << 20 {
            out_after = Some(began.elapsed());
        }
    }
    let out_after = out_after.expect("nothing has gone out in seven seconds");
    assert!(out_after > Duration::from_secs(3), "{out_after:?}");
    drop(file);
    mount.unmount();
    let mount = site.mount();
    let file = File::open(mount.dir.join("file")).expect("open");
    let mut content = [0; PAGE];
    for page in shuffled().take(4_096) {
        file.read_exact_at(&mut content, (page * PAGE) as u64)
            .expect("read");
        assert!(content.iter().all(|byte| *byte == round ^ page as u8));
    }
    drop(file);
    mount.unmount();
}

#[test]
fn a_file_that_lies_in_four_objects_is_read_in_order_without_fetching_anything_twice() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--upload-delay", "1h"]);
    let file = File::create(mount.dir.join("file")).expect("create");
    // Each frame of an object holds pages from four times its length.
    for round in 0..4 {
        write_pages(&file, shuffled().filter(|page| page % 4 == round), 9);
        file.sync_all().expect("fsync");
    }
    drop(file);
    mount.unmount();

    let mount = site.mount();
    let before = site.stats();
    let file = File::open(mount.dir.join("file")).expect("open");
    assert_pages(&file, 9);
    let len = (PAGES * PAGE) as u64;
    let after = site.stats();
    let moved = after.socket_bytes_written - before.socket_bytes_written;
    let gets = after.count("GetObject") - before.count("GetObject");
    eprintln!("{gets} GETs, {moved} bytes moved for {len}");
    assert!(moved < len * 12 / 10, "{moved} bytes moved for {len}");
    assert!(gets < 200, "{gets} GETs");
    drop(file);
    mount.unmount();
}
