//! `fsck` at sizes that take minutes.

use std::{fs, io::Write, process::Stdio, time::Instant};

use strongroom::{
    meta::{FileKind, Ino, Meta, MetaConfig, NewInode, Timestamp},
    store::Store,
};

use crate::{
    copies::{key_of, mount, site},
    metadata_rows::Rows,
    support::{commands::said, random::noise, site::Site},
};

const MIB: u64 = 1 << 20;

/// Runs a check to its end; what it said, and the most that was resident meanwhile, in bytes.
/// (`getrusage` would count this process too, which the child shares its memory with for a moment.)
fn watched(site: &Site, options: &[&str]) -> (String, u64) {
    let key = key_of(site);
    let url = site.url();
    let mut args = vec!["fsck", &url, "--key-file", &key, "--memory", "128MiB"];
    args.extend(options);
    let mut command = site.strongroom(&args).command;
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let peak = std::thread::spawn(move || {
        let mut peak_kib = 0;
        while let Ok(status) = fs::read_to_string(&status) {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"));
            // The kernel shows no memory for a process that has ended and was not yet waited for.
            let Some(line) = line else { break };
            let kib = line.split_whitespace().nth(1).unwrap();
            peak_kib = kib.parse().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        peak_kib
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let peak_kib: u64 = peak.join().unwrap();
    (said(&output), peak_kib * 1024)
}

#[test]
#[ignore = "minutes: a million files"]
fn a_million_files_are_checked_within_128_mib() {
    let site = site();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sealed = Rows::sealed(&site, &site.url()).await;
        let config = MetaConfig {
            read_only: false,
            follow_every: std::time::Duration::from_secs(1),
            memory_bytes: 64 * MIB,
        };
        let meta = Meta::open(sealed, config).await.unwrap();
        let new = |kind| NewInode {
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: bytes::Bytes::new(),
            now: Timestamp::now(),
            xattrs: Vec::new(),
        };
        for dir in 0..1000 {
            let name = format!("directory-{dir}");
            let parent = new(FileKind::Directory);
            let parent = meta
                .create(Ino::ROOT, name.as_bytes(), parent)
                .await
                .unwrap();
            let files = (0..1000).map(|file| {
                let (meta, parent) = (&meta, parent.ino);
                async move {
                    let name = format!("a-file-with-a-name-{file}");
                    meta.create(parent, name.as_bytes(), new(FileKind::File))
                        .await
                        .unwrap();
                }
            });
            futures::future::join_all(files).await;
        }
        meta.end_session(meta.session()).await.unwrap();
        meta.close().await.unwrap();
    });
    let began = Instant::now();
    let (said, rss) = watched(&site, &["--data"]);
    println!(
        "{:?}, {} MiB resident at most: {said}",
        began.elapsed(),
        rss / MIB
    );
    assert!(said.contains("1001001 inodes"), "{said}");
    assert!(rss < 128 * MIB, "{} MiB", rss / MIB);
}

#[test]
#[ignore = "a minute: reads two gigabytes several times"]
fn reading_all_is_about_as_fast_as_a_plain_read() {
    let site = site();
    let mounted = mount(&site, &site.url(), &[]);
    for file in 0..8u64 {
        let mut out = fs::File::create(mounted.dir.join(format!("file{file}"))).unwrap();
        for part in 0..16u64 {
            out.write_all(&noise(file * 16 + part, 16 << 20)).unwrap();
        }
    }
    mounted.unmount();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let plain =
            runtime.block_on(async { plain_read(&Rows::store(&site, &site.url()).await).await });
        let key = key_of(&site);
        let began = Instant::now();
        let args = ["fsck", &site.url(), "--data", "--key-file", &key, "--quiet"];
        let checked = site.strongroom(&args).output();
        let took = began.elapsed().as_secs_f64();
        assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
        println!(
            "plain {:.0} MiB/s, fsck {:.0} MiB/s",
            2048.0 / plain,
            2048.0 / took
        );
        ratios.push(plain / took);
    }
    println!("fsck --data reaches {ratios:.2?} of a plain read");
    // Others may take a part of the machine in any of the rounds.
    let best = ratios.into_iter().fold(0.0, f64::max);
    assert!(best >= 0.8, "{best:.2}");
}

/// All objects, in ranges of 8 MiB, 32 at once; seconds.
async fn plain_read(store: &Store) -> f64 {
    use futures::StreamExt;
    let mut ranges = Vec::new();
    let mut pages = store.pages("data/", None, 1000);
    while let Some(page) = pages.next().await.unwrap() {
        for entry in page {
            let mut at = 0;
            while at < entry.size {
                let end = (at + 8 * MIB).min(entry.size);
                ranges.push((entry.key.clone(), at..end));
                at = end;
            }
        }
    }
    let began = Instant::now();
    let reads = ranges.into_iter().map(|(key, range)| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut body = store.get(&key, Some(range)).await.unwrap();
            while body.chunk().await.unwrap().is_some() {}
        })
    });
    let mut reads = futures::stream::iter(reads).buffer_unordered(32);
    while let Some(done) = reads.next().await {
        done.unwrap();
    }
    began.elapsed().as_secs_f64()
}
