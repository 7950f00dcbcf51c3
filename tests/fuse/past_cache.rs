//! New files that are written past the kernel's page cache, because those before them were small:
//! fewer requests, and nothing else that anybody could notice.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    mount_for_all,
    support::{opened::MountedVolume, volume::TestVolume},
};

fn count(at: &MountedVolume, kind: &str) -> u64 {
    let by_name = at.opened.metrics.kernel_requests.by_name();
    by_name.get(kind).copied().unwrap_or(0)
}

/// Makes small files until one is written past the page cache: the kernel does not look for its
/// capabilities then. Closing is not waited for, so it may take some more than the policy says.
fn make_small_files(at: &MountedVolume) {
    for number in 0..1000 {
        let before = count(at, "getxattr");
        fs::write(at.path(&format!("small{number}")), b"small").unwrap();
        if count(at, "getxattr") == before {
            return;
        }
    }
    panic!("no file was written past the page cache");
}

fn new_file(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).open(path).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_new_file_costs_a_request_for_each_write_wherever_it_begins() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    make_small_files(&at);
    let mut file = new_file(&at.path("f"));
    let (writes, getxattrs) = (count(&at, "write"), count(&at, "getxattr"));
    for len in [1_000, 10_240, 300, 70_000] {
        file.write_all(&vec![7; len]).unwrap();
    }
    assert_eq!(count(&at, "write") - writes, 4);
    assert_eq!(count(&at, "getxattr") - getxattrs, 0);
    drop(file);
    assert_eq!(fs::read(at.path("f")).unwrap(), vec![7; 81_540]);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_new_file_is_kept_in_the_page_cache_again_after_another_one() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    make_small_files(&at);
    fs::write(at.path("large"), vec![1; 3 << 20]).unwrap();
    let mut number = 0;
    loop {
        let path = at.path(&format!("large{number}"));
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        let before = count(&at, "read");
        assert_eq!(fs::read(&path).unwrap().len(), 1 << 20);
        if count(&at, "read") == before {
            break;
        }
        number += 1;
        // The kernel does not wait until a file is closed, so the first may be as before.
        assert!(number < 10, "{} reads", count(&at, "read") - before);
        fs::write(at.path(&format!("again{number}")), vec![1; 3 << 20]).unwrap();
    }
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_past_the_page_cache_clears_file_capabilities() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    make_small_files(&at);
    let path = at.path("program");
    let mut file = new_file(&path);
    file.write_all(b"program").unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("setcap", &["cap_net_raw+ep"]);
    assert!(run("getcap", &[]).contains("cap_net_raw"));
    file.write_all(b" and more").unwrap();
    assert_eq!(run("getcap", &[]), "");
    drop(file);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_who_write_past_the_page_cache_clear_set_id_bits() {
    let volume = TestVolume::new().await;
    let at = mount_for_all(&volume, 0o777).await;
    make_small_files(&at);
    let page = "printf %4096s x >&3";
    let mut other = Command::new("sh")
        .arg("-ec")
        .arg(format!(
            "exec 3>program; {page}; echo made; read line; {page}"
        ))
        .current_dir(at.root())
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut made = String::new();
    BufReader::new(other.stdout.take().unwrap())
        .read_line(&mut made)
        .unwrap();
    assert_eq!(made, "made\n");
    let mode = || fs::metadata(at.path("program")).unwrap().mode() & 0o7777;
    fs::set_permissions(at.path("program"), Permissions::from_mode(0o6777)).unwrap();
    assert_eq!(mode(), 0o6777);
    other.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(other.wait().unwrap().success());
    assert_eq!(mode(), 0o777);
    let reads = count(&at, "read");
    assert_eq!(fs::read(at.path("program")).unwrap().len(), 8192);
    let asked = count(&at, "read") - reads;
    assert!(asked > 0, "it was written into the page cache");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_write_past_the_page_cache_is_in_the_store_when_it_returns() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    make_small_files(&at);
    for flags in [libc::O_DSYNC, libc::O_SYNC] {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(flags)
            .open(at.path(&format!("f{flags}")))
            .unwrap();
        file.write_all(&[5; 5000]).unwrap();
        let path = at.path(&format!("f{flags}"));
        assert!(is_durable(&at, &path), "{flags:o}");
    }
    let path = at.path("by-write");
    let script = "import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.pwritev(fd, [b'x' * 5000], 0, os.RWF_DSYNC)";
    let status = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(is_durable(&at, &path), "RWF_DSYNC");
    at.unmount().await;
}

/// Whether nothing of this file is dirty. Others may be.
fn is_durable(at: &MountedVolume, path: &Path) -> bool {
    let ino = strongroom::meta::Ino(fs::metadata(path).unwrap().ino());
    at.opened.data.live(ino).is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_readers_see_each_write_past_the_page_cache_at_once() {
    const LEN: usize = 200_000;
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    make_small_files(&at);
    let path = at.path("f");
    let getxattrs = count(&at, "getxattr");
    let writer = new_file(&path);
    let mut model = vec![0; LEN];
    writer.write_all_at(&model, 0).unwrap();
    let reader = File::open(&path).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // It brings pages into the cache while they are written.
        scope.spawn(|| {
            let mut bytes = vec![0; LEN];
            while !done.load(Ordering::Relaxed) {
                reader.read_exact_at(&mut bytes, 0).unwrap();
            }
        });
        let mut seed = 9_usize;
        for round in 0..500_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (seed >> 33) % (LEN - 9000);
            let piece = start..start + 1 + (seed >> 20) % 9000;
            model[piece.clone()].fill(round as u8);
            writer
                .write_all_at(&model[piece.clone()], piece.start as u64)
                .unwrap();
            let mut seen = vec![0; LEN];
            reader.read_exact_at(&mut seen, 0).unwrap();
            if seen != model {
                done.store(true, Ordering::Relaxed);
                panic!("round {round}: a reader saw old bytes");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(count(&at, "getxattr") - getxattrs, 0, "it was not direct");
    drop((writer, reader));
    at.unmount().await;
}
