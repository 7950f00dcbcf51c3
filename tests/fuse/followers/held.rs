//! A follower still reads what the writer has replaced, and the writer keeps it for the follower.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;
use strongroom::{
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    fs::FsConfig,
    fuse::MountOptions,
    store::Store,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::reading::replace;
use crate::support::{
    opened::{MountedVolume, mount_opened},
    volume::TestVolume,
    wait::eventually,
};

/// Two mounts whose times are a fraction of the usual: what is dead is deleted as soon as the
/// writer looks, but for readers' notes.
async fn impatient_mounts(tells: bool) -> (TestVolume, MountedVolume, MountedVolume) {
    let volume = TestVolume::new().await;
    let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
    plan.data.write_back_after = Duration::from_secs(3);
    plan.data.garbage_grace = Duration::ZERO;
    plan.data.reclaim_every = Duration::from_millis(100);
    plan.data.reader_renewed_every = Duration::from_millis(200);
    let writer = volume.open_planned(FsConfig::default(), plan).await;
    writer.data.start_reclaim();
    let writer = mount_opened(writer, MountOptions::default()).await;
    let read_only = FsConfig {
        read_only: true,
        ..FsConfig::default()
    };
    let follower = volume.open_planned(read_only, plan).await;
    if tells {
        follower.data.start_telling();
    }
    let follower = mount_opened(follower, MountOptions::default()).await;
    (volume, writer, follower)
}

async fn keys(store: &Store, prefix: &str) -> Vec<String> {
    let listed = store.list_page(prefix, None).await.unwrap();
    listed.into_iter().map(|entry| entry.key).collect()
}

/// The follower opens the file and reads from it, the writer replaces it, and the follower sees the
/// new version: its handle of the old one, and the objects that were there before.
async fn replaced_while_open(store: &Store, theirs: &Path, ours: &Path) -> (File, Vec<String>) {
    let held = File::open(ours).unwrap();
    let mut start = [0; 10];
    held.read_exact_at(&mut start, 0).unwrap();
    let of_old = keys(store, "data/").await;
    replace(theirs, b"new");
    // Its length only: whoever reads the old version fills the page cache with it.
    eventually("the new version", async || {
        fs::metadata(ours).is_ok_and(|found| found.len() == 3)
    })
    .await;
    (held, of_old)
}

fn contents(number: usize) -> Vec<u8> {
    let pattern = (0..20 << 20).map(|n: usize| (n % 251) as u8 ^ number as u8);
    pattern.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_has_open_is_kept_for_it_until_it_is_closed() {
    let (_volume, writer, follower) = impatient_mounts(true).await;
    let store = writer.opened.store.clone();
    eventually("the follower's note", async || {
        keys(&store, "readers/").await.len() == 1
    })
    .await;
    let (theirs, ours) = (writer.path("file"), follower.path("file"));
    let old = contents(0);
    replace(&theirs, &old);
    eventually("the file", async || ours.exists()).await;
    let (held, of_old) = replaced_while_open(&store, &theirs, &ours).await;
    // Ten looks of the writer, five renewals.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let still_there = keys(&store, "data/").await;
    assert!(of_old.iter().all(|key| still_there.contains(key)));
    let mut whole = vec![0; old.len()];
    held.read_exact_at(&mut whole, 0).unwrap();
    assert!(whole == old);

    drop(held);
    eventually("the old version is deleted", async || {
        let left = keys(&store, "data/").await;
        of_old.iter().all(|key| !left.contains(key))
    })
    .await;
    follower.unmount().await;
    assert!(keys(&store, "readers/").await.is_empty());
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_all_the_same_is_estale_and_never_other_bytes() {
    let (_volume, writer, follower) = impatient_mounts(false).await;
    let store = writer.opened.store.clone();
    let (theirs, ours) = (writer.path("file"), follower.path("file"));
    for round in 0..3 {
        let old = contents(round);
        replace(&theirs, &old);
        eventually("the file", async || {
            ours.metadata().is_ok_and(|found| found.len() == 20 << 20)
        })
        .await;
        let (held, of_old) = replaced_while_open(&store, &theirs, &ours).await;
        eventually("the old version is deleted", async || {
            let left = keys(&store, "data/").await;
            of_old.iter().any(|key| !left.contains(key))
        })
        .await;
        let (mut good, mut stale) = (0, 0);
        let mut piece = vec![0; 1 << 20];
        for offset in (0..old.len()).step_by(1 << 20) {
            match held.read_exact_at(&mut piece, offset as u64) {
                Ok(()) => {
                    assert!(piece == old[offset..offset + (1 << 20)]);
                    good += 1;
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32));
                    stale += 1;
                }
            }
        }
        assert!(stale > 0, "{good} were readable");
        assert_eq!(fs::read(&ours).unwrap(), b"new");
        drop(held);
    }
    follower.unmount().await;
    writer.unmount().await;
}

/// The server, but for who may not leave notes there. Counts the refusals.
async fn without_write_access(server: String, refusals: Arc<AtomicUsize>) -> String {
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(pass_reads(client, upstream, refusals.clone()));
        }
    });
    endpoint
}

