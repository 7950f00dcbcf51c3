//! Extents: committing, replacing, cutting, holes.

use std::slice::from_ref;

use bytes::Bytes;
use strongroom::meta::{ContentCommit, Extent, ExtentSource, Ino, Meta, MetaError, NewObject};

use crate::volume::{at, extent, file, get, object, open, volume};

fn commit(ino: Ino, extents: Vec<Extent>, size: u64) -> ContentCommit {
    ContentCommit::new(ino, extents, size).with_times(at(30), at(31))
}

async fn all(meta: &Meta, ino: Ino) -> Vec<Extent> {
    meta.extents(ino, 0..u64::MAX, usize::MAX).await.unwrap()
}

async fn live(meta: &Meta, object: &NewObject) -> u64 {
    meta.object(object.object)
        .await
        .unwrap()
        .unwrap()
        .live_bytes
}

#[tokio::test]
async fn a_pack_of_a_thousand_files_is_one_batch() {
    let (store, meta) = volume().await;
    let mut inos = Vec::new();
    for number in 0..1000 {
        inos.push(file(&meta, Ino::ROOT, &format!("f{number}")).await.ino);
    }
    meta.flush().await.unwrap();
    let before = meta.generation();
    let pack = object(&meta, 0, 1000 * 100);
    let commits: Vec<_> = inos
        .iter()
        .zip(0..)
        .map(|(ino, number)| commit(*ino, vec![extent(0, 100, &pack, number * 100)], 100))
        .collect();
    meta.commit_content(from_ref(&pack), &commits)
        .await
        .unwrap();
    meta.flush().await.unwrap();
    assert_eq!(meta.generation(), before + 1);
    assert_eq!(meta.totals().bytes, 100_000);
    let meta = open(&store).await;
    assert_eq!(meta.totals().bytes, 100_000);
    assert_eq!(live(&meta, &pack).await, 100_000);
    assert_eq!(all(&meta, inos[500]).await, [extent(0, 100, &pack, 50_000)]);
    let inode = get(&meta, inos[999]).await;
    assert_eq!(
        (
            inode.size,
            inode.allocated,
            inode.mtime,
            inode.ctime,
            inode.atime
        ),
        (100, 100, at(30), at(31), at(10))
    );
}

#[tokio::test]
async fn new_extents_replace_what_they_overlap() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let (a, b) = (object(&meta, 0, 1000), object(&meta, 1, 300));
    meta.commit_content(
        from_ref(&a),
        &[commit(ino, vec![extent(0, 1000, &a, 0)], 1000)],
    )
    .await
    .unwrap();
    // One in the middle, one over the end.
    let parts = vec![extent(200, 100, &b, 0), extent(900, 200, &b, 100)];
    meta.commit_content(from_ref(&b), &[commit(ino, parts, 1100)])
        .await
        .unwrap();
    let expected = [
        extent(0, 200, &a, 0),
        extent(200, 100, &b, 0),
        extent(300, 600, &a, 300),
        extent(900, 200, &b, 100),
    ];
    assert_eq!(all(&meta, ino).await, expected);
    assert_eq!((live(&meta, &a).await, live(&meta, &b).await), (800, 300));
    assert_eq!(
        (get(&meta, ino).await.allocated, meta.totals().bytes),
        (1100, 1100)
    );
    // Only what overlaps, and no more than asked for.
    assert_eq!(
        meta.extents(ino, 199..201, 10).await.unwrap(),
        expected[..2]
    );
    assert_eq!(
        meta.extents(ino, 200..300, 10).await.unwrap(),
        expected[1..2]
    );
    assert_eq!(
        meta.extents(ino, 250..5000, 2).await.unwrap(),
        expected[1..3]
    );
    assert!(meta.extents(ino, 1100..5000, 2).await.unwrap().is_empty());
    assert!(meta.extents(ino, 7..7, 2).await.unwrap().is_empty());
    // Two parts of one commit for the same file count one after the other.
    let c = object(&meta, 2, 20);
    let twice = [
        commit(ino, vec![extent(0, 10, &c, 0)], 1100),
        commit(ino, vec![extent(5, 10, &c, 10)], 1100),
    ];
    meta.commit_content(from_ref(&c), &twice).await.unwrap();
    assert_eq!(
        all(&meta, ino).await[..3],
        [
            extent(0, 5, &c, 0),
            extent(5, 10, &c, 10),
            extent(15, 185, &a, 15)
        ]
    );
    assert_eq!((live(&meta, &a).await, live(&meta, &c).await), (785, 15));
}

