//! A source tree: unpacked, compared with its archive on a cold mount, and a small file of it
//! opened again and again.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{commands::shell, mount::Mount, site::Site},
    say, seconds,
    support::{refuse, timed},
};

/// `--memory` of the mount that unpacks: the default. The mount that reads has the size that was
/// asked for.
const UNPACKED_WITH: &str = "512MiB";

/// Times that the small file is opened.
const OPENS: u32 = 10_000;

/// `tree`: a directory, and the names in it that are meant; all of it if there are none.
pub fn run(site: &mut Site, tree: &[String]) {
    let (files, bytes) = pack(site, tree);
    let memory = std::mem::replace(&mut site.memory, UNPACKED_WITH);
    let mount = site.mount();
    let before = kernel_requests(&mount);
    let took = timed(|| {
        shell(&mount.dir, "tar -xf ../tree.tar");
    });
    let unpacking = kernel_requests(&mount);
    say(
        &format!("unpack {files} files, {} MB", bytes / 1_000_000),
        seconds(took),
        "",
    );
    report(&before, &unpacking, files);
    mount.unmount();

    site.memory = memory;
    let mount = site.mount();
    let before = site.stats();
    let began = Instant::now();
    shell(&mount.dir, "tar -df ../tree.tar");
    let took = began.elapsed();
    // Prefetches that were begun have ended by then.
    thread::sleep(Duration::from_millis(300));
    let after = site.stats();
    let moved = after.socket_bytes_written - before.socket_bytes_written;
    say("tar -d of it on a cold mount", seconds(took), "");
    say(
        "  GETs",
        (after.count("GetObject") - before.count("GetObject")).to_string(),
        "400 for all of linux-source-6.1",
    );
    say(
        "  bytes moved for each byte of the files",
        format!("{:.2}", moved as f64 / bytes as f64),
        "1.3",
    );
    open_again(site, &mount);
    mount.unmount();
}

/// Makes `tree.tar`; returns how many files there are, and their bytes.
fn pack(site: &Site, tree: &[String]) -> (u64, u64) {
    let Some((dir, names)) = tree.split_first() else {
        refuse("usage: tree DIR [NAME...]");
    };
    let names = match names {
        [] => ".".to_owned(),
        names => names.join(" "),
    };
    let archive = site.path().join("tree.tar");
    let dir = Path::new(dir);
    shell(
        dir,
        &format!("tar --sort=name -cf {} {names}", archive.display()),
    );
    let sizes = shell(dir, &format!("find {names} -type f -printf '%s\\n'"));
    let sizes: Vec<u64> = sizes
        .lines()
        .map(|size| size.parse().expect("a size"))
        .collect();
    (sizes.len() as u64, sizes.iter().sum())
}

fn kernel_requests(mount: &Mount<'_>) -> BTreeMap<String, u64> {
    let status = mount.status();
    let kinds = status["kernel_requests"].as_object().expect("an object");
    let kinds = kinds.iter();
    kinds
        .map(|(kind, count)| (kind.clone(), count.as_u64().expect("a count")))
        .collect()
}

/// The kernel's requests between the two, for each of so many files.
fn report(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, files: u64) {
    let asked = |kind: &String| after[kind] - before.get(kind).copied().unwrap_or(0);
    let all: u64 = after.keys().map(asked).sum();
    let each = |count: u64| format!("{:.2}", count as f64 / files as f64);
    say("  requests of the kernel, each file", each(all), "");
    for kind in after.keys() {
        if asked(kind) * 100 >= files {
            say(&format!("    {kind}"), each(asked(kind)), "");
        }
    }
}

/// Opens a small file whose pack is here.
fn open_again(site: &Site, mount: &Mount<'_>) {
    let small = shell(&mount.dir, "find . -type f -size -8k -print -quit");
    let small = mount.dir.join(small.trim());
    std::fs::read(&small).expect("read");
    let before = site.stats().total_requests();
    let took = timed(|| {
        for _ in 0..OPENS {
            File::open(&small).expect("open");
        }
    });
    let requests = site.stats().total_requests() - before;
    let each = took.as_secs_f64() * 1e6 / f64::from(OPENS);
    say(
        "open and close a small file",
        format!("{each:.1} us"),
        "100",
    );
    say("  requests to the store", requests.to_string(), "0");
}
