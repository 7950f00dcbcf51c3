//! Objects of the metadata store, and the header, that are missing or damaged.

use crate::{
    copies::{Original, VolumeCopy, mount, site},
    metadata_rows::Rows,
};

fn damaged<'a>(
    original: &'a Original,
    name: &str,
    key: &str,
    change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
) -> VolumeCopy<'a> {
    let case = original.case(name);
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
fn a_table_of_the_metadata_that_is_missing_or_damaged_is_named_and_left() {
    let original = Original::new();
    let case = original.case("keys");
    let tables: Vec<String> = case.with_rows(async |rows: &Rows| {
        let manifest = rows.db.manifest();
        let views = manifest.all_sst_views();
        views.map(|view| view.sst.id.value().to_string()).collect()
    });
    assert!(!tables.is_empty());
    for (index, id) in tables.iter().enumerate().take(3) {
        let key = format!("meta/compacted/{id}.sst");
        for (name, is_missing) in [("no-table", true), ("bad-table", false)] {
            let change = if is_missing { |_| None } else { flip };
            let case = damaged(&original, &format!("{name}-{index}"), &key, change);
            let before = case.picture();
            let said = case.fsck(&[], 4);
            assert!(said.contains(id), "{name}: no {id} in {said}");
            assert!(before == case.picture(), "{name}: something was written");
            case.fsck(&["--repair"], 4);
            case.fsck(&[], 4);
        }
    }
}

#[test]
fn a_log_object_that_is_missing_or_damaged_is_named_and_left() {
    let site = site();
    let mounted = mount(&site, &site.url(), &[]);
    for index in 0..4 {
        let file = std::fs::File::create(mounted.dir.join(format!("file{index}"))).unwrap();
        file.sync_all().unwrap();
    }
    mounted.kill();
    let original = Original::of(site);
    let case = original.case("whole");
    let log = case.keys("meta/wal/");
    case.fsck(&[], 0);
    for back in [1, 2] {
        let key = &log[log.len() - back];
        let number = key.rsplit('/').next().unwrap().trim_end_matches(".sst");
        let number = number.trim_start_matches('0');
        let case = damaged(&original, &format!("bad-log-{back}"), key, flip);
        let before = case.picture();
        let said = case.fsck(&[], 4);
        assert!(said.contains(number), "no {number} in {said}");
        case.fsck(&["--repair"], 4);
        assert!(before == case.picture(), "something was written");
    }
    let case = damaged(&original, "no-log", &log[log.len() - 2], |_| None);
    let said = case.fsck(&[], 4);
    assert!(said.contains("missing, and a later one is there"), "{said}");
}

#[test]
fn a_damaged_copy_of_the_header_is_found_and_written_anew() {
    let original = Original::new();
    for key in ["strongroom.json", "strongroom.copy.json"] {
        for (name, is_missing) in [("missing", true), ("damaged", false)] {
            let change = if is_missing { |_| None } else { flip };
            let case = damaged(&original, &format!("{name}-{key}"), key, change);
            case.is_found_and_mended(&[], &["volume header", "unusable"], &[]);
            assert!(case.get("strongroom.json") == case.get("strongroom.copy.json"));
        }
    }
}