#[tokio::test]
async fn extents_that_continue_each_other_become_one() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let a = object(&meta, 0, 1000);
    let parts = (0..10)
        .map(|part| extent(part * 100, 50, &a, part * 50))
        .chain([extent(950, 50, &a, 500)]);
    meta.commit_content(from_ref(&a), &[commit(ino, parts.collect(), 1000)])
        .await
        .unwrap();
    assert_eq!(
        all(&meta, ino).await.last(),
        Some(&extent(900, 100, &a, 450))
    );
    // In a later commit too, on both sides.
    meta.commit_content(
        &[],
        &[commit(
            ino,
            vec![extent(1000, 10, &a, 550), extent(890, 10, &a, 440)],
            1010,
        )],
    )
    .await
    .unwrap_err();
    meta.commit_content(
        &[],
        &[commit(
            ino,
            vec![extent(890, 10, &a, 440), extent(1000, 10, &a, 550)],
            1010,
        )],
    )
    .await
    .unwrap();
    assert_eq!(
        all(&meta, ino).await.last(),
        Some(&extent(890, 120, &a, 440))
    );
    assert_eq!(live(&meta, &a).await, 570);
}

#[tokio::test]
async fn inline_bytes_are_cut_like_any_others() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let inline = |offset: u64, bytes: &'static [u8]| Extent {
        offset,
        len: bytes.len() as u64,
        source: ExtentSource::Inline(Bytes::from_static(bytes)),
    };
    meta.commit_content(&[], &[commit(ino, vec![inline(0, b"0123456789")], 10)])
        .await
        .unwrap();
    meta.commit_content(
        &[],
        &[commit(ino, vec![inline(3, b"abc"), inline(8, b"XYZ")], 11)],
    )
    .await
    .unwrap();
    assert_eq!(
        all(&meta, ino).await,
        [
            inline(0, b"012"),
            inline(3, b"abc"),
            inline(6, b"67"),
            inline(8, b"XYZ")
        ]
    );
    meta.truncate(ino, 4, at(40), at(41)).await.unwrap();
    assert_eq!(all(&meta, ino).await, [inline(0, b"012"), inline(3, b"a")]);
    assert_eq!(
        (get(&meta, ino).await.allocated, meta.totals().bytes),
        (4, 4)
    );
}

#[tokio::test]
async fn truncate_cuts_and_grows() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let a = object(&meta, 0, 1000);
    meta.commit_content(
        from_ref(&a),
        &[commit(
            ino,
            vec![extent(0, 400, &a, 0), extent(500, 500, &a, 500)],
            1000,
        )],
    )
    .await
    .unwrap();
    let cut = meta.truncate(ino, 600, at(40), at(41)).await.unwrap();
    assert_eq!(
        (cut.size, cut.allocated, cut.mtime, cut.ctime),
        (600, 500, at(40), at(41))
    );
    assert_eq!(
        all(&meta, ino).await,
        [extent(0, 400, &a, 0), extent(500, 100, &a, 500)]
    );
    assert_eq!(live(&meta, &a).await, 500);
    let grown = meta.truncate(ino, 5000, at(50), at(51)).await.unwrap();
    assert_eq!((grown.size, grown.allocated), (5000, 500));
    meta.truncate(ino, 450, at(50), at(51)).await.unwrap();
    assert_eq!(all(&meta, ino).await, [extent(0, 400, &a, 0)]);
    meta.truncate(ino, 0, at(50), at(51)).await.unwrap();
    assert!(all(&meta, ino).await.is_empty());
    assert_eq!(
        (live(&meta, &a).await, get(&meta, ino).await.allocated),
        (0, 0)
    );
    assert!(matches!(
        meta.truncate(ino, u64::MAX, at(50), at(51)).await,
        Err(MetaError::Limit(_))
    ));
    assert!(matches!(
        meta.truncate(Ino::ROOT, 0, at(50), at(51)).await,
        Err(MetaError::IsADirectory)
    ));
}