/// Requests come one after the other, each with its head in one piece.
async fn pass_reads(
    client: TcpStream,
    upstream: TcpStream,
    refusals: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    const DENIED: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\n\
        content-length: 43\r\nconnection: close\r\n\r\n<Error><Code>AccessDenied</Code></Error>   ";
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let mut piece = vec![0; 64 << 10];
    let mut answer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            read = from_client.read(&mut piece) => match read? {
                0 => return Ok(()),
                _ if piece.starts_with(b"PUT ") || piece.starts_with(b"DELETE ") => {
                    refusals.fetch_add(1, Ordering::SeqCst);
                    to_client.write_all(DENIED).await?;
                    return to_client.shutdown().await;
                }
                read => to_server.write_all(&piece[..read]).await?,
            },
            read = from_server.read(&mut answer) => match read? {
                0 => return Ok(()),
                read => to_client.write_all(&answer[..read]).await?,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_key_may_not_write_works_all_the_same() {
    let world = TestVolume::new().await;
    let writer = world.mount().await;
    fs::write(writer.path("file"), b"one").unwrap();
    writer.opened.data.drain().await.unwrap();
    let refusals = Arc::new(AtomicUsize::new(0));
    let endpoint = without_write_access(world.server.endpoint_url(), refusals.clone()).await;
    let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
    plan.data.reader_renewed_every = Duration::from_millis(50);
    let read_only = FsConfig {
        read_only: true,
        ..FsConfig::default()
    };
    let follower = world.open_at(endpoint, read_only, plan).await;
    follower.data.start_telling();
    let follower = mount_opened(follower, MountOptions::default()).await;
    let ours = follower.path("file");
    assert_eq!(fs::read(&ours).unwrap(), b"one");
    replace(&writer.path("file"), b"another");
    eventually("the new version", async || {
        fs::read(&ours).is_ok_and(|bytes| bytes == b"another")
    })
    .await;
    assert_eq!(refusals.load(Ordering::SeqCst), 1, "it is not tried again");
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_whose_objects_are_repacked_stays_readable() {
    let (_world, writer, follower) = impatient_mounts(false).await;
    // A pack of many small files; all but one are removed, so that it is repacked.
    let numbers = 0..40_u8;
    for number in numbers.clone() {
        fs::write(writer.path(&number.to_string()), [number; 50_000]).unwrap();
    }
    writer.opened.data.drain().await.unwrap();
    let ours = follower.path("7");
    eventually("the file", async || {
        ours.metadata().is_ok_and(|found| found.len() == 50_000)
    })
    .await;
    let held = File::open(&ours).unwrap();
    let store = writer.opened.store.clone();
    let before = keys(&store, "data/").await;
    for number in numbers.filter(|number| *number != 7) {
        fs::remove_file(writer.path(&number.to_string())).unwrap();
    }
    File::open(writer.root()).unwrap().sync_all().unwrap();
    eventually("the packs are gone", async || {
        let left = keys(&store, "data/").await;
        before.iter().all(|key| !left.contains(key))
    })
    .await;
    let mut whole = [0; 50_000];
    held.read_exact_at(&mut whole, 0).unwrap();
    assert!(whole == [7; 50_000]);
    drop(held);
    follower.unmount().await;
    writer.unmount().await;
}
