//! Single cases of replaced names, each told in full.

use std::time::Duration;

use strongroom::meta::{
    ContentCommit, FileKind, Ino, Meta, MetaConfig, MetaError, RenameMode, RenameSource,
};
use tokio::time::sleep;

use super::*;

use crate::volume::{CONFIG, at, extent, file, get, new, object, open};

/// A file of `size` bytes, committed.
async fn written(run: &mut Run, name: &'static str, size: u64) -> Ino {
    let ino = file(&run.meta, Ino::ROOT, name).await.ino;
    run.model.files.insert(ino, File::default());
    run.commit(ino, size).await;
    ino
}

async fn replace(meta: &Meta, ino: Ino, from: &str, to: &str, change: u64) {
    let source = RenameSource {
        ino,
        uncommitted: Some(change),
    };
    let (from, to) = ((Ino::ROOT, from.as_bytes()), (Ino::ROOT, to.as_bytes()));
    meta.rename_source(source, from, to, RenameMode::Replace, at(50))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_of_many_batches_replace_the_old_ones_only_with_the_last() {
    const EXTENTS: u64 = 40_000;
    let mut run = Run::start().await;
    let old = written(&mut run, "name", 5).await;
    let ino = file(&run.meta, Ino::ROOT, "new").await.ino;
    replace(&run.meta, ino, "new", "name", 1).await;
    run.meta.flush().await.unwrap();
    let whole = object(&run.meta, 9, EXTENTS);
    let commit = ContentCommit {
        cut: None,
        ino,
        extents: (0..EXTENTS)
            .map(|at| extent(at * 2, 1, &whole, at))
            .collect(),
        size: EXTENTS * 2,
        mtime: None,
        ctime: None,
        covers: 1,
    };
    let meta = run.meta.clone();
    let committing = tokio::spawn(async move { meta.commit_content(&[whole], &[commit]).await });
    let mut before = 0;
    loop {
        let done = committing.is_finished();
        run.meta.flush().await.unwrap();
        let crashed = open(&run.store.fork().await).await;
        let found = crashed.lookup(Ino::ROOT, b"name").await.unwrap().unwrap();
        let size = get(&crashed, found.ino).await.size;
        if found.ino == old {
            assert_eq!(size, 5);
            before += 1;
        } else {
            assert_eq!((found.ino, size), (ino, EXTENTS * 2));
        }
        if done {
            assert_eq!(found.ino, ino);
            break;
        }
    }
    committing.await.unwrap().unwrap();
    assert!(before > 0, "never looked before the end");
}

#[tokio::test]
async fn a_file_that_goes_on_being_written_keeps_its_name_once_what_it_had_is_committed() {
    let mut run = Run::start().await;
    let old = written(&mut run, "name", 5).await;
    let ino = written(&mut run, "new", 2).await;
    replace(&run.meta, ino, "new", "name", 7).await;
    run.meta.reap(old).await.unwrap();
    assert_eq!(run.meta.uncommitted_replacements(), [ino]);
    // Less than what was written before the rename, then more than that.
    run.commit(ino, 6).await;
    assert_eq!(run.meta.uncommitted_replacements(), [ino]);
    assert!(run.meta.inode(old).await.unwrap().is_some());
    run.commit(ino, 9).await;
    assert_eq!(run.meta.uncommitted_replacements(), []);
    while run.meta.inode(old).await.unwrap().is_some() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_was_replaced_and_is_still_open_lives_until_it_is_closed() {
    let mut run = Run::start().await;
    let old = written(&mut run, "name", 5).await;
    let ino = written(&mut run, "new", 2).await;
    replace(&run.meta, ino, "new", "name", 3).await;
    run.commit(ino, 3).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(get(&run.meta, old).await.nlink, 0);
    run.meta.reap(old).await.unwrap();
    assert!(run.meta.inode(old).await.unwrap().is_none());
}

#[tokio::test]
async fn names_with_a_fallback_are_bounded_for_each_file() {
    let mut run = Run::start().await;
    let ino = written(&mut run, "new", 1).await;
    let mut refused = 0;
    for number in 0..100 {
        let (link, name) = (format!("link{number}"), format!("name{number}"));
        run.meta
            .create(Ino::ROOT, name.as_bytes(), new(FileKind::File, 10))
            .await
            .unwrap();
        run.meta
            .link(ino, Ino::ROOT, link.as_bytes(), at(20))
            .await
            .unwrap();
        let source = RenameSource {
            ino,
            uncommitted: Some(2),
        };
        let (from, to) = ((Ino::ROOT, link.as_bytes()), (Ino::ROOT, name.as_bytes()));
        let renamed = run
            .meta
            .rename_source(source, from, to, RenameMode::Replace, at(30))
            .await;
        match renamed {
            Ok(removal) => assert!(removal.is_some()),
            Err(MetaError::Uncommitted(of)) => {
                assert_eq!(of, ino);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 36);
    // All of them are final with one commit.
    run.commit(ino, 2).await;
    assert_eq!(run.meta.uncommitted_replacements(), []);
    run.meta.flush().await.unwrap();
    let crashed = open(&run.store.fork().await).await;
    assert_eq!(get(&crashed, ino).await.nlink, 101);
}

#[tokio::test]
async fn a_source_that_somebody_else_renamed_meanwhile_is_looked_up_again() {
    let mut run = Run::start().await;
    written(&mut run, "name", 5).await;
    let ino = written(&mut run, "new", 2).await;
    let source = RenameSource {
        ino: Ino(ino.0 + 1000),
        uncommitted: None,
    };
    let renamed = run
        .meta
        .rename_source(
            source,
            (Ino::ROOT, b"new"),
            (Ino::ROOT, b"name"),
            RenameMode::Replace,
            at(50),
        )
        .await;
    assert!(matches!(renamed, Err(MetaError::NameChanged)));
}

/// A program that knows only the first version of the schema would delete what a name falls back
/// to.
#[tokio::test]
async fn a_volume_of_the_first_schema_is_read_and_raised_and_one_of_a_later_is_refused() {
    const SCHEMA: &[u8] = &[1];
    let mut run = Run::start().await;
    written(&mut run, "name", 5).await;
    run.meta.close().await.unwrap();
    for (version, is_read) in [(1, true), (2, true), (3, false)] {
        let db = slatedb::Db::open("", run.store.clone()).await.unwrap();
        db.put(SCHEMA, [version]).await.unwrap();
        db.close().await.unwrap();
        for read_only in [true, false] {
            let config = MetaConfig {
                read_only,
                ..CONFIG
            };
            let opened = Meta::open_on(run.store.clone(), config).await;
            assert_eq!(opened.is_ok(), is_read, "version {version}");
            if let Ok(meta) = opened {
                assert!(meta.lookup(Ino::ROOT, b"name").await.unwrap().is_some());
                meta.close().await.unwrap();
            }
        }
        let db = slatedb::Db::open("", run.store.clone()).await.unwrap();
        let raised = db.get(SCHEMA).await.unwrap().unwrap();
        assert_eq!(raised[..], [version.max(2)]);
        db.close().await.unwrap();
    }
}
