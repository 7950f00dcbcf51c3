//! Extended attributes.

use bytes::Bytes;
use strongroom::meta::{Ino, MetaError, XattrMode};

use crate::volume::{at, file, get, open, volume};

#[tokio::test]
async fn attributes_are_set_listed_and_removed() {
    let (store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    assert_eq!(meta.xattr(ino, b"user.a").await.unwrap(), None);
    assert!(meta.xattr_names(ino).await.unwrap().is_empty());
    meta.set_xattr(ino, b"user.b", b"2", XattrMode::Set, None, at(20))
        .await
        .unwrap();
    meta.set_xattr(
        ino,
        b"user.a",
        &[7; 65536],
        XattrMode::Create,
        Some(0o604),
        at(30),
    )
    .await
    .unwrap();
    meta.set_xattr(ino, b"user.empty", b"", XattrMode::Set, None, at(30))
        .await
        .unwrap();
    let inode = get(&meta, ino).await;
    assert_eq!(
        (inode.mode, inode.ctime, inode.mtime, inode.has_xattrs),
        (0o604, at(30), at(10), true)
    );
    meta.close().await.unwrap();

    let meta = open(&store).await;
    assert_eq!(
        meta.xattr_names(ino).await.unwrap(),
        ["user.a", "user.b", "user.empty"].map(Bytes::from)
    );
    assert_eq!(
        meta.xattr(ino, b"user.a").await.unwrap().unwrap(),
        vec![7; 65536]
    );
    assert_eq!(meta.xattr(ino, b"user.empty").await.unwrap().unwrap(), "");
    for name in ["user.a", "user.b", "user.empty"] {
        assert!(get(&meta, ino).await.has_xattrs);
        meta.remove_xattr(ino, name.as_bytes(), at(40))
            .await
            .unwrap();
    }
    let inode = get(&meta, ino).await;
    assert_eq!((inode.has_xattrs, inode.ctime), (false, at(40)));
    assert!(matches!(
        meta.remove_xattr(ino, b"user.a", at(50)).await,
        Err(MetaError::NoAttribute)
    ));
}

#[tokio::test]
async fn modes_and_limits_are_kept() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let set = |name: Vec<u8>, len: usize, mode| {
        let meta = meta.clone();
        async move {
            meta.set_xattr(ino, &name, &vec![1; len], mode, None, at(20))
                .await
        }
    };
    assert!(matches!(
        set(b"user.a".to_vec(), 1, XattrMode::Replace).await,
        Err(MetaError::NoAttribute)
    ));
    set(b"user.a".to_vec(), 1, XattrMode::Create).await.unwrap();
    assert!(matches!(
        set(b"user.a".to_vec(), 1, XattrMode::Create).await,
        Err(MetaError::AttributeExists)
    ));
    set(b"user.a".to_vec(), 2, XattrMode::Replace)
        .await
        .unwrap();
    assert!(matches!(
        set(b"user.b".to_vec(), 65537, XattrMode::Set).await,
        Err(MetaError::Limit(_))
    ));
    assert!(matches!(
        set(vec![b'n'; 256], 1, XattrMode::Set).await,
        Err(MetaError::Limit(_))
    ));
    assert!(matches!(
        set(Vec::new(), 1, XattrMode::Set).await,
        Err(MetaError::Limit(_))
    ));
    let mut refused = false;
    for number in 0..300 {
        let name = format!("{number:0>255}").into_bytes();
        refused |= matches!(set(name, 0, XattrMode::Set).await, Err(MetaError::Limit(_)));
    }
    assert!(
        refused,
        "names beyond what one listing can hold are refused"
    );
    let listed: usize = meta
        .xattr_names(ino)
        .await
        .unwrap()
        .iter()
        .map(|name| name.len() + 1)
        .sum();
    assert!(listed <= 65536);
    assert!(matches!(
        meta.xattr(Ino(4242), b"user.a").await,
        Err(MetaError::NotFound)
    ));
}
