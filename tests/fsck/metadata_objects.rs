//! Objects of the metadata store, and the header, that are missing or damaged.

use crate::support::{Bench, Case};

fn damaged<'a>(
    bench: &'a Bench,
    name: &str,
    key: &str,
    change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
) -> Case<'a> {
    let case = bench.case(name);
    match change(case.get(key)) {
        Some(object) => case.put(key, object),
        None => case.delete(key),
    }
    case
}

fn flip(mut object: Vec<u8>) -> Option<Vec<u8>> {
    let middle = object.len() / 2;
    object[middle] ^= 1;
    Some(object)
}

#[test]
fn metadata_that_cannot_be_read_is_named_and_left() {
    let bench = Bench::new();
    let case = bench.case("keys");
    let (tables, log) = (case.keys("meta/compacted/"), case.keys("meta/wal/"));
    let table = tables.last().expect("a table").clone();
    let last = log.last().expect("a log object").clone();
    for (name, key, is_missing) in [
        ("no-table", &table, true),
        ("bad-table", &table, false),
        ("bad-log", &last, false),
    ] {
        let change = if is_missing { |_| None } else { flip };
        let case = damaged(&bench, name, key, change);
        let before = case.picture();
        let said = case.fsck(&[], 4);
        let id = key.rsplit('/').next().unwrap().trim_end_matches(".sst");
        let id = id.trim_start_matches('0');
        assert!(said.contains(id), "{name}: no {id} in {said}");
        case.fsck(&["--repair"], 4);
        case.fsck(&[], 4);
        if name != "bad-table" && name != "no-table" {
            assert!(before == case.picture(), "{name}: something was written");
        }
    }
}

#[test]
fn a_damaged_copy_of_the_header_is_found_and_written_anew() {
    let bench = Bench::new();
    for key in ["strongroom.json", "strongroom.copy.json"] {
        for (name, is_missing) in [("missing", true), ("damaged", false)] {
            let change = if is_missing { |_| None } else { flip };
            let case = damaged(&bench, &format!("{name}-{key}"), key, change);
            case.is_found_and_mended(&[], &["volume header", "unusable"], &[]);
            assert!(case.get("strongroom.json") == case.get("strongroom.copy.json"));
        }
    }
}
