//! Rename, replace, exchange.

use strongroom::meta::{FileKind, Ino, MetaError, RenameMode};

use crate::volume::{at, directory, file, get, names, open, volume};

const ROOT: Ino = Ino::ROOT;

#[tokio::test]
async fn a_directory_moves_with_everything_below_it_in_one_batch() {
    let (store, meta) = volume().await;
    let (a, b) = (
        directory(&meta, ROOT, "a").await.ino,
        directory(&meta, ROOT, "b").await.ino,
    );
    let moved = directory(&meta, a, "moved").await.ino;
    for number in 0..50 {
        file(&meta, moved, &format!("f{number}")).await;
    }
    meta.flush().await.unwrap();
    let before = meta.generation();
    assert!(
        meta.rename(a, b"moved", b, b"here", RenameMode::Replace, at(50))
            .await
            .unwrap()
            .is_none()
    );
    meta.flush().await.unwrap();
    assert_eq!(meta.generation(), before + 1);
    let meta = open(&store).await;
    assert_eq!(meta.lookup(a, b"moved").await.unwrap(), None);
    assert_eq!(meta.lookup(b, b"here").await.unwrap().unwrap().ino, moved);
    assert_eq!(names(&meta, moved).await.len(), 50);
    let (a, b, moved) = (
        get(&meta, a).await,
        get(&meta, b).await,
        get(&meta, moved).await,
    );
    assert_eq!((a.nlink, a.entries, a.mtime), (2, 0, at(50)));
    assert_eq!((b.nlink, b.entries, b.ctime), (3, 1, at(50)));
    assert_eq!(
        (moved.parent, moved.ctime, moved.mtime),
        (b.ino, at(50), at(10))
    );
}

#[tokio::test]
async fn a_replaced_target_becomes_an_orphan_and_its_name_keeps_its_place() {
    let (_store, meta) = volume().await;
    let target = file(&meta, ROOT, "target").await;
    let new = file(&meta, ROOT, "new").await;
    let cookie = meta.lookup(ROOT, b"target").await.unwrap().unwrap().cookie;
    let removal = meta
        .rename(ROOT, b"new", ROOT, b"target", RenameMode::Replace, at(20))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((removal.ino, removal.nlink), (target.ino, 0));
    let now = meta.lookup(ROOT, b"target").await.unwrap().unwrap();
    assert_eq!((now.ino, now.cookie), (new.ino, cookie));
    assert_eq!(names(&meta, ROOT).await, ["target"]);
    assert_eq!(get(&meta, ROOT).await.entries, 1);
    // A name that was renamed and nothing replaced keeps its place too.
    meta.rename(
        ROOT,
        b"target",
        ROOT,
        b"other",
        RenameMode::NoReplace,
        at(30),
    )
    .await
    .unwrap();
    assert_eq!(
        meta.lookup(ROOT, b"other").await.unwrap().unwrap().cookie,
        cookie
    );
    assert_eq!(names(&meta, ROOT).await, ["other"]);
}

#[tokio::test]
async fn kinds_and_emptiness_decide_what_may_be_replaced() {
    let (_store, meta) = volume().await;
    let (plain, dir, full) = (
        file(&meta, ROOT, "plain").await,
        directory(&meta, ROOT, "dir").await,
        directory(&meta, ROOT, "full").await,
    );
    file(&meta, full.ino, "x").await;
    let rename = |from: &'static [u8], to: &'static [u8], mode| {
        meta.rename(ROOT, from, ROOT, to, mode, at(20))
    };
    assert!(matches!(
        rename(b"dir", b"plain", RenameMode::Replace).await,
        Err(MetaError::NotADirectory)
    ));
    assert!(matches!(
        rename(b"plain", b"dir", RenameMode::Replace).await,
        Err(MetaError::IsADirectory)
    ));
    assert!(matches!(
        rename(b"dir", b"full", RenameMode::Replace).await,
        Err(MetaError::NotEmpty)
    ));
    assert!(matches!(
        rename(b"plain", b"dir", RenameMode::NoReplace).await,
        Err(MetaError::Exists)
    ));
    assert!(matches!(
        rename(b"plain", b"none", RenameMode::Exchange).await,
        Err(MetaError::NotFound)
    ));
    assert!(matches!(
        rename(b"none", b"plain", RenameMode::Replace).await,
        Err(MetaError::NotFound)
    ));
    assert!(matches!(
        rename(b"plain", b"..", RenameMode::Replace).await,
        Err(MetaError::Limit(_))
    ));
    assert_eq!(names(&meta, ROOT).await, ["plain", "dir", "full"]);

    let removal = rename(b"full", b"dir", RenameMode::Replace)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((removal.ino, removal.nlink), (dir.ino, 0));
    let root = get(&meta, ROOT).await;
    assert_eq!((root.nlink, root.entries), (3, 2));
    assert_eq!(
        meta.lookup(ROOT, b"dir").await.unwrap().unwrap().ino,
        full.ino
    );
    assert_eq!(
        meta.lookup(ROOT, b"plain").await.unwrap().unwrap().ino,
        plain.ino
    );
}

