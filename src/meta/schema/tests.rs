//! The database's rows: how they come back, their order, and values that are refused.

use bytes::Bytes;

use super::*;
use crate::{
    meta::{Dentry, FileKind, Inode, ObjectRecord, SessionId, Timestamp, Totals},
    seal::{
        codec::{ObjectKind, SealParams},
        keys::Epoch,
    },
};

fn time(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp { seconds, nanos }
}

fn inode(kind: FileKind) -> Inode {
    let mut inode = Inode {
        ino: Ino(77),
        kind,
        mode: 0o7777,
        uid: u32::MAX,
        gid: 3,
        nlink: 2,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: time(-5, 999_999_999),
        mtime: time(i64::MIN, 0),
        ctime: time(i64::MAX, 1),
        btime: time(0, 0),
        parent: Ino(0),
        entries: 0,
        target: Bytes::new(),
        has_xattrs: true,
    };
    match kind {
        FileKind::File => (inode.size, inode.allocated) = (1 << 62, 12345),
        FileKind::Directory => (inode.parent, inode.entries) = (Ino(1), 9),
        FileKind::Symlink => (inode.target, inode.size) = (Bytes::from_static(b"a/\xff"), 3),
        FileKind::CharDevice | FileKind::BlockDevice => inode.rdev = 0x0501,
        FileKind::Fifo | FileKind::Socket => {}
    }
    inode
}

const FALLBACK: Fallback = Fallback {
    ino: Ino(200),
    kind: FileKind::File,
};

const KINDS: [FileKind; 7] = [
    FileKind::File,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::CharDevice,
    FileKind::BlockDevice,
];

#[test]
fn inodes_of_every_kind_come_back_as_they_were() {
    for kind in KINDS {
        let mut inode = inode(kind);
        assert_eq!(
            decode_inode(inode.ino, &encode_inode(&inode)).unwrap(),
            inode
        );
        (inode.atime, inode.ctime, inode.btime) = (inode.mtime, inode.mtime, inode.mtime);
        inode.has_xattrs = false;
        assert_eq!(
            decode_inode(inode.ino, &encode_inode(&inode)).unwrap(),
            inode
        );
    }
}

#[test]
fn a_target_one_byte_longer_than_the_kernel_hands_over_still_decodes() {
    let mut inode = inode(FileKind::Symlink);
    inode.target = vec![b'x'; crate::limits::SYMLINK_TARGET_LEN_MAX + 1].into();
    inode.size = inode.target.len() as u64;
    let decoded = decode_inode(inode.ino, &encode_inode(&inode)).unwrap();
    assert_eq!(decoded, inode);
}

#[test]
fn a_fresh_files_record_is_small() {
    let mut inode = inode(FileKind::File);
    (
        inode.uid,
        inode.gid,
        inode.mode,
        inode.size,
        inode.allocated,
    ) = (1000, 1000, 0o644, 8000, 8000);
    let now = time(1_790_000_000, 123_456_789);
    (inode.atime, inode.mtime, inode.ctime, inode.btime) = (now, now, now, now);
    assert!(encode_inode(&inode).len() <= 26);
}

#[test]
fn every_record_that_is_cut_short_or_of_another_form_is_refused() {
    let dentry = Dentry {
        ino: Ino(300),
        kind: FileKind::Symlink,
        cookie: 301,
    };
    let object = StoredObject {
        record: ObjectRecord {
            params: SealParams {
                salt: [9; 32],
                epoch: Epoch(2),
                frame_log2: 16,
                kind: ObjectKind::Data,
            },
            plaintext_len: 1 << 30,
            live_bytes: 1 << 29,
        },
        died_unix_seconds: Some(-1),
    };
    let key = ObjectKey {
        session: 4,
        number: 5,
    };
    let row = ExtentRow {
        start: 100,
        source: RowSource::Object {
            object: key,
            at: 1 << 40,
        },
    };
    type Check = Box<dyn Fn(&[u8]) -> bool>;
    let records: Vec<(Vec<u8>, Check)> = vec![
        (
            encode_dentry(&dentry, None),
            Box::new(move |value| {
                decode_dentry_row(value).is_ok_and(|back| back == (dentry, None))
            }),
        ),
        (
            encode_dentry(&dentry, Some(FALLBACK)),
            Box::new(move |value| {
                decode_dentry_row(value).is_ok_and(|back| back == (dentry, Some(FALLBACK)))
            }),
        ),
        (
            encode_object(&object),
            Box::new(move |value| decode_object(value).is_ok_and(|back| back == object)),
        ),
        (
            encode_extent(1 << 33, &row),
            Box::new(move |value| decode_extent(1 << 33, value).is_ok_and(|back| back == row)),
        ),
        (
            encode_session(&SessionRow {
                session: SessionId([3; 16]),
                ended: true,
                objects: 1000,
            }),
            Box::new(|value| {
                decode_session(value).is_ok_and(|back| back.ended && back.objects == 1000)
            }),
        ),
        (
            encode_orphan(600),
            Box::new(|value| decode_orphan(value).is_ok_and(|back| back == 600)),
        ),
        (
            encode_totals(&Totals {
                inodes: 1000,
                bytes: 1 << 50,
            }),
            Box::new(|value| decode_totals(value).is_ok_and(|back| back.bytes == 1 << 50)),
        ),
        (
            encode_counters(&Counters {
                ids_end: 1 << 20,
                next_session: 3,
            }),
            Box::new(|value| decode_counters(value).is_ok_and(|back| back.next_session == 3)),
        ),
        (
            encode_inode(&inode(FileKind::File)),
            Box::new(|value| decode_inode(Ino(77), value).is_ok()),
        ),
    ];
    for (number, (value, is_back)) in records.into_iter().enumerate() {
        assert!(is_back(&value), "record {number}");
        for len in 0..value.len() {
            assert!(!is_back(&value[..len]), "record {number} cut to {len}");
        }
        let mut other = value.clone();
        other[0] = 0x7f;
        assert!(!is_back(&other), "record {number} of an unknown form");
        other = value.clone();
        other.push(0);
        assert!(!is_back(&other), "record {number} with a byte left over");
    }
    assert!(
        decode_extent(
            10,
            &encode_extent(
                200,
                &ExtentRow {
                    start: 100,
                    source: RowSource::Object { object: key, at: 0 }
                }
            )
        )
        .is_err()
    );
    assert!(decode_extent(10, &[FORM_INLINE]).is_err());
    assert!(decode_listing(20, &[FORM, 1, 0], Reader::Writer).is_err());
}

