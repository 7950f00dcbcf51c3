//! Rows of the metadata that contradict each other.

use crate::{
    copies::{Original, VolumeCopy},
    metadata_rows::{key, object_row, value, varint, varints, with_last_number, with_number},
};

/// A copy of the volume, with what was done to its rows.
fn with<'a, T>(
    original: &'a Original,
    name: &str,
    change: impl AsyncFnOnce(&crate::metadata_rows::Rows) -> T,
) -> VolumeCopy<'a> {
    let case = original.case(name);
    case.with_rows(change);
    case
}

#[test]
fn wrong_counts_are_set_right() {
    let original = Original::new();
    let case = with(&original, "links", async |rows| {
        let at = key(0x10, rows.ino("dir/small5").await, b"");
        let inode = rows.get(&at).await;
        rows.put(at, with_number(&inode, 3, 7)).await;
    });
    case.is_found_and_mended(&[], &["/dir/small5", "7 links"], &[]);

    let case = with(&original, "entries", async |rows| {
        let at = key(0x10, rows.ino("dir").await, b"");
        let inode = rows.get(&at).await;
        rows.put(at, with_last_number(&inode, 0, 3)).await;
    });
    case.is_found_and_mended(&[], &["/dir:", "3 names are recorded"], &[]);

    let case = with(&original, "parent", async |rows| {
        let at = key(0x10, rows.ino("deep/a").await, b"");
        let inode = rows.get(&at).await;
        let other = rows.ino("dir").await;
        rows.put(at, with_last_number(&inode, 1, other)).await;
    });
    case.is_found_and_mended(&[], &["parent is recorded"], &[]);

    let case = with(&original, "allocated", async |rows| {
        let at = key(0x10, rows.ino("big").await, b"");
        let inode = rows.get(&at).await;
        rows.put(at, with_last_number(&inode, 0, 5)).await;
    });
    case.is_found_and_mended(&[], &["/big", "5 bytes of contents are recorded"], &[]);

    let case = with(&original, "live", async |rows| {
        for (at, value) in rows.all(0x40).await {
            let numbers = varints(&value[35..]);
            if numbers.len() == 3 && numbers[2] > 1 {
                let mut changed = value[..35].to_vec();
                for number in [numbers[0], numbers[1], numbers[2] - 1] {
                    changed.extend(varint(number));
                }
                rows.put(at, changed).await;
            }
        }
    });
    case.is_found_and_mended(&[], &["live bytes are recorded"], &[]);

    let case = with(&original, "totals", async |rows| {
        rows.put(vec![3], value(&[1, 2])).await;
        // Lists of objects, and a session's count of them.
        for (at, _) in rows.all(0x41).await {
            rows.delete(at).await;
        }
        for (at, row) in rows.all(0x51).await {
            let mut changed = row[..18].to_vec();
            changed.extend(varint(40));
            rows.put(at, changed).await;
        }
        rows.put(object_row(0x42, 1, 999), Vec::new()).await;
        rows.put(object_row(0x41, 1, 999), value(&[20])).await;
    });
    let said = case.is_found_and_mended(&[], &["the totals say", "objects are recorded"], &[]);
    assert!(said.contains("does not list it among its files"), "{said}");
}