#[tokio::test]
async fn two_names_of_one_file_stay_both() {
    let (_store, meta) = volume().await;
    let one = file(&meta, ROOT, "one").await;
    meta.link(one.ino, ROOT, b"two", at(20)).await.unwrap();
    assert!(
        meta.rename(ROOT, b"one", ROOT, b"two", RenameMode::Replace, at(30))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        meta.rename(ROOT, b"one", ROOT, b"one", RenameMode::Replace, at(30))
            .await
            .unwrap()
            .is_none()
    );
    assert!(matches!(
        meta.rename(ROOT, b"one", ROOT, b"two", RenameMode::NoReplace, at(30))
            .await,
        Err(MetaError::Exists)
    ));
    assert_eq!(names(&meta, ROOT).await, ["one", "two"]);
    assert_eq!(
        (
            get(&meta, one.ino).await.nlink,
            get(&meta, one.ino).await.ctime
        ),
        (2, at(20))
    );
}

#[tokio::test]
async fn exchange_swaps_what_two_names_point_to() {
    let (_store, meta) = volume().await;
    let (a, b) = (
        directory(&meta, ROOT, "a").await.ino,
        directory(&meta, ROOT, "b").await.ino,
    );
    let (dir, plain) = (
        directory(&meta, a, "x").await.ino,
        file(&meta, b, "y").await.ino,
    );
    assert!(
        meta.rename(a, b"x", b, b"y", RenameMode::Exchange, at(20))
            .await
            .unwrap()
            .is_none()
    );
    let (x, y) = (
        meta.lookup(a, b"x").await.unwrap().unwrap(),
        meta.lookup(b, b"y").await.unwrap().unwrap(),
    );
    assert_eq!(
        (x.ino, x.kind, y.ino, y.kind),
        (plain, FileKind::File, dir, FileKind::Directory)
    );
    assert_eq!(get(&meta, dir).await.parent, b);
    assert_eq!(
        (get(&meta, a).await.nlink, get(&meta, b).await.nlink),
        (2, 3)
    );
    assert_eq!(
        (get(&meta, a).await.entries, get(&meta, b).await.entries),
        (1, 1)
    );
    assert_eq!(names(&meta, a).await, ["x"]);
    assert_eq!(names(&meta, b).await, ["y"]);
}

#[tokio::test]
async fn a_directory_never_moves_below_itself() {
    let (_store, meta) = volume().await;
    let a = directory(&meta, ROOT, "a").await.ino;
    let b = directory(&meta, a, "b").await.ino;
    let c = directory(&meta, b, "c").await.ino;
    for (dir, mode) in [
        (a, RenameMode::Replace),
        (b, RenameMode::Replace),
        (c, RenameMode::NoReplace),
    ] {
        assert!(matches!(
            meta.rename(ROOT, b"a", dir, b"new", mode, at(20)).await,
            Err(MetaError::Loop)
        ));
    }
    assert!(matches!(
        meta.rename(ROOT, b"a", b, b"c", RenameMode::Exchange, at(20))
            .await,
        Err(MetaError::Loop)
    ));
    assert!(matches!(
        meta.rename(b, b"c", ROOT, b"a", RenameMode::Exchange, at(20))
            .await,
        Err(MetaError::Loop)
    ));
    assert!(matches!(
        meta.rename(b, b"c", ROOT, b"a", RenameMode::Replace, at(20))
            .await,
        Err(MetaError::NotEmpty)
    ));
    meta.rename(b, b"c", ROOT, b"c", RenameMode::Replace, at(20))
        .await
        .unwrap();
    meta.rename(ROOT, b"a", c, b"a", RenameMode::Replace, at(20))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_moves_never_make_a_loop() {
    let (_store, meta) = volume().await;
    for round in 0..30 {
        let a = directory(&meta, ROOT, &format!("a{round}")).await.ino;
        let b = directory(&meta, ROOT, &format!("b{round}")).await.ino;
        let into = |name: String, dir: Ino| {
            let meta = meta.clone();
            tokio::spawn(async move {
                meta.rename(
                    ROOT,
                    name.as_bytes(),
                    dir,
                    b"in",
                    RenameMode::Replace,
                    at(20),
                )
                .await
            })
        };
        let (one, two) = (into(format!("a{round}"), b), into(format!("b{round}"), a));
        let moved = [one.await.unwrap().is_ok(), two.await.unwrap().is_ok()];
        assert_eq!(moved.iter().filter(|moved| **moved).count(), 1);
    }
    assert_eq!(get(&meta, ROOT).await.entries, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_in_all_directions_at_once_come_to_an_end() {
    let (_store, meta) = volume().await;
    let dirs = [
        directory(&meta, ROOT, "a").await.ino,
        directory(&meta, ROOT, "b").await.ino,
        directory(&meta, ROOT, "c").await.ino,
    ];
    for number in 0..30 {
        file(&meta, dirs[number % 3], &format!("f{number}")).await;
    }
    let tasks: Vec<_> = (0..6usize)
        .map(|task| {
            let meta = meta.clone();
            tokio::spawn(async move {
                for step in 0..100usize {
                    let (from, to) = (dirs[(task + step) % 3], dirs[(task + 2 * step + 1) % 3]);
                    let (name, new_name) = (
                        format!("f{}", (step * 7) % 30),
                        format!("f{}", (step * 11 + task) % 30),
                    );
                    match meta
                        .rename(
                            from,
                            name.as_bytes(),
                            to,
                            new_name.as_bytes(),
                            RenameMode::Replace,
                            at(30),
                        )
                        .await
                    {
                        Ok(_) | Err(MetaError::NotFound) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(std::time::Duration::from_secs(30), task)
            .await
            .expect("no deadlock")
            .unwrap();
    }
    for dir in dirs {
        assert_eq!(
            get(&meta, dir).await.entries,
            names(&meta, dir).await.len() as u64
        );
    }
}