#[test]
fn listings_keep_names_that_are_not_text() {
    for cookie in [300, 301] {
        let dentry = Dentry {
            ino: Ino(300),
            kind: FileKind::File,
            cookie,
        };
        for fallback in [None, Some(FALLBACK)] {
            let value = encode_listing(&dentry, b"\xff\n", fallback);
            let back = decode_listing(cookie, &value, Reader::Writer).unwrap();
            assert_eq!(
                (back.ino, back.cookie, back.name.as_ref()),
                (Ino(300), cookie, b"\xff\n".as_slice())
            );
        }
    }
}

#[test]
fn an_entry_with_a_fallback_is_that_for_all_but_the_writer() {
    let dentry = Dentry {
        ino: Ino(300),
        kind: FileKind::Symlink,
        cookie: 301,
    };
    let fallen_back = Dentry {
        ino: FALLBACK.ino,
        kind: FALLBACK.kind,
        ..dentry
    };
    let value = encode_dentry(&dentry, Some(FALLBACK));
    assert_eq!(decode_dentry(&value, Reader::Writer).unwrap(), dentry);
    assert_eq!(
        decode_dentry(&value, Reader::Follower).unwrap(),
        fallen_back
    );
    let value = encode_listing(&dentry, b"name", Some(FALLBACK));
    let line = decode_listing(301, &value, Reader::Follower).unwrap();
    assert_eq!((line.ino, line.kind), (FALLBACK.ino, FALLBACK.kind));
    let value = encode_replacement(Ino(7), b"name", FALLBACK);
    let row = decode_replacement(&value).unwrap();
    assert_eq!((row.dir, row.old), (Ino(7), FALLBACK));
    assert_eq!(row.name, b"name".as_slice());
    let key = replacement_key(Ino(300), 301);
    assert_eq!(replacement_of_key(&key).unwrap(), (Ino(300), 301));
    // A program that knows only the first form refuses the second, which it would misread.
    assert_ne!(encode_dentry(&dentry, Some(FALLBACK))[0], FORM);
}

#[test]
fn members_are_stored_as_differences() {
    let inos: Vec<_> = (0..1000).map(|number| Ino(1_000_000 + number)).collect();
    let value = encode_members(&inos);
    assert!(value.len() < 1010);
    assert_eq!(decode_members(&value).unwrap(), inos);
    assert!(decode_members(&[FORM, 0x80]).is_err());
}

#[test]
fn keys_sort_as_they_are_read_and_come_apart_again() {
    assert!(extent_key(Ino(5), 255) < extent_key(Ino(5), 256));
    assert!(extent_range(Ino(5), 0).contains(&extent_key(Ino(5), u64::MAX)));
    assert!(!extent_range(Ino(5), 0).contains(&extent_key(Ino(6), 0)));
    assert!(!extent_range(Ino(5), 101).contains(&extent_key(Ino(5), 100)));
    assert!(!listing_range(Ino(5), 20).contains(&listing_key(Ino(5), 20)));
    assert!(listing_range(Ino(5), 20).contains(&listing_key(Ino(5), 21)));
    assert!(inode_range(Ino(3), Ino(9)).contains(&inode_key(Ino(9))));
    assert!(Table::Orphan.all().contains(&orphan_key(Ino(u64::MAX))));
    let object = ObjectKey {
        session: 7,
        number: 1 << 40,
    };
    for died in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(
            garbage_of_key(&garbage_key(died, object)).unwrap(),
            (died, object)
        );
    }
    assert!(garbage_key(-1, object) < garbage_key(0, object));
    assert!(garbage_range(5).contains(&garbage_key(5, object)));
    assert!(!garbage_range(5).contains(&garbage_key(6, object)));
    assert_eq!(object_of_key(&sparse_key(object)).unwrap(), object);
    assert_eq!(ino_of_key(&inode_key(Ino(1 << 50))).unwrap(), Ino(1 << 50));
    assert_eq!(second_of_key(&extent_key(Ino(1), 99)).unwrap(), 99);
    assert_eq!(
        name_of_key(&dentry_key(Ino(1), b"\xffx")).unwrap().as_ref(),
        b"\xffx"
    );
    assert_eq!(session_of_key(&session_key(9)).unwrap(), 9);
    assert!(second_of_key(&inode_key(Ino(1))).is_err());
    assert!(object_of_key(&garbage_key(1, object)).is_err());
}