#[test]
fn names_and_inodes_that_do_not_fit_are_mended_and_nothing_is_lost() {
    let original = Original::new();
    let case = with(&original, "dangling", async |rows| {
        let dir = rows.ino("dir").await;
        rows.put(
            key(0x20, dir, b"ghost"),
            [&[1, 1][..], &varint(9999), &[0]].concat(),
        )
        .await;
        let line = [&[1, 1, 0][..], b"ghost"].concat();
        rows.put(key(0x21, dir, &9999u64.to_be_bytes()), line).await;
        let at = key(0x10, dir, b"");
        let inode = rows.get(&at).await;
        let names = *varints(&inode[3..]).last().unwrap();
        rows.put(at, with_last_number(&inode, 0, names + 1)).await;
    });
    case.is_found_and_mended(&[], &["/dir/ghost", "9999, which is not there"], &[]);

    let case = with(&original, "nameless", async |rows| {
        let (dir, _, cookie) = rows.entry("dir/small6").await;
        rows.delete(key(0x20, dir, b"small6")).await;
        rows.delete(key(0x21, dir, &cookie.to_be_bytes())).await;
    });
    case.is_found_and_mended(&[], &["has no name"], &["dir/small6"]);
    let (files, _) = case.lost_and_found();
    let small6 = crate::support::random::noise(7, 3000);
    assert!(
        files.values().any(|found| *found == small6),
        "{:?}",
        files.keys()
    );

    let case = with(&original, "unlisted", async |rows| {
        let (dir, _, cookie) = rows.entry("dir/small7").await;
        rows.delete(key(0x21, dir, &cookie.to_be_bytes())).await;
        rows.delete(key(0x20, dir, b"small8")).await;
    });
    let names = ["/dir/small7", "missing in the listing", "/dir/small8"];
    case.is_found_and_mended(&[], &names, &[]);

    let case = with(&original, "circle", async |rows| {
        // deep/a becomes an entry of deep/a/b, below itself.
        let (deep, a, cookie) = rows.entry("deep/a").await;
        let b = rows.ino("deep/a/b").await;
        for (table, old, new) in [
            (0x20, b"a".to_vec(), b"a".to_vec()),
            (
                0x21,
                cookie.to_be_bytes().to_vec(),
                cookie.to_be_bytes().to_vec(),
            ),
        ] {
            let row = rows.get(&key(table, deep, &old)).await;
            rows.delete(key(table, deep, &old)).await;
            rows.put(key(table, b, &new), row).await;
        }
        let at = key(0x10, a, b"");
        let inode = rows.get(&at).await;
        rows.put(at, with_last_number(&inode, 1, b)).await;
    });
    let gone = ["deep/a", "deep/a/b", "deep/a/b/c", "deep/a/b/c/leaf"];
    case.is_found_and_mended(&[], &["its own ancestor"], &gone);
    let (files, _) = case.lost_and_found();
    assert_eq!(files.len(), 1, "{files:?}");

    // The record is lost, the contents are not: the file keeps its name and its bytes.
    let case = with(&original, "record", async |rows| {
        rows.delete(key(0x10, rows.ino("dir/small9").await, b""))
            .await;
    });
    case.is_found_and_mended(&[], &["extents of inode"], &["dir/small9"]);
    let mount = crate::copies::mount(&original.site, &case.url(), &["--read-only"]);
    let found = std::fs::read(mount.dir.join("dir/small9")).unwrap();
    assert!(found == crate::support::random::noise(10, 3000));
    mount.unmount();

    let case = with(&original, "flags", async |rows| {
        let ino = rows.ino("dir/small2").await;
        let at = key(0x10, ino, b"");
        let mut inode = rows.get(&at).await;
        inode[2] &= !1;
        rows.put(at, inode).await;
        rows.put(key(0x50, rows.ino("dir/small3").await, b""), value(&[1]))
            .await;
        rows.put(key(0x38, 8888, b"user.x"), vec![1, 2, 3]).await;
    });
    let names = [
        "/dir/small2",
        "nobody sees",
        "/dir/small3",
        "to be deleted",
        "8888",
    ];
    case.is_found_and_mended(&[], &names, &[]);
}

#[test]
fn extents_that_cannot_be_are_cut_out_and_the_file_is_set_aside() {
    let original = Original::new();
    let case = with(&original, "beyond", async |rows| {
        let at = key(0x10, rows.ino("big").await, b"");
        let inode = rows.get(&at).await;
        rows.put(at, with_last_number(&inode, 1, 1000)).await;
    });
    // The size is raised again, so not even this file has changed.
    case.is_found_and_mended(&[], &["/big", "the size is 1000 bytes"], &[]);

    let case = with(&original, "overlap", async |rows| {
        let ino = rows.ino("big").await;
        let (start, end, session, object, at) = rows.extents("big").await[0];
        let row = value(&[end - start - 5000, session, object, at]);
        rows.put(key(0x30, ino, &(end - 5000).to_be_bytes()), row)
            .await;
    });
    case.is_found_and_mended(&[], &["/big", "two extents for the same bytes"], &["big"]);

    let case = with(&original, "no-such-object", async |rows| {
        let ino = rows.ino("dir/small4").await;
        let (start, end, session, ..) = rows.extents("dir/small4").await[0];
        let row = value(&[end - start, session, 987_654, 0]);
        rows.put(key(0x30, ino, &end.to_be_bytes()), row).await;
    });
    let names = ["/dir/small4", "object 987654", "no record", "bytes 0-3000"];
    case.is_found_and_mended(&[], &names, &["dir/small4"]);

    let case = with(&original, "past-its-end", async |rows| {
        let ino = rows.ino("dir/small4").await;
        let (start, end, session, object, _) = rows.extents("dir/small4").await[0];
        let row = value(&[end - start, session, object, 1 << 40]);
        rows.put(key(0x30, ino, &end.to_be_bytes()), row).await;
    });
    case.is_found_and_mended(
        &[],
        &["/dir/small4", "beyond the end of object"],
        &["dir/small4"],
    );
}

#[test]
fn a_record_of_an_object_that_is_lost_comes_back_from_the_objects_header() {
    let original = Original::new();
    let case = with(&original, "objects", async |rows| {
        let (_, _, session, object, _) = rows.extents("big").await[0];
        rows.delete(object_row(0x40, session, object)).await;
        rows.delete(object_row(0x41, session, object)).await;
    });
    let said = case.is_found_and_mended(&[], &["/big", "no record"], &[]);
    assert!(said.contains("the object's own header"), "{said}");
}

#[test]
fn a_row_that_does_not_decode_is_found_and_left() {
    let original = Original::new();
    let case = with(&original, "undecodable", async |rows| {
        let at = key(0x10, rows.ino("inline").await, b"");
        rows.put(at, vec![77, 1, 2, 3]).await;
    });
    let said = case.fsck(&[], 4);
    assert!(
        said.contains("/inline: an inode record does not decode"),
        "{said}"
    );
    let said = case.fsck(&["--repair"], 4);
    assert!(
        said.contains("left: a later version may have written it"),
        "{said}"
    );
    let before = case.picture();
    case.fsck(&[], 4);
    assert!(before == case.picture());
}
