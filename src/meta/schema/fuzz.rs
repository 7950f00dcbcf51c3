//! Fuzz target of the database's keys and records: a value that decodes is encoded to one that
//! decodes the same, and the rows of any inode that it names can be scanned for.

use std::fmt::Debug;

use bytes::Bytes;

use super::*;
use crate::{
    fuzzing::Input,
    meta::{Dentry, DirEntry, FileKind, Inode, ObjectRecord, SessionId, Timestamp, Totals},
    seal::{
        codec::{ObjectKind, SealParams},
        keys::Epoch,
    },
};

/// A table by the first byte, a number from the row's key in the next eight, then the value.
pub(crate) fn records(input: &[u8]) {
    let mut input = Input::new(input);
    let (table, number) = (input.byte(), input.u64());
    let value = input.rest();
    match table {
        b'i' => {
            let ino = Ino(number);
            let again = |inode: &Inode| decode_inode(ino, &encode_inode(inode));
            if let Some(inode) = same(decode_inode(ino, value), again) {
                rows_of(inode.parent);
            }
        }
        b'e' => {
            let again = |row: &ExtentRow| decode_extent(number, &encode_extent(number, row));
            if let Some(row) = same(decode_extent(number, value), again) {
                assert!(row.start < number);
            }
        }
        b'o' => {
            let again = |object: &StoredObject| decode_object(&encode_object(object));
            if let Some(object) = same(decode_object(value), again) {
                let _ = object.record.is_sparse();
            }
        }
        b'm' => {
            let again = |inos: &Vec<Ino>| decode_members(&encode_members(inos));
            if let Some(inos) = same(decode_members(value), again) {
                assert!(inos.is_sorted() && inos.len() < value.len());
            }
        }
        b's' => drop(same(decode_session(value), |row| {
            decode_session(&encode_session(row))
        })),
        b'p' => drop(same(decode_orphan(value), |session| {
            decode_orphan(&encode_orphan(*session))
        })),
        b't' => drop(same(decode_totals(value), |totals| {
            decode_totals(&encode_totals(totals))
        })),
        b'c' => drop(same(decode_counters(value), |counters| {
            decode_counters(&encode_counters(counters))
        })),
        b'x' => drop(same(decode_xattr(value), |value| {
            decode_xattr(&encode_xattr(value))
        })),
        b'd' => {
            let again = |(dentry, fallback): &(Dentry, Option<Fallback>)| {
                decode_dentry_row(&encode_dentry(dentry, *fallback))
            };
            if let Some((dentry, fallback)) = same(decode_dentry_row(value), again) {
                rows_of(dentry.ino);
                let seen = decode_dentry(value, Reader::Follower).unwrap();
                assert_eq!(seen.ino, fallback.map_or(dentry.ino, |old| old.ino));
                assert_eq!(decode_dentry(value, Reader::Writer).unwrap(), dentry);
            }
        }
        b'l' => {
            let writer = decode_listing(number, value, Reader::Writer);
            let follower = decode_listing(number, value, Reader::Follower);
            assert_eq!(writer.is_ok(), follower.is_ok());
            let again = |entry: &DirEntry| {
                let dentry = Dentry {
                    ino: entry.ino,
                    kind: entry.kind,
                    cookie: entry.cookie,
                };
                decode_listing(
                    number,
                    &encode_listing(&dentry, &entry.name, None),
                    Reader::Writer,
                )
            };
            if let Some(entry) = same(writer, again) {
                rows_of(entry.ino);
                assert!((1..=crate::limits::NAME_LEN_MAX).contains(&entry.name.len()));
            }
        }
        b'r' => {
            let again = |row: &ReplacementRow| {
                decode_replacement(&encode_replacement(row.dir, &row.name, row.old))
            };
            if let Some(row) = same(decode_replacement(value), again) {
                rows_of(row.dir);
            }
        }
        b'k' => keys(value),
        _ => {}
    }
}

/// The decoded value, after it was encoded and decoded once more.
fn same<T: Debug + PartialEq>(
    decoded: Result<T, MetaError>,
    again: impl Fn(&T) -> Result<T, MetaError>,
) -> Option<T> {
    let decoded = decoded.ok()?;
    let second = again(&decoded);
    assert_eq!(second.ok().as_ref(), Some(&decoded));
    Some(decoded)
}

/// Checks the ranges of an inode's rows: each holds that inode's rows and no other's.
fn rows_of(ino: Ino) {
    for cookie in [0, 1, u64::MAX - 1] {
        let range = listing_range(ino, cookie);
        assert!(range.contains(&listing_key(ino, cookie + 1)));
        assert!(!range.contains(&listing_key(ino, cookie)));
    }
    assert!(extent_range(ino, 5).contains(&extent_key(ino, u64::MAX)));
    assert!(!extent_range(ino, 5).contains(&extent_key(ino, 4)));
    assert!(xattr_range(ino).contains(&xattr_key(ino, b"user.\xff")));
    let next = Ino(ino.0.wrapping_add(1));
    assert!(!xattr_range(ino).contains(&xattr_key(next, b"")));
    assert!(inode_range(ino, ino).contains(&inode_key(ino)));
}

