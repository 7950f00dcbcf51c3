//! Named test vectors of formats 1 and 2, the corrupted ones included: stored, and made again by
//! the second implementation.

use std::fmt::Write as _;

use super::{
    open_whole,
    tests::{PATH, boundary_lengths, keys, plaintext, second},
};

/// One vector of `tests/fixtures/seal/codec_vectors.txt`, before it is written down.
struct Vector {
    name: String,
    opens: bool,
    path: &'static str,
    plaintext_len: usize,
    object: Vec<u8>,
}

/// The vectors, made by the second implementation, then damaged by hand.
fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut add = |name: &str, opens, path, plaintext_len, object: Vec<u8>| {
        vectors.push(Vector {
            name: name.to_owned(),
            opens,
            path,
            plaintext_len,
            object,
        });
    };
    let data = |len| second::seal(1, 10, PATH, &plaintext(len));
    for len in boundary_lengths(1024) {
        add(&format!("intact-{len}-bytes"), true, PATH, len, data(len));
    }
    add(
        "intact-metadata",
        true,
        "meta/wal/00000000000000000001.sst",
        2000,
        second::seal(2, 10, "meta/wal/00000000000000000001.sst", &plaintext(2000)),
    );
    add(
        "intact-control-in-64-KiB-frames",
        true,
        "lease",
        100,
        second::seal(3, 16, "lease", &plaintext(100)),
    );

    let good = data(2500);
    let mut flip = |name: &str, at: usize| {
        let mut object = good.clone();
        object[at] ^= 0x01;
        add(name, false, PATH, 2500, object);
    };
    for (name, at) in [
        ("flip-magic", 0),
        ("flip-version", 9),
        ("flip-suite", 10),
        ("flip-frame-size", 11),
        ("flip-kind", 12),
        ("flip-reserved-a", 13),
        ("flip-volume", 16),
        ("flip-epoch", 35),
        ("flip-reserved-b", 36),
        ("flip-salt-first", 48),
        ("flip-salt-last", 79),
        ("flip-commitment-first", 80),
        ("flip-commitment-last", 111),
        ("flip-reserved-c", 127),
        ("flip-frame-0-ciphertext", 128),
        ("flip-frame-0-tag", 128 + 1024),
        ("flip-frame-1-ciphertext", 128 + 1040 + 700),
        ("flip-frame-1-tag", 128 + 1040 + 1039),
        ("flip-final-frame-ciphertext", 128 + 2080),
    ] {
        flip(name, at);
    }
    flip("flip-final-frame-tag", good.len() - 1);

    for (name, len) in [
        ("truncated-to-nothing", 0),
        ("truncated-in-header", 100),
        ("truncated-to-header", 128),
        ("truncated-after-frame-0", 128 + 1040),
        ("truncated-after-frame-1", 128 + 2080),
        ("truncated-within-final-frame", good.len() - 100),
        ("truncated-by-one-byte", good.len() - 1),
        ("truncated-to-less-than-a-tag", 128 + 2080 + 8),
    ] {
        add(name, false, PATH, 2500, good[..len].to_vec());
    }
    let mut swapped = good.clone();
    swapped[128..128 + 2080].rotate_left(1040);
    add("swapped-frames", false, PATH, 2500, swapped);
    let mut repeated = good[..128 + 2080].to_vec();
    repeated.extend_from_slice(&good[128 + 1040..]);
    add("repeated-frame", false, PATH, 2500, repeated);
    let mut dropped = good[..128].to_vec();
    dropped.extend_from_slice(&good[128 + 1040..]);
    add("dropped-first-frame", false, PATH, 2500, dropped);
    let mut longer = good.clone();
    longer.push(0);
    add("trailing-byte", false, PATH, 2500, longer);
    let mut longer = good.clone();
    longer.extend_from_slice(&good[128..128 + 1040]);
    add("trailing-frame", false, PATH, 2500, longer);
    let mut spliced = good.clone();
    let other = second::seal(
        1,
        10,
        "data/0123456789abcdef0123456789abcdef/8",
        &plaintext(2500),
    );
    spliced[128..].copy_from_slice(&other[128..]);
    add("frames-of-another-object", false, PATH, 2500, spliced);
    add("wrong-path", false, PATH, 2500, other);
    add(
        "wrong-path-by-length-only",
        false,
        "data/0123456789abcdef0123456789abcdef/",
        2500,
        good.clone(),
    );
    let mut wrong_epoch = good.clone();
    wrong_epoch[35] = 9;
    add("epoch-that-does-not-exist", false, PATH, 2500, wrong_epoch);
    let mut wrong_volume = good.clone();
    wrong_volume[16..32].copy_from_slice(b"volume number 2.");
    add("wrong-volume", false, PATH, 2500, wrong_volume);

    let log = "meta/wal/00000000000000000002.sst";
    let linked = second::seal_linked(*b"a link of 12", log, &plaintext(2000));
    let mut damage = |name: &str, opens, at: usize, byte: u8| {
        let mut object = linked.clone();
        object[at] ^= byte;
        add(name, opens, log, 2000, object);
    };
    damage("linked-intact", true, 0, 0);
    damage("linked-flip-link-first", false, 36, 1);
    damage("linked-flip-link-last", false, 47, 1);
    // Format 2 told to be 1, and a format that does not exist.
    damage("linked-as-format-1", false, 9, 3);
    damage("linked-as-format-3", false, 9, 1);
    damage("linked-flip-reserved", false, 13, 1);
    let unlinked = second::seal_linked([0; 12], log, &plaintext(2000));
    add("linked-to-nothing", true, log, 2000, unlinked.clone());
    let mut plain = unlinked;
    plain[9] = 1;
    add("linked-to-nothing-as-format-1", false, log, 2000, plain);
    vectors
}

const VECTORS: &str = include_str!("../../../tests/fixtures/seal/codec_vectors.txt");

fn written(vectors: &[Vector]) -> String {
    let mut text = String::from(
        "# Sealed objects of formats 1 and 2. Volume id \"volume number 1.\", epoch 3 with a key of 32 bytes 0x17.\n\
         # Plaintext byte i = (i * 31 + i / 251) mod 256. One vector a line: name, opens or refused, path, plaintext length, object.\n",
    );
    for v in vectors {
        let opens = if v.opens { "opens" } else { "refused" };
        let object = data_encoding::BASE64.encode(&v.object);
        writeln!(
            text,
            "{} {opens} {} {} {object}",
            v.name, v.path, v.plaintext_len
        )
        .unwrap();
    }
    text
}

#[test]
fn stored_vectors_open_or_are_refused_as_they_say() {
    let mut count = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, opens, path, plaintext_len, object] = fields[..] else {
            panic!("{line}")
        };
        let object = data_encoding::BASE64.decode(object.as_bytes()).unwrap();
        let opened = open_whole(&keys(), path, &object);
        match opens {
            "opens" => assert_eq!(
                opened.unwrap(),
                plaintext(plaintext_len.parse().unwrap()),
                "{name}"
            ),
            _ => assert!(opened.is_err(), "{name}"),
        }
        count += 1;
    }
    assert!(count >= 45, "{count} vectors");
}

#[test]
fn stored_vectors_are_what_the_second_implementation_makes() {
    assert!(
        written(&vectors()) == VECTORS,
        "the format changed: that needs a new format version"
    );
}

/// Writes the vectors anew; for the day when some are added.
#[test]
#[ignore = "writes into the source tree"]
fn write_vectors() {
    std::fs::write(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/seal/codec_vectors.txt"
        ),
        written(&vectors()),
    )
    .unwrap();
}