#[tokio::test]
async fn holes_keep_the_size() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let a = object(&meta, 0, 1000);
    meta.commit_content(
        from_ref(&a),
        &[commit(ino, vec![extent(0, 1000, &a, 0)], 1000)],
    )
    .await
    .unwrap();
    meta.punch_hole(ino, 100..300, at(40), at(41))
        .await
        .unwrap();
    meta.punch_hole(ino, 900..5000, at(40), at(41))
        .await
        .unwrap();
    meta.punch_hole(ino, 2000..5000, at(50), at(51))
        .await
        .unwrap();
    assert_eq!(
        all(&meta, ino).await,
        [extent(0, 100, &a, 0), extent(300, 600, &a, 300)]
    );
    let inode = get(&meta, ino).await;
    assert_eq!(
        (inode.size, inode.allocated, inode.mtime, inode.ctime),
        (1000, 700, at(50), at(51))
    );
    assert_eq!(live(&meta, &a).await, 700);
}

#[tokio::test]
async fn a_commit_to_a_file_that_is_gone_leaves_its_bytes_dead() {
    let (_store, meta) = volume().await;
    let (gone, stays) = (
        file(&meta, Ino::ROOT, "gone").await.ino,
        file(&meta, Ino::ROOT, "stays").await.ino,
    );
    meta.unlink(Ino::ROOT, b"gone", at(20)).await.unwrap();
    meta.reap(gone).await.unwrap();
    let (pack, alone) = (object(&meta, 0, 200), object(&meta, 1, 50));
    let commits = [
        commit(gone, vec![extent(0, 100, &pack, 0)], 100),
        commit(stays, vec![extent(0, 100, &pack, 100)], 100),
        commit(gone, vec![extent(0, 50, &alone, 0)], 50),
    ];
    meta.commit_content(&[pack.clone(), alone.clone()], &commits)
        .await
        .unwrap();
    assert_eq!(
        (live(&meta, &pack).await, live(&meta, &alone).await),
        (100, 0)
    );
    meta.flush().await.unwrap();
    let garbage = meta.garbage(i64::MAX, 10).await.unwrap();
    assert_eq!(
        garbage
            .iter()
            .map(|garbage| garbage.object)
            .collect::<Vec<_>>(),
        [alone.object]
    );
}

#[tokio::test]
async fn what_a_commit_names_must_be_recorded_and_alive() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let (a, unknown) = (object(&meta, 0, 10), object(&meta, 9, 10));
    let whole = |object: &NewObject| [commit(ino, vec![extent(0, 10, object, 0)], 10)];
    assert!(matches!(
        meta.commit_content(&[], &whole(&unknown)).await,
        Err(MetaError::Store(_))
    ));
    meta.commit_content(from_ref(&a), &whole(&a)).await.unwrap();
    meta.truncate(ino, 0, at(40), at(40)).await.unwrap();
    assert!(matches!(
        meta.commit_content(from_ref(&a), &whole(&a)).await,
        Err(MetaError::Store(_))
    ));
    assert!(all(&meta, ino).await.is_empty());
    let beyond = [commit(ino, vec![extent(0, 10, &a, 0)], 9)];
    assert!(matches!(
        meta.commit_content(&[], &beyond).await,
        Err(MetaError::Limit(_))
    ));
    let mut foreign = object(&meta, 0, 10);
    foreign.object.session.0[0] ^= 1;
    assert!(matches!(
        meta.commit_content(from_ref(&foreign), &[]).await,
        Err(MetaError::Store(_))
    ));
    assert!(!meta.knows_object(foreign.object).await.unwrap());
    assert_eq!(meta.object(foreign.object).await.unwrap(), None);
}

