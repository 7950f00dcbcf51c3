//! Requests that operations on metadata cost.

use std::time::{Duration, Instant};

use strongroom::meta::{Ino, Meta};

use crate::volume::{
    CountingStore, Verb, at, contents, count, directory, extent, file, object, open, volume,
};

/// Makes 5,000 files in 50 directories as an unpacking tar does, in packs of 500.
pub async fn unpack(meta: &Meta) -> Vec<Ino> {
    let mut dirs = Vec::new();
    for dir in 0..50 {
        let dir_ino = directory(meta, Ino::ROOT, &format!("directory-{dir}"))
            .await
            .ino;
        dirs.push(dir_ino);
        let mut inos = Vec::new();
        for number in 0..100 {
            let name = format!("some-file-name-{number}.txt");
            assert!(
                meta.lookup(dir_ino, name.as_bytes())
                    .await
                    .unwrap()
                    .is_none()
            );
            let ino = file(meta, dir_ino, &name).await.ino;
            meta.update_inode(ino, |inode| {
                (inode.mode, inode.mtime) = (0o644, at(1000 + number));
                Ok(())
            })
            .await
            .unwrap();
            inos.push(ino);
        }
        let pack = object(meta, dir, 100 * 8000);
        let commits: Vec<_> = inos
            .iter()
            .zip(0..)
            .map(|(ino, number)| contents(*ino, vec![extent(0, 8000, &pack, number * 8000)], 8000))
            .collect();
        meta.commit_content(&[pack], &commits).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    dirs
}

pub async fn list_all(meta: &Meta, dirs: &[Ino]) -> usize {
    let mut count = 0;
    for dir in dirs {
        let mut cookie = 0;
        loop {
            let page = meta.read_dir(*dir, cookie, 128).await.unwrap();
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            let inos: Vec<_> = page.iter().map(|entry| entry.ino).collect();
            count += meta
                .inodes(&inos)
                .await
                .unwrap()
                .into_iter()
                .flatten()
                .count();
        }
    }
    count
}

async fn cold(store: &CountingStore) -> (std::sync::Arc<CountingStore>, Meta) {
    let store = store.fork().await;
    let meta = open(&store).await;
    store.take();
    (store, meta)
}

#[tokio::test]
pub async fn unpacking_five_thousand_files_and_listing_them_cold_takes_few_requests() {
    let (store, meta) = volume().await;
    store.take();
    let begun = Instant::now();
    let dirs = unpack(&meta).await;
    meta.flush().await.unwrap();
    let requests = store.take();
    println!(
        "unpacked in {:?}: {} requests",
        begun.elapsed(),
        requests.len()
    );
    assert!(count(&requests, Verb::Put, "") <= 20, "{requests:?}");
    assert_eq!(count(&requests, Verb::Get, "compacted/"), 0, "{requests:?}");

    // After a crash, and after a clean end.
    let (crashed, after_crash) = cold(&store).await;
    assert_eq!(list_all(&after_crash, &dirs).await, 5000);
    let requests = crashed.take();
    println!("listed after a crash: {} requests", requests.len());
    meta.close().await.unwrap();
    let (store, meta) = cold(&store).await;
    assert_eq!(list_all(&meta, &dirs).await, 5000);
    let requests = store.take();
    println!("listed cold: {} requests", requests.len());
    // One for each of the 50 directories: without a store that reads around, neighbours are not
    // fetched along.
    assert!(count(&requests, Verb::Get, "") <= 60, "{requests:?}");
    // Once more from the caches.
    assert_eq!(list_all(&meta, &dirs).await, 5000);
    let again = store.take();
    println!("listed again: {} requests", again.len());
    assert!(again.len() <= 10, "{again:?}");
}

#[tokio::test]
async fn renaming_a_large_directory_is_one_request() {
    let (store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "large").await.ino;
    for number in 0..2000 {
        file(&meta, dir, &format!("f{number}")).await;
    }
    meta.close().await.unwrap();
    let meta = open(&store).await;
    assert_eq!(
        meta.lookup(Ino::ROOT, b"large").await.unwrap().unwrap().ino,
        dir
    );
    meta.inode(dir).await.unwrap().unwrap();
    store.take();
    let mode = strongroom::meta::RenameMode::Replace;
    meta.rename(Ino::ROOT, b"large", Ino::ROOT, b"renamed", mode, at(20))
        .await
        .unwrap();
    meta.flush().await.unwrap();
    let requests = store.take();
    assert!(requests.len() <= 3, "{requests:?}");
    assert_eq!(count(&requests, Verb::Put, "wal/"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_keeps_up_by_itself_and_stops() {
    let (store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
    let begun = Instant::now();
    for number in 0..60_000 {
        file(
            &meta,
            dir,
            &format!("a-name-of-some-length-that-fills-tables-{number}"),
        )
        .await;
    }
    meta.flush().await.unwrap();
    println!("60,000 files in {:?}", begun.elapsed());
    // A lull: what piled up is compacted, then nothing more is asked of the store.
    let begun = Instant::now();
    let mut compactions = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let requests = store.take();
        if requests.is_empty() {
            break;
        }
        compactions += count(&requests, Verb::Put, "compactions/");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "compaction does not come to an end"
        );
    }
    assert!(compactions > 0);
    let crashed = open(&store.fork().await).await;
    assert_eq!(crashed.inode(dir).await.unwrap().unwrap().entries, 60_000);
    let page = crashed.read_dir(dir, 0, 100_000).await.unwrap();
    assert_eq!(page.len(), 60_000);
    assert_eq!(
        crashed
            .inodes(&page.iter().map(|entry| entry.ino).collect::<Vec<_>>())
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        60_000
    );
    meta.close().await.unwrap();
}
