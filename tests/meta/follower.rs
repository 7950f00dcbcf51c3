//! Read-only mounts of a volume that another mount writes.

use std::time::{Duration, Instant};

use strongroom::meta::{FileKind, Ino, MetaError, SessionId};
use tokio::time::sleep;

use crate::support::{Verb, at, count, directory, file, follow, names, new, open, volume};

#[tokio::test]
async fn a_follower_sees_what_became_durable_within_seconds_and_writes_nothing() {
    let (store, writer) = volume().await;
    let dir = directory(&writer, Ino::ROOT, "dir").await.ino;
    file(&writer, dir, "one").await;
    writer.flush().await.unwrap();
    store.take();
    let follower = follow(&store).await;
    assert_eq!(follower.session(), SessionId([0; 16]));
    assert_eq!(names(&follower, dir).await, ["one"]);
    assert_eq!(count(&store.take(), Verb::Put, ""), 0);

    file(&writer, dir, "two").await;
    writer
        .set_xattr(
            dir,
            b"user.a",
            b"1",
            strongroom::meta::XattrMode::Set,
            None,
            at(20),
        )
        .await
        .unwrap();
    writer.flush().await.unwrap();
    let begun = Instant::now();
    while names(&follower, dir).await.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(follower.lookup(dir, b"two").await.unwrap().is_some());
    assert_eq!(follower.xattr(dir, b"user.a").await.unwrap().unwrap(), "1");
    assert_eq!(follower.inode(dir).await.unwrap().unwrap().entries, 2);
    while follower.totals() != writer.totals() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(matches!(
        follower.create(dir, b"x", new(FileKind::File, 1)).await,
        Err(MetaError::Store(_))
    ));
    assert!(follower.flush().await.is_ok());
    follower.close().await.unwrap();
}

#[tokio::test]
async fn a_follower_goes_on_over_the_writers_end_and_the_next_ones_beginning() {
    let (store, writer) = volume().await;
    file(&writer, Ino::ROOT, "one").await;
    writer.flush().await.unwrap();
    let follower = follow(&store).await;
    file(&writer, Ino::ROOT, "two").await;
    writer.close().await.unwrap();
    let next = open(&store).await;
    file(&next, Ino::ROOT, "three").await;
    next.flush().await.unwrap();
    let begun = Instant::now();
    while names(&follower, Ino::ROOT).await.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(25));
        sleep(Duration::from_millis(100)).await;
    }
}
