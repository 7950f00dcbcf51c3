//! Extended attributes, access control lists, what new inodes inherit; below the kernel.

use nix::errno::Errno;
use strongroom::{
    fs::{CONTROL_XATTR, Caller, FsConfig, FsError, SetAttributes},
    meta::Ino,
};

use crate::support::{
    opened::{ROOT, SOMEBODY},
    volume::TestVolume,
};

fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Errno {
    result.unwrap_err().errno
}

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The xattr form of a list of (tag, permissions, id).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

const NO_ID: u32 = u32::MAX;

fn named(user_perm: u16, mask: u16) -> Vec<u8> {
    acl(&[
        (1, 7, NO_ID),
        (2, user_perm, 1000),
        (4, 5, NO_ID),
        (0x10, mask, NO_ID),
        (0x20, 0, NO_ID),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_set_listed_replaced_and_removed() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let ino = Ino::ROOT;
    assert_eq!(errno(fs.getxattr(ino, b"user.a").await), Errno::ENODATA);
    let set = |value, flags| fs.setxattr(ROOT, ino, b"user.a", value, flags);
    let replaced = set(b"1", libc::XATTR_REPLACE).await;
    assert_eq!(errno(replaced), Errno::ENODATA);
    set(b"1", libc::XATTR_CREATE).await.unwrap();
    let created = set(b"2", libc::XATTR_CREATE).await;
    assert_eq!(errno(created), Errno::EEXIST);
    set(b"2", libc::XATTR_REPLACE).await.unwrap();
    fs.setxattr(ROOT, ino, b"user.empty", b"", 0).await.unwrap();
    fs.setxattr(ROOT, ino, b"trusted.t", b"t", 0).await.unwrap();
    assert_eq!(fs.getxattr(ino, b"user.a").await.unwrap(), b"2"[..]);
    assert_eq!(fs.getxattr(ino, b"user.empty").await.unwrap(), b""[..]);
    assert_eq!(
        fs.listxattr(ROOT, ino).await.unwrap(),
        b"trusted.t\0user.a\0user.empty\0"[..]
    );
    assert_eq!(
        fs.listxattr(SOMEBODY, ino).await.unwrap(),
        b"user.a\0user.empty\0"[..]
    );
    fs.removexattr(ino, b"user.a").await.unwrap();
    assert_eq!(errno(fs.removexattr(ino, b"user.a").await), Errno::ENODATA);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_attributes_have_their_own_errors() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let longest = vec![0xab; 65_536];
    fs.setxattr(ROOT, Ino::ROOT, b"user.big", &longest, 0)
        .await
        .unwrap();
    assert_eq!(fs.getxattr(Ino::ROOT, b"user.big").await.unwrap(), longest);
    assert_eq!(
        errno(
            fs.setxattr(ROOT, Ino::ROOT, b"user.big", &vec![0; 65_537], 0)
                .await
        ),
        Errno::E2BIG
    );
    let mut name = b"user.".to_vec();
    name.resize(256, b'x');
    assert_eq!(
        errno(fs.setxattr(ROOT, Ino::ROOT, &name, b"", 0).await),
        Errno::ERANGE
    );
    assert_eq!(
        errno(fs.setxattr(ROOT, Ino::ROOT, b"system.other", b"", 0).await),
        Errno::EOPNOTSUPP
    );
    assert_eq!(
        errno(fs.getxattr(Ino::ROOT, b"nothing").await),
        Errno::EOPNOTSUPP
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_attribute_is_there_and_cannot_be_changed() {
    let volume = TestVolume::new().await;
    let opened = volume
        .open_with(FsConfig {
            control: Some("/run/s".to_owned()),
            ..FsConfig::default()
        })
        .await;
    let fs = &opened.fs;
    let name = CONTROL_XATTR.as_bytes();
    assert_eq!(fs.getxattr(Ino::ROOT, name).await.unwrap(), b"/run/s"[..]);
    assert_eq!(fs.listxattr(ROOT, Ino::ROOT).await.unwrap(), b""[..]);
    assert_eq!(
        errno(fs.setxattr(ROOT, Ino::ROOT, name, b"x", 0).await),
        Errno::EPERM
    );
    assert_eq!(errno(fs.removexattr(Ino::ROOT, name).await), Errno::EPERM);
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap().ino;
    assert_eq!(errno(fs.getxattr(dir, name).await), Errno::ENODATA);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_list_and_the_permission_bits_follow_each_other() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let file = fs
        .mknod(ROOT, Ino::ROOT, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap()
        .ino;
    let mode = async || fs.getattr(file).await.unwrap().mode;
    fs.setxattr(ROOT, file, ACCESS, &named(6, 6), 0)
        .await
        .unwrap();
    assert_eq!(mode().await, 0o760);
    fs.setattr(
        ROOT,
        file,
        SetAttributes {
            mode: Some(0o4640),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    let expected = acl(&[
        (1, 6, NO_ID),
        (2, 6, 1000),
        (4, 5, NO_ID),
        (0x10, 4, NO_ID),
        (0x20, 0, NO_ID),
    ]);
    assert_eq!(fs.getxattr(file, ACCESS).await.unwrap(), expected);
    assert_eq!(mode().await, 0o4640);
    // A list that says no more than bits can is not stored.
    fs.setxattr(
        ROOT,
        file,
        ACCESS,
        &acl(&[(1, 6, NO_ID), (4, 0, NO_ID), (0x20, 4, NO_ID)]),
        0,
    )
    .await
    .unwrap();
    assert_eq!(errno(fs.getxattr(file, ACCESS).await), Errno::ENODATA);
    assert_eq!(mode().await, 0o4604);
    fs.removexattr(file, ACCESS).await.unwrap();
    assert_eq!(
        errno(fs.setxattr(ROOT, file, ACCESS, b"nonsense", 0).await),
        Errno::EOPNOTSUPP
    );
    assert_eq!(
        errno(fs.setxattr(ROOT, file, ACCESS, b"", 0).await),
        Errno::EINVAL
    );
    assert_eq!(
        errno(fs.setxattr(ROOT, file, DEFAULT, &named(6, 6), 0).await),
        Errno::EACCES
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_set_by_an_outsider_to_the_group_drops_set_group_id() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let file = fs
        .mknod(ROOT, Ino::ROOT, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap()
        .ino;
    let set = SetAttributes {
        mode: Some(0o2755),
        uid: Some(1000),
        gid: Some(50),
        ..SetAttributes::default()
    };
    fs.setattr(ROOT, file, set).await.unwrap();
    fs.setxattr(
        Caller {
            gid: 50,
            ..SOMEBODY
        },
        file,
        ACCESS,
        &named(7, 7),
        0,
    )
    .await
    .unwrap();
    assert_eq!(fs.getattr(file).await.unwrap().mode, 0o2770);
    fs.setxattr(SOMEBODY, file, ACCESS, &named(7, 7), 0)
        .await
        .unwrap();
    assert_eq!(fs.getattr(file).await.unwrap().mode, 0o770);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_umask_applies_unless_the_directory_has_a_default_list() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let strict = Caller {
        umask: 0o077,
        ..ROOT
    };
    let dir = fs.mkdir(strict, Ino::ROOT, b"d", 0o777).await.unwrap();
    assert_eq!(dir.mode, 0o700);
    fs.setxattr(ROOT, dir.ino, DEFAULT, &named(6, 7), 0)
        .await
        .unwrap();
    let file = fs
        .mknod(strict, dir.ino, b"f", libc::S_IFREG | 0o664, 0)
        .await
        .unwrap();
    assert_eq!(file.mode, 0o660);
    let expected = acl(&[
        (1, 6, NO_ID),
        (2, 6, 1000),
        (4, 5, NO_ID),
        (0x10, 6, NO_ID),
        (0x20, 0, NO_ID),
    ]);
    assert_eq!(fs.getxattr(file.ino, ACCESS).await.unwrap(), expected);
    assert_eq!(errno(fs.getxattr(file.ino, DEFAULT).await), Errno::ENODATA);
    let below = fs.mkdir(strict, dir.ino, b"below", 0o777).await.unwrap();
    assert_eq!(below.mode, 0o770);
    assert_eq!(fs.getxattr(below.ino, DEFAULT).await.unwrap(), named(6, 7));
    assert_eq!(fs.getxattr(below.ino, ACCESS).await.unwrap(), named(6, 7));
    let link = fs.symlink(strict, dir.ino, b"l", b"t").await.unwrap();
    assert_eq!(link.mode, 0o777);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_group_id_directory_hands_its_group_down() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap().ino;
    let plain = fs
        .mknod(SOMEBODY, dir, b"plain", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap();
    assert_eq!((plain.uid, plain.gid), (1000, 1000));
    fs.setattr(
        ROOT,
        dir,
        SetAttributes {
            gid: Some(50),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    fs.setattr(
        ROOT,
        dir,
        SetAttributes {
            mode: Some(0o2775),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    let file = fs
        .mknod(SOMEBODY, dir, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap();
    assert_eq!((file.uid, file.gid, file.mode), (1000, 50, 0o644));
    let below = fs.mkdir(SOMEBODY, dir, b"below", 0o755).await.unwrap();
    assert_eq!((below.gid, below.mode), (50, 0o2755));
    opened.close().await;
}
