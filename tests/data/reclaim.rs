//! Space reclaim: what is dead goes, what is alive stays, whatever is damaged, late or listed
//! wrongly.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use strongroom::{
    data::DataConfig,
    fs::FsConfig,
    meta::{Ino, SessionId},
    server::Faults,
    store::Condition,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    opened::{Opened, ROOT},
    volume::TestVolume,
    wait::eventually,
};

const RECLAIM_EVERY: Duration = Duration::from_millis(100);

fn quick(config: &mut DataConfig) {
    config.write_back_after = Duration::from_millis(50);
    config.garbage_grace = Duration::ZERO;
    config.reclaim_every = RECLAIM_EVERY;
    config.leftovers_again = [Duration::from_millis(500); 3];
}

async fn open(volume: &TestVolume) -> Opened {
    open_through(volume, volume.server.endpoint_url()).await
}

async fn open_through(volume: &TestVolume, endpoint_url: String) -> Opened {
    let opened = volume
        .open_through(endpoint_url, FsConfig::default(), quick)
        .await;
    opened.data.start_reclaim();
    opened
}

/// A file that is durable, in an object of its own.
async fn written(opened: &Opened, name: &str, contents: &[u8]) -> Ino {
    let fs = &opened.fs;
    let created = fs
        .create(ROOT, Ino::ROOT, name.as_bytes(), 0o644, libc::O_RDWR)
        .await
        .unwrap();
    let ino = created.attributes.ino;
    let buffer = fs.try_buffer(contents).unwrap();
    fs.write(ino, 0, buffer, false).await.unwrap();
    fs.fsync(ino).await.unwrap();
    fs.release(created.fh);
    ino
}

async fn contents(opened: &Opened, ino: Ino, len: u32) -> Vec<u8> {
    let fs = &opened.fs;
    let fh = fs.open(ROOT, ino, libc::O_RDONLY).await.unwrap().fh;
    let read = fs.read(fh, 0, len).await.unwrap().bytes.to_vec();
    fs.release(fh);
    read
}

fn prefix(session: SessionId) -> String {
    format!("data/{}/", data_encoding::HEXLOWER.encode(&session.0))
}

async fn keys(opened: &Opened, prefix: &str) -> Vec<String> {
    let page = opened.store.list_page(prefix, None).await.unwrap();
    page.into_iter().map(|entry| entry.key).collect()
}

/// Bytes of the volume's data objects.
async fn stored_bytes(opened: &Opened) -> u64 {
    let page = opened.store.list_page("data/", None).await.unwrap();
    page.into_iter().map(|entry| entry.size).sum()
}