/// Checks a key of any table: the parts that are read from it make the same key.
fn keys(key: &[u8]) {
    if let Ok(ino) = ino_of_key(key) {
        assert_eq!(inode_key(ino)[1..], key[1..]);
    }
    if let Ok(second) = second_of_key(key) {
        assert_eq!(second.to_be_bytes(), key[9..]);
    }
    if let Ok(name) = name_of_key(key) {
        assert_eq!(name, key[9..]);
    }
    if let Ok((new, cookie)) = replacement_of_key(key) {
        assert_eq!(replacement_key(new, cookie)[1..], key[1..]);
    }
    if let Ok(session) = session_of_key(key) {
        assert_eq!(session_key(session)[1..], key[1..]);
    }
    if let Ok(object) = object_of_key(key) {
        assert_eq!(object_key(object)[1..], key[1..]);
    }
    if let Ok((died, object)) = garbage_of_key(key) {
        assert_eq!(garbage_key(died, object)[1..], key[1..]);
        let range = garbage_range(died);
        assert!(range.contains(&garbage_key(died, object)));
    }
}

pub(crate) fn records_seeds() -> Vec<Vec<u8>> {
    let time = |seconds, nanos| Timestamp { seconds, nanos };
    let inode = |kind| Inode {
        ino: Ino(7),
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        nlink: 1,
        rdev: 5,
        size: 1 << 40,
        allocated: 4096,
        atime: time(-5, 999_999_999),
        mtime: time(1_700_000_000, 5),
        ctime: time(1_700_000_001, 6),
        btime: time(1_700_000_000, 5),
        parent: Ino(1),
        entries: 3,
        target: Bytes::from_static(b"a/\xff"),
        has_xattrs: true,
    };
    let object = ObjectKey {
        session: 3,
        number: 1 << 33,
    };
    let dentry = |cookie| Dentry {
        ino: Ino(7),
        kind: FileKind::File,
        cookie,
    };
    let old = Fallback {
        ino: Ino(u64::MAX),
        kind: FileKind::Symlink,
    };
    let stored = |died_unix_seconds| StoredObject {
        record: ObjectRecord {
            params: SealParams {
                salt: [9; 32],
                epoch: Epoch(1),
                frame_log2: 16,
                kind: ObjectKind::Data,
            },
            plaintext_len: 8 << 20,
            live_bytes: 5,
        },
        died_unix_seconds,
    };
    let extent = |source| encode_extent(4096, &ExtentRow { start: 96, source });
    let session = SessionRow {
        session: SessionId([4; 16]),
        ended: true,
        objects: 300,
    };
    let counters = Counters {
        ids_end: u64::MAX,
        next_session: 9,
    };
    let totals = Totals {
        inodes: 1,
        bytes: u64::MAX,
    };
    let rows: Vec<(u8, Vec<u8>)> = vec![
        (b'i', encode_inode(&inode(FileKind::File))),
        (b'i', encode_inode(&inode(FileKind::Directory))),
        (b'i', encode_inode(&inode(FileKind::Symlink))),
        (b'i', encode_inode(&inode(FileKind::BlockDevice))),
        (b'e', extent(RowSource::Object { object, at: 77 })),
        (
            b'e',
            extent(RowSource::Inline(Bytes::from_static(&[1; 4000])))[..100].to_vec(),
        ),
        (b'o', encode_object(&stored(None))),
        (b'o', encode_object(&stored(Some(-1)))),
        (
            b'm',
            encode_members(&[Ino(1), Ino(1), Ino(400), Ino(u64::MAX)]),
        ),
        (b's', encode_session(&session)),
        (b'p', encode_orphan(300)),
        (b't', encode_totals(&totals)),
        (b'c', encode_counters(&counters)),
        (b'x', encode_xattr(b"value")),
        (b'd', encode_dentry(&dentry(7), None)),
        (b'd', encode_dentry(&dentry(9), Some(old))),
        (b'l', encode_listing(&dentry(7), b"name", None)),
        (b'l', encode_listing(&dentry(9), b"name", Some(old))),
        (b'r', encode_replacement(Ino(1), b"name", old)),
        (b'k', inode_key(Ino(1))),
        (b'k', extent_key(Ino(1), 4096)),
        (b'k', object_key(object)),
        (b'k', garbage_key(-3, object)),
        (b'k', session_key(3)),
    ];
    rows.into_iter()
        .map(|(table, value)| [&[table], &4096_u64.to_be_bytes()[..], &value].concat())
        .collect()
}
