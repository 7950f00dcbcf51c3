//! Directory listings; below the kernel.

use std::collections::BTreeSet;

use strongroom::{
    fs::{Fs, Listed},
    meta::Ino,
};

use crate::support::{opened::ROOT, volume::TestVolume};

/// Lists from `cookie` on, `step` entries a time.
async fn list_from(fs: &Fs, fh: u64, mut cookie: u64, step: usize) -> Vec<Listed> {
    let mut all = Vec::new();
    loop {
        let batch = fs.read_dir(fh, cookie, true).await.unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.into_iter().take(step));
        cookie = all.last().unwrap().cookie;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_is_listed_once_however_the_listing_is_cut() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap().ino;
    let names: BTreeSet<Vec<u8>> = (0..500)
        .map(|number| format!("name {number}").into_bytes())
        .collect();
    for name in &names {
        fs.mknod(ROOT, dir, name, libc::S_IFREG | 0o640, 0)
            .await
            .unwrap();
    }
    let fh = fs.opendir(dir).await.unwrap();
    for step in [3, 7, 1000] {
        let listed = list_from(fs, fh, 0, step).await;
        assert_eq!(
            (listed[0].name.as_ref(), listed[0].ino, listed[0].cookie),
            (&b"."[..], dir, 1)
        );
        assert_eq!(
            (listed[1].name.as_ref(), listed[1].ino, listed[1].cookie),
            (&b".."[..], Ino::ROOT, 2)
        );
        let found: BTreeSet<Vec<u8>> = listed[2..]
            .iter()
            .map(|entry| entry.name.to_vec())
            .collect();
        assert_eq!(listed.len(), 502);
        assert_eq!(found, names);
        assert!(
            listed[2..]
                .iter()
                .all(|entry| entry.attributes.unwrap().mode == 0o640)
        );
        assert!(listed.is_sorted_by_key(|entry| entry.cookie));
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_goes_on_while_entries_come_and_go() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap().ino;
    for number in 0..400 {
        fs.mknod(
            ROOT,
            dir,
            format!("{number}").as_bytes(),
            libc::S_IFREG | 0o644,
            0,
        )
        .await
        .unwrap();
    }
    let fh = fs.opendir(dir).await.unwrap();
    let first = fs.read_dir(fh, 0, false).await.unwrap();
    let half = &first[..first.len() / 2];
    // The entries that were listed go.
    for entry in &half[2..] {
        fs.unlink(dir, &entry.name).await.unwrap();
    }
    let listed: BTreeSet<Vec<u8>> = half.iter().map(|entry| entry.name.to_vec()).collect();
    let rest = list_from(fs, fh, half.last().unwrap().cookie, 1000).await;
    let names: BTreeSet<Vec<u8>> = rest.iter().map(|entry| entry.name.to_vec()).collect();
    assert_eq!(names.len(), rest.len());
    assert!(names.is_disjoint(&listed));
    assert_eq!(names.len() + half.len() - 2, 400);
    for entry in rest {
        fs.unlink(dir, &entry.name).await.unwrap();
    }
    fs.rmdir(Ino::ROOT, b"d").await.unwrap();
    assert!(fs.read_dir(fh, 2, true).await.unwrap().is_empty());
    opened.close().await;
}