async fn put(opened: &Opened, key: &str, bytes: Vec<u8>) {
    let pieces = vec![Bytes::from(bytes)];
    opened
        .store
        .put(key, pieces, Condition::None, &[])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_cannot_be_repacked_keep_no_others_from_it_and_are_rarely_tried() {
    const DAMAGED: usize = 70;
    const SOUND: usize = 12;
    const LEN: usize = 100_000;
    let volume = TestVolume::new().await;
    let first = volume.open().await;
    let mut files = Vec::new();
    for number in 0..DAMAGED + SOUND {
        let contents = vec![number as u8 + 1; LEN];
        files.push(written(&first, &format!("f{number}"), &contents).await);
    }
    // Most of each object dies: what is left is worth moving.
    for ino in &files {
        let punch = first
            .data
            .punch_hole(*ino, 0..80_000, strongroom::fs::now());
        punch.await.unwrap();
    }
    let before = keys(&first, &prefix(first.meta.session())).await;
    assert_eq!(before.len(), DAMAGED + SOUND);
    first.data.drain().await.unwrap();
    // More of them than go together, and first in order.
    for key in &before[..DAMAGED] {
        let (_, bytes) = first.store.get_bytes(key, None, 1 << 20).await.unwrap();
        let mut bytes = bytes.to_vec();
        bytes.iter_mut().skip(70_000).for_each(|byte| *byte ^= 1);
        put(&first, key, bytes).await;
    }
    first.close().await;

    let opened = open(&volume).await;
    eventually("the sound objects were repacked and deleted", async || {
        keys(&opened, before[0].rsplit_once('/').unwrap().0).await == before[..DAMAGED]
    })
    .await;
    for (number, ino) in files.iter().enumerate().skip(DAMAGED) {
        let mut expected = vec![0; LEN];
        expected[80_000..].fill(number as u8 + 1);
        assert!(contents(&opened, *ino, LEN as u32).await == expected);
    }
    // Ten rounds more: each that fails is tried three times at most.
    volume.server.reset_stats();
    tokio::time::sleep(RECLAIM_EVERY * 10).await;
    let gets = volume.server.stats().count("GetObject");
    assert!(gets <= 3 * DAMAGED as u64, "{gets} GETs of damaged objects");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_which_more_than_half_lives_are_repacked_where_much_is_wasted_in_all() {
    const LEN: usize = 4 << 20;
    const PAGE: usize = 4096;
    let volume = TestVolume::new().await;
    let opened = open(&volume).await;
    let mut expected: Vec<u8> = (0..LEN).map(|at| (at / 7) as u8).collect();
    let ino = written(&opened, "file", &expected).await;
    // Two pages of five: three fifths of the first object live on, beside an object that is alive.
    for page in (0..LEN / PAGE).filter(|page| page % 5 < 2) {
        let new = [page as u8 | 1; PAGE];
        expected[page * PAGE..][..PAGE].copy_from_slice(&new);
        let buffer = opened.fs.try_buffer(&new).unwrap();
        let at = (page * PAGE) as u64;
        opened.fs.write(ino, at, buffer, false).await.unwrap();
    }
    opened.fs.fsync(ino).await.unwrap();
    let wasteful = stored_bytes(&opened).await;
    assert!(wasteful as f64 > 1.35 * LEN as f64, "{wasteful}");
    eventually("a quarter is wasted at most", async || {
        stored_bytes(&opened).await as f64 <= 1.26 * LEN as f64
    })
    .await;
    let mut found = Vec::new();
    let fh = opened.fs.open(ROOT, ino, libc::O_RDONLY).await.unwrap().fh;
    while found.len() < LEN {
        let read = opened.fs.read(fh, found.len() as u64, 1 << 20).await;
        found.extend_from_slice(&read.unwrap().bytes);
    }
    opened.fs.release(fh);
    assert!(found == expected);
    // Nothing more is moved then, and nothing asked for.
    let settled = async || (stored_bytes(&opened).await, opened.meta.applied());
    let before = settled().await;
    tokio::time::sleep(RECLAIM_EVERY * 10).await;
    assert_eq!(settled().await, before);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mount_that_was_taken_over_uploads_late_is_deleted_all_the_same() {
    let volume = TestVolume::new().await;
    let fenced = volume.open().await;
    let kept = written(&fenced, "kept", &[7; 50_000]).await;
    let session = prefix(fenced.meta.session());
    let committed = keys(&fenced, &session).await;
    put(&fenced, &format!("{session}00000000000000aa"), vec![1; 10]).await;

    let opened = open(&volume).await;
    let only_committed = async || keys(&opened, &session).await == committed;
    eventually("what was there is deleted", only_committed).await;
    assert_eq!(opened.meta.dead_sessions().await.unwrap().len(), 1);
    // The first look is over. Now requests that were under way are carried out.
    put(&fenced, &format!("{session}00000000000000ab"), vec![1; 10]).await;
    let late = format!("{session}00000000000000ac");
    fenced.store.create_multipart(&late).await.unwrap();
    let uploads = async || opened.store.list_multipart(&session).await.unwrap().len();
    assert_eq!(uploads().await, 1);
    eventually("what came late is deleted", async || {
        only_committed().await && uploads().await == 0
    })
    .await;
    eventually("the session is forgotten after the last look", async || {
        opened.meta.dead_sessions().await.unwrap().is_empty()
    })
    .await;
    assert!(contents(&opened, kept, 50_000).await == [7; 50_000]);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_short_mounts_left_do_not_pile_up() {
    let volume = TestVolume::new().await;
    for _ in 0..12 {
        drop(volume.open().await);
    }
    let opened = volume.open().await;
    assert_eq!(opened.meta.dead_sessions().await.unwrap().len(), 12);
    opened.data.start_reclaim();
    eventually("all but the latest few are forgotten", async || {
        opened.meta.dead_sessions().await.unwrap().len() == 8
    })
    .await;
    opened.close().await;
}

/// Bytes that are repacked while a mount ends would be dirty when it has ended, or in an object
/// that nobody commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repacking_that_is_under_way_moves_nothing_after_the_last_drain() {
    let volume = TestVolume::new().await;
    let slow = |latency| {
        let faults = Faults {
            latency,
            ..Faults::default()
        };
        volume.server.set_faults(faults);
    };
    let endpoint = volume.server.endpoint_url();
    let opened = volume
        .open_through(endpoint, FsConfig::default(), quick)
        .await;
    let ino = written(&opened, "file", &[7; 100_000]).await;
    let punch = opened
        .data
        .punch_hole(ino, 0..80_000, strongroom::fs::now());
    punch.await.unwrap();
    opened.data.drain().await.unwrap();
    let before = keys(&opened, "data/").await;

    slow(Duration::from_secs(1));
    let asked = opened.metrics.get_requests.get();
    let received_before = opened.metrics.received_bytes.get();
    // The rest of the file, and nothing else that is fetched is as long.
    let is_read = || opened.metrics.received_bytes.get() - received_before >= 20_000;
    opened.data.start_reclaim();
    eventually("repacking reads what lives", async || {
        opened.metrics.get_requests.get() > asked
    })
    .await;
    opened.data.finish().await.unwrap();
    assert!(!is_read(), "read too early");
    slow(Duration::ZERO);
    eventually("it is read", async || is_read()).await;
    // Longer than dirty data waits.
    for _ in 0..50 {
        assert_eq!(opened.data.dirty_bytes(), 0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    opened.data.shutdown().await;
    assert_eq!(keys(&opened, "data/").await, before);
    opened.meta.close().await.unwrap();
}

/// Names that are not made as this program makes them are somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_of_a_dead_sessions_own_objects_are_deleted() {
    let volume = TestVolume::new().await;
    let dead = volume.open().await;
    let session = prefix(dead.meta.session());
    let strange = [
        format!("{session}000000000000000A"),
        format!("{session}below/0000000000000005"),
        format!("{session}+00000000000000b"),
    ];
    for key in &strange {
        put(&dead, key, vec![1; 10]).await;
    }
    put(&dead, &format!("{session}00000000000000aa"), vec![1; 10]).await;
    let opened = open(&volume).await;
    eventually("the session is forgotten", async || {
        opened.meta.dead_sessions().await.unwrap().is_empty()
    })
    .await;
    let mut left = keys(&opened, &session).await;
    left.sort();
    let mut expected = strange.to_vec();
    expected.sort();
    assert_eq!(left, expected);
    opened.close().await;
}

/// Passes on what client and server say to each other, but for one word of the server's, which
/// becomes another of the same length.
async fn proxy_that_replaces(server: String, words: Arc<Mutex<(Vec<u8>, Vec<u8>)>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server.trim_start_matches("http://"))
                .await
                .unwrap();
            let words = words.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let mut buffer = vec![0; 256 << 10];
                while let Ok(len @ 1..) = from_server.read(&mut buffer).await {
                    let (word, by) = words.lock().clone();
                    let said = &mut buffer[..len];
                    for at in 0..len.saturating_sub(word.len() - 1) {
                        if said[at..].starts_with(&word) {
                            said[at..at + by.len()].copy_from_slice(&by);
                        }
                    }
                    if to_client.write_all(said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_names_objects_of_a_living_session_deletes_none_of_them() {
    let volume = TestVolume::new().await;
    let dead = volume.open().await;
    let dead_session = prefix(dead.meta.session());
    let nothing = || (b"no such word".to_vec(), b"no such word".to_vec());
    let words = Arc::new(Mutex::new(nothing()));
    let endpoint = proxy_that_replaces(volume.server.endpoint_url(), words.clone()).await;
    let opened = volume
        .open_through(endpoint, FsConfig::default(), quick)
        .await;
    let living_session = prefix(opened.meta.session());
    let mut files = Vec::new();
    for number in 0..4 {
        files.push(written(&opened, &format!("f{number}"), &[7; 50_000]).await);
    }
    let alive = keys(&opened, &living_session).await;
    // Objects of the dead session by the numbers that those of the living one have.
    for key in &alive {
        let (_, number) = key.rsplit_once('/').unwrap();
        put(&opened, &format!("{dead_session}{number}"), vec![1; 10]).await;
    }
    *words.lock() = (
        dead_session.into_bytes(),
        living_session.clone().into_bytes(),
    );
    let before = opened.metrics.list_requests.get();
    opened.data.start_reclaim();
    eventually("the dead session is listed", async || {
        opened.metrics.list_requests.get() > before + 1
    })
    .await;
    *words.lock() = nothing();
    eventually("the dead session is forgotten", async || {
        opened.meta.dead_sessions().await.unwrap().is_empty()
    })
    .await;
    assert_eq!(keys(&opened, &living_session).await, alive);
    for ino in files {
        assert!(contents(&opened, ino, 50_000).await == [7; 50_000]);
    }
    opened.close().await;
}
