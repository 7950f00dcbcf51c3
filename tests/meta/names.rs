//! Creating, looking up, listing, linking, removing.

use std::collections::BTreeSet;

use bytes::Bytes;
use strongroom::meta::{FileKind, Ino, MetaError, NewInode, RenameMode, Timestamp};

use crate::volume::{at, directory, file, get, names, new, open, volume};

#[tokio::test]
async fn a_new_volume_has_a_root_of_its_owner() {
    let (_store, meta) = volume().await;
    let root = get(&meta, Ino::ROOT).await;
    assert_eq!(
        (root.kind, root.mode, root.uid, root.gid),
        (FileKind::Directory, 0o755, 1000, 1000)
    );
    assert_eq!((root.nlink, root.parent, root.entries), (2, Ino::ROOT, 0));
    assert_eq!(meta.totals().inodes, 1);
    assert!(meta.read_dir(Ino::ROOT, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_created_is_found_and_listed_in_order_of_creation() {
    let (store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await;
    for name in ["zebra", "ant", "mouse"] {
        file(&meta, dir.ino, name).await;
    }
    let found = meta.lookup(dir.ino, b"ant").await.unwrap().unwrap();
    assert_eq!((found.kind, found.cookie), (FileKind::File, found.ino.0));
    assert_eq!(meta.lookup(dir.ino, b"an").await.unwrap(), None);
    assert_eq!(names(&meta, dir.ino).await, ["zebra", "ant", "mouse"]);
    meta.close().await.unwrap();

    let meta = open(&store).await;
    assert_eq!(names(&meta, dir.ino).await, ["zebra", "ant", "mouse"]);
    assert_eq!(meta.lookup(dir.ino, b"ant").await.unwrap(), Some(found));
    let many = meta
        .inodes(&[found.ino, Ino(9999), dir.ino, Ino::ROOT])
        .await
        .unwrap();
    assert_eq!(
        many.iter()
            .map(|inode| inode.as_ref().map(|inode| inode.ino))
            .collect::<Vec<_>>(),
        [Some(found.ino), None, Some(dir.ino), Some(Ino::ROOT)]
    );
}

#[tokio::test]
async fn every_attribute_survives_a_reopen() {
    let (store, meta) = volume().await;
    let kinds = [
        FileKind::File,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ];
    let mut made = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let new = NewInode {
            kind,
            mode: 0o7531,
            uid: u32::MAX - 1,
            gid: 5,
            rdev: 0xfff0_1234,
            target: Bytes::from_static(b"somewhere/\xff else"),
            now: Timestamp {
                seconds: -62_135_596_800,
                nanos: 999_999_999,
            },
            xattrs: vec![(Bytes::from_static(b"user.a"), Bytes::from_static(b"1"))],
        };
        let name = [b'n', 0xff, b'\n', number as u8 + 1];
        let inode = meta.create(Ino::ROOT, &name, new).await.unwrap();
        let changed = meta
            .update_inode(inode.ino, |inode| {
                inode.atime = Timestamp {
                    seconds: i64::MAX,
                    nanos: 1,
                };
                inode.ctime = Timestamp {
                    seconds: i64::MIN,
                    nanos: 0,
                };
                Ok(())
            })
            .await
            .unwrap();
        made.push((name, changed));
    }
    meta.close().await.unwrap();
    let meta = open(&store).await;
    for (name, inode) in made {
        let dentry = meta.lookup(Ino::ROOT, &name).await.unwrap().unwrap();
        assert_eq!((dentry.ino, dentry.kind), (inode.ino, inode.kind));
        assert_eq!(get(&meta, inode.ino).await, inode);
        assert_eq!(
            meta.xattr(inode.ino, b"user.a").await.unwrap().unwrap(),
            "1"
        );
    }
}

#[tokio::test]
async fn parents_keep_count_of_names_links_and_times() {
    let (_store, meta) = volume().await;
    let dir = meta
        .create(Ino::ROOT, b"dir", new(FileKind::Directory, 20))
        .await
        .unwrap();
    let root = get(&meta, Ino::ROOT).await;
    assert_eq!(
        (root.nlink, root.entries, root.mtime, root.ctime),
        (3, 1, at(20), at(20))
    );
    meta.create(dir.ino, b"file", new(FileKind::File, 30))
        .await
        .unwrap();
    assert_eq!(get(&meta, Ino::ROOT).await.mtime, at(20));
    let after = get(&meta, dir.ino).await;
    assert_eq!(
        (after.nlink, after.entries, after.mtime, after.parent),
        (2, 1, at(30), Ino::ROOT)
    );
    assert!(matches!(
        meta.remove_dir(Ino::ROOT, b"dir", at(40)).await,
        Err(MetaError::NotEmpty)
    ));
    meta.unlink(dir.ino, b"file", at(50)).await.unwrap();
    let removal = meta.remove_dir(Ino::ROOT, b"dir", at(60)).await.unwrap();
    assert_eq!((removal.ino, removal.nlink), (dir.ino, 0));
    let root = get(&meta, Ino::ROOT).await;
    assert_eq!((root.nlink, root.entries, root.mtime), (2, 0, at(60)));
    assert!(matches!(
        meta.create(dir.ino, b"late", new(FileKind::File, 70)).await,
        Err(MetaError::NotFound)
    ));
}

#[tokio::test]
async fn wrong_kinds_and_taken_names_are_refused() {
    let (_store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await;
    let plain = file(&meta, Ino::ROOT, "plain").await;
    assert!(matches!(
        meta.create(Ino::ROOT, b"dir", new(FileKind::File, 1)).await,
        Err(MetaError::Exists)
    ));
    assert!(matches!(
        meta.create(plain.ino, b"x", new(FileKind::File, 1)).await,
        Err(MetaError::NotADirectory)
    ));
    assert!(matches!(
        meta.create(Ino(4242), b"x", new(FileKind::File, 1)).await,
        Err(MetaError::NotFound)
    ));
    assert!(matches!(
        meta.unlink(Ino::ROOT, b"dir", at(1)).await,
        Err(MetaError::IsADirectory)
    ));
    assert!(matches!(
        meta.remove_dir(Ino::ROOT, b"plain", at(1)).await,
        Err(MetaError::NotADirectory)
    ));
    assert!(matches!(
        meta.unlink(Ino::ROOT, b"none", at(1)).await,
        Err(MetaError::NotFound)
    ));
    assert!(matches!(
        meta.link(dir.ino, Ino::ROOT, b"x", at(1)).await,
        Err(MetaError::IsADirectory)
    ));
    assert!(matches!(
        meta.link(plain.ino, Ino::ROOT, b"dir", at(1)).await,
        Err(MetaError::Exists)
    ));
    assert!(matches!(
        meta.read_dir(plain.ino, 0, 1).await,
        Err(MetaError::NotADirectory)
    ));
    assert!(matches!(
        meta.update_inode(Ino(4242), |_| Ok(())).await,
        Err(MetaError::NotFound)
    ));
    for name in [b"".as_slice(), b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        assert!(matches!(
            meta.create(Ino::ROOT, name, new(FileKind::File, 1)).await,
            Err(MetaError::Limit(_))
        ));
    }
    meta.create(Ino::ROOT, &[0xfe; 255], new(FileKind::File, 1))
        .await
        .unwrap();
    let full = meta.update_inode(plain.ino, |inode| {
        inode.nlink = u32::MAX - 1;
        Ok(())
    });
    full.await.unwrap();
    assert!(
        matches!(meta.link(plain.ino, Ino::ROOT, b"x", at(1)).await, Err(MetaError::TooManyLinks(ino)) if ino == plain.ino)
    );
}

#[tokio::test]
async fn links_are_counted_and_the_last_name_leaves_an_orphan() {
    let (store, meta) = volume().await;
    let one = file(&meta, Ino::ROOT, "one").await;
    let two = meta.link(one.ino, Ino::ROOT, b"two", at(20)).await.unwrap();
    assert_eq!((two.nlink, two.ctime, two.mtime), (2, at(20), at(10)));
    assert_eq!(
        meta.unlink(Ino::ROOT, b"one", at(30)).await.unwrap().nlink,
        1
    );
    meta.reap(one.ino).await.unwrap();
    assert_eq!(
        meta.lookup(Ino::ROOT, b"two").await.unwrap().unwrap().ino,
        one.ino
    );
    let last = meta.unlink(Ino::ROOT, b"two", at(40)).await.unwrap();
    assert_eq!((last.ino, last.nlink), (one.ino, 0));
    assert_eq!(get(&meta, one.ino).await.ctime, at(40));
    assert!(
        meta.orphans(10).await.unwrap().is_empty(),
        "this mount's own orphans are its own to reap"
    );

    // An orphan gets a name again; another stays one.
    let unnamed = meta.create_orphan(new(FileKind::File, 50)).await.unwrap();
    assert_eq!(
        meta.link(unnamed.ino, Ino::ROOT, b"named", at(60))
            .await
            .unwrap()
            .nlink,
        1
    );
    meta.flush().await.unwrap();
    let meta = open(&store).await;
    assert_eq!(meta.orphans(10).await.unwrap(), [one.ino]);
    assert_eq!(meta.totals().inodes, 3);
    meta.reap(one.ino).await.unwrap();
    meta.reap(unnamed.ino).await.unwrap();
    assert!(meta.orphans(10).await.unwrap().is_empty());
    assert_eq!(meta.inode(one.ino).await.unwrap(), None);
    assert_eq!(get(&meta, unnamed.ino).await.nlink, 1);
    assert_eq!(meta.totals().inodes, 2);
}

#[tokio::test]
async fn an_update_that_fails_changes_nothing_and_identity_is_not_its_to_change() {
    let (_store, meta) = volume().await;
    let before = file(&meta, Ino::ROOT, "file").await;
    let failed = meta.update_inode(before.ino, |inode| {
        inode.mode = 0;
        Err(MetaError::Limit("no"))
    });
    assert!(matches!(failed.await, Err(MetaError::Limit("no"))));
    assert_eq!(get(&meta, before.ino).await, before);
    let changed = meta.update_inode(before.ino, |inode| {
        (inode.ino, inode.kind, inode.allocated, inode.mode) = (Ino(7), FileKind::Fifo, 99, 0o600);
        Ok(())
    });
    let changed = changed.await.unwrap();
    assert_eq!(
        (changed.ino, changed.kind, changed.allocated, changed.mode),
        (before.ino, FileKind::File, 0, 0o600)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_creates_of_one_name_one_wins() {
    let (_store, meta) = volume().await;
    for round in 0..20 {
        let name = format!("name{round}");
        let racers = (0..8).map(|_| {
            let (meta, name) = (meta.clone(), name.clone());
            tokio::spawn(async move {
                meta.create(Ino::ROOT, name.as_bytes(), new(FileKind::File, 1))
                    .await
            })
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.unwrap() {
                Ok(inode) => winners.push(inode.ino),
                Err(MetaError::Exists) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(
            meta.lookup(Ino::ROOT, name.as_bytes())
                .await
                .unwrap()
                .unwrap()
                .ino,
            winners[0]
        );
    }
    assert_eq!(meta.totals().inodes, 21);
    assert_eq!(get(&meta, Ino::ROOT).await.entries, 20);
}

#[tokio::test]
async fn an_entry_that_stays_is_listed_once_while_others_come_and_go() {
    let (_store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
    for number in 0..40 {
        file(&meta, dir, &format!("stay{number}")).await;
        file(&meta, dir, &format!("go{number}")).await;
    }
    let mut listed = Vec::new();
    let mut cookie = 0;
    for round in 0.. {
        let page = meta.read_dir(dir, cookie, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.is_sorted_by_key(|entry| entry.cookie) && page[0].cookie > cookie.max(2));
        cookie = last.cookie;
        listed.extend(page.into_iter().map(|entry| entry.name));
        if round < 10 {
            meta.unlink(dir, format!("go{}", 2 * round).as_bytes(), at(20))
                .await
                .unwrap();
            meta.unlink(dir, format!("go{}", 39 - 2 * round).as_bytes(), at(20))
                .await
                .unwrap();
            file(&meta, dir, &format!("new{round}")).await;
            let stay = meta
                .lookup(dir, format!("stay{round}").as_bytes())
                .await
                .unwrap()
                .unwrap();
            meta.link(stay.ino, dir, format!("link{round}").as_bytes(), at(20))
                .await
                .unwrap();
        }
    }
    let distinct: BTreeSet<_> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len());
    assert!((0..40).all(|number| listed.contains(&Bytes::from(format!("stay{number}")))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_names_and_counts_in_step() {
    let (store, meta) = volume().await;
    for number in 0..200u32 {
        let create = {
            let meta = meta.clone();
            tokio::spawn(async move {
                meta.create(
                    Ino::ROOT,
                    format!("n{number}").as_bytes(),
                    new(FileKind::File, 1),
                )
                .await
            })
        };
        for _ in 0..number % 7 {
            tokio::task::yield_now().await;
        }
        create.abort();
        let _aborted = create.await;
    }
    // The work that goes on behind an aborted caller holds its locks; a last change waits for it.
    file(&meta, Ino::ROOT, "last").await;
    let listed = names(&meta, Ino::ROOT).await;
    for name in &listed {
        assert!(
            meta.lookup(Ino::ROOT, name.as_bytes())
                .await
                .unwrap()
                .is_some()
        );
    }
    let count = listed.len() as u64;
    assert_eq!(get(&meta, Ino::ROOT).await.entries, count);
    assert_eq!(meta.totals().inodes, count + 1);
    meta.close().await.unwrap();
    let meta = open(&store).await;
    assert_eq!(names(&meta, Ino::ROOT).await, listed);
    assert_eq!(
        (get(&meta, Ino::ROOT).await.entries, meta.totals().inodes),
        (count, count + 1)
    );
}

#[tokio::test]
async fn names_that_are_looked_up_in_order_are_those_that_are_there_whatever_changes_meanwhile() {
    const COUNT: usize = 1000;
    let (store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
    let name = |number: usize| format!("f{number:04}");
    let mut inos = Vec::new();
    for number in 0..COUNT {
        inos.push(Some(file(&meta, dir, &name(number)).await.ino));
    }
    meta.close().await.unwrap();
    let meta = open(&store).await;
    // Lookups are read along in the background: they take turns with the changes in many ways.
    store.set_latency(std::time::Duration::from_micros(300));
    for number in 0..COUNT {
        // Names ahead of the listing are removed, made anew, or renamed.
        let (one, other) = (number + 1 + number % 90, number + 2 + number % 70);
        if one.max(other) < COUNT {
            match number % 5 {
                0 if inos[one].is_some() => {
                    let gone = meta.unlink(dir, name(one).as_bytes(), at(50)).await;
                    assert_eq!(Some(gone.unwrap().ino), inos[one].take());
                }
                1 if inos[one].is_none() => {
                    inos[one] = Some(file(&meta, dir, &name(one)).await.ino);
                }
                2 if inos[one].is_some() && inos[other].is_none() => {
                    let (from, to) = (name(one), name(other));
                    let (from, to) = (from.as_bytes(), to.as_bytes());
                    let renamed = meta.rename(dir, from, dir, to, RenameMode::Replace, at(60));
                    renamed.await.unwrap();
                    inos[other] = inos[one].take();
                }
                3 => {
                    let found = meta.lookup(dir, name(other).as_bytes()).await.unwrap();
                    assert_eq!(found.map(|found| found.ino), inos[other]);
                }
                _ => {}
            }
        }
        let found = meta.lookup(dir, name(number).as_bytes()).await.unwrap();
        assert_eq!(found.map(|found| found.ino), inos[number], "{number}");
        if let Some(found) = found {
            assert!(meta.inode(found.ino).await.unwrap().is_some());
        }
    }
    store.set_latency(std::time::Duration::ZERO);
    meta.close().await.unwrap();
}