/// Twenty thousand extents of 4 KiB with a hole after each, each with its own part of one object.
async fn shredded(meta: &Meta, ino: Ino, number: u64) -> NewObject {
    const COUNT: u64 = 20_000;
    let shreds = object(meta, number, COUNT * 4096);
    for chunk in (0..COUNT).collect::<Vec<_>>().chunks(4096) {
        let parts: Vec<_> = chunk
            .iter()
            .map(|part| extent(part * 8192, 4096, &shreds, (COUNT - 1 - part) * 4096))
            .collect();
        let size = (chunk.last().unwrap() + 1) * 8192;
        meta.commit_content(from_ref(&shreds), &[commit(ino, parts, size)])
            .await
            .unwrap();
    }
    shreds
}

#[tokio::test]
async fn very_large_changes_come_out_exact() {
    let (store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let shreds = shredded(&meta, ino, 0).await;
    let size = get(&meta, ino).await.size;
    assert_eq!(
        (
            size,
            get(&meta, ino).await.allocated,
            live(&meta, &shreds).await
        ),
        (20_000 * 8192, size / 2, size / 2)
    );

    meta.punch_hole(ino, 1000..40_001_000, at(40), at(41))
        .await
        .unwrap();
    let expected: u64 = all(&meta, ino).await.iter().map(|extent| extent.len).sum();
    assert_eq!(
        (get(&meta, ino).await.allocated, live(&meta, &shreds).await),
        (expected, expected)
    );
    let first = &all(&meta, ino).await[..2];
    assert_eq!((first[0].offset, first[0].len), (0, 1000));
    assert_eq!(first[1].offset, 40_001_000u64.next_multiple_of(8192));

    // One extent over nearly all of it.
    let whole = object(&meta, 1, size);
    meta.commit_content(
        from_ref(&whole),
        &[commit(
            ino,
            vec![extent(2000, size - 100_000, &whole, 0)],
            size,
        )],
    )
    .await
    .unwrap();
    let now = all(&meta, ino).await;
    assert_eq!((now[0].offset, now[0].len), (0, 1000));
    assert_eq!(now[1], extent(2000, size - 100_000, &whole, 0));
    let rest: u64 = now.iter().map(|extent| extent.len).sum::<u64>() - (size - 100_000);
    assert_eq!(
        (live(&meta, &whole).await, live(&meta, &shreds).await),
        (size - 100_000, rest)
    );
    assert_eq!(get(&meta, ino).await.allocated, size - 100_000 + rest);

    // Shred it again, cut most of it, remove it.
    let again = shredded(&meta, ino, 2).await;
    meta.truncate(ino, 5 * 8192 + 1, at(50), at(51))
        .await
        .unwrap();
    assert_eq!(live(&meta, &again).await, 5 * 4096 + 1);
    shredded(&meta, ino, 3).await;
    meta.unlink(Ino::ROOT, b"file", at(60)).await.unwrap();
    meta.reap(ino).await.unwrap();
    assert_eq!((meta.totals().bytes, meta.totals().inodes), (0, 1));
    meta.flush().await.unwrap();
    let meta = open(&store).await;
    assert_eq!((meta.totals().bytes, meta.totals().inodes), (0, 1));
    assert!(all(&meta, ino).await.is_empty());
    assert_eq!(meta.garbage(i64::MAX, 10).await.unwrap().len(), 4);
}
