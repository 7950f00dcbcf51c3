//! Fuzz target of `/proc/self/mountinfo`: every user who may mount chooses the paths in it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::mountinfo::{escape_option, parse, refuses_changes};

/// By the first byte: a table as it is, or a place that the kernel writes into one.
pub(crate) fn mountinfo(input: &[u8]) {
    match input.split_first() {
        Some((b'p', place)) => written_by_the_kernel(place),
        Some((_, table)) => {
            for entry in parse(table) {
                let _ = refuses_changes(table, &entry);
            }
        }
        None => {}
    }
}

/// The place comes back as it was, and stands for no other field.
fn written_by_the_kernel(place: &[u8]) {
    if place.contains(&0) {
        return;
    }
    let mut line = b"40 22 0:35 / ".to_vec();
    for byte in place {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                line.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            _ => line.push(*byte),
        }
    }
    line.extend_from_slice(b" ro,nosuid shared:7 - fuse.strongroom s3://x rw,user_id=7\n");
    let entries: Vec<_> = parse(&line).collect();
    let [entry] = entries.as_slice() else {
        panic!("{} entries in one line", entries.len());
    };
    assert_eq!(entry.path.as_os_str(), OsStr::from_bytes(place));
    assert_eq!((entry.id, entry.user), (40, Some(7)));
    assert_eq!(entry.kind, "fuse.strongroom");
    assert!(refuses_changes(&line, entry));
    if let Ok(text) = std::str::from_utf8(place) {
        // fusermount3 splits the option at commas that no backslash precedes.
        let option = escape_option(text);
        let mut undone = String::new();
        let mut characters = option.chars();
        while let Some(character) = characters.next() {
            assert_ne!(character, ',');
            undone.push(match character {
                '\\' => characters.next().unwrap(),
                other => other,
            });
        }
        assert_eq!(undone, text);
    }
}

pub(crate) fn mountinfo_seeds() -> Vec<Vec<u8>> {
    [
        &b"t22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        40 22 0:35 / /mnt/a\\040b rw,nosuid,nodev shared:7 master:1 - fuse.strongroom s3://x rw,user_id=0\n\
        41 22 0:36 / /mnt/a\\040b ro - tmpfs none rw\n"[..],
        b"p/mnt/a b\\040\n-#\xff,",
        b"p/mnt/\\+12",
        b"t- - - - - - - -\n\n40",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
