//! Data objects that are not as they were written.

use std::collections::BTreeMap;

use crate::copies::{Original, VolumeCopy};

const HEADER_LEN: usize = 128;
const FRAME: usize = 65_536 + 16;

/// One object of `big`, changed.
fn changed<'a>(
    original: &'a Original,
    name: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> (VolumeCopy<'a>, String) {
    let case = original.case(name);
    let (key, _) = case.object_of("big", 0);
    let mut object = case.get(&key);
    change(&mut object);
    case.put(&key, object);
    (case, key)
}

/// The file is in lost+found with all that was not lost, and the report says where it was.
fn set_aside(case: &VolumeCopy<'_>, lost: std::ops::Range<usize>) {
    let (files, _) = case.lost_and_found();
    let (_, contents) = files
        .iter()
        .find(|(name, _)| !name.ends_with(".report"))
        .expect("the file");
    let whole = crate::support::random::noise(70, 12 << 20);
    assert_eq!(contents.len(), whole.len());
    assert!(contents[..lost.start] == whole[..lost.start], "before");
    assert!(contents[lost.end..] == whole[lost.end..], "after");
    let (_, report) = files
        .iter()
        .find(|(name, _)| name.ends_with(".report"))
        .expect("the report");
    let report = String::from_utf8_lossy(report);
    assert!(report.contains("this file was /big"), "{report}");
    let line = format!("bytes {} to {} are lost", lost.start, lost.end);
    assert!(report.contains(&line), "no '{line}' in {report}");
}

#[test]
fn objects_that_are_missing_cut_or_of_another_length_are_found_without_reading_them() {
    let original = Original::new();

    let case = original.case("deleted");
    let (key, _) = case.object_of("big", 0);
    case.delete(&key);
    let said = case.is_found_and_mended(&[], &["/big", "is missing", &key, "bytes 0-"], &["big"]);
    assert!(said.contains("lost+found/#"), "{said}");

    // A pack: all files in it are named, with all their names.
    let case = original.case("pack");
    let (key, _) = case.object_of("dir/small0", 0);
    case.delete(&key);
    let findings = case.findings(&[], 4);
    let mut paths = BTreeMap::new();
    for finding in &findings {
        assert_eq!(finding["object"], key.as_str());
        let own = finding["paths"].as_array().unwrap();
        paths.insert(own[0].as_str().unwrap().to_owned(), own.len());
    }
    assert_eq!(paths.get("/dir/small0"), Some(&2), "{paths:?}");
    assert!(!paths.contains_key("/big"), "{paths:?}");
    let hurt: Vec<String> = findings
        .iter()
        .flat_map(|finding| finding["paths"].as_array().unwrap())
        .map(|path| path.as_str().unwrap().trim_start_matches('/').to_owned())
        .collect();
    let hurt: Vec<&str> = hurt.iter().map(String::as_str).collect();
    case.is_found_and_mended(&[], &["/dir/small0 (also /dir/sub/hard)"], &hurt);

    let (case, _) = changed(&original, "cut", |object| {
        object.truncate(HEADER_LEN + 10 * FRAME + 5)
    });
    case.is_found_and_mended(&[], &["/big", "must have", "bytes 655360-"], &["big"]);

    let (case, _) = changed(&original, "longer", |object| {
        object.extend_from_slice(b"more")
    });
    case.is_found_and_mended(&[], &["/big", "can be read all the same"], &[]);
}

#[test]
fn frames_that_do_not_authenticate_are_found_by_reading_them() {
    let original = Original::new();

    let (case, _) = changed(&original, "first", |object| object[HEADER_LEN + 7] ^= 1);
    case.fsck(&[], 0);
    case.is_found_and_mended(&["--data"], &["/big", "frame 0", "bytes 0-65536"], &["big"]);
    set_aside(&case, 0..65_536);

    let (case, _) = changed(&original, "middle", |object| {
        object[HEADER_LEN + 40 * FRAME] ^= 1
    });
    let names = ["/big", "frame 40 ", "bytes 2621440-2686976"];
    case.is_found_and_mended(&["--data"], &names, &["big"]);
    set_aside(&case, 2_621_440..2_686_976);

    let (case, _) = changed(&original, "final", |object| {
        *object.last_mut().unwrap() ^= 1
    });
    case.is_found_and_mended(&["--data"], &["/big", "does not authenticate"], &["big"]);

    let (case, _) = changed(&original, "header", |object| object[40] ^= 1);
    let names = ["/big", "header does not authenticate", "can be read"];
    case.is_found_and_mended(&["--data"], &names, &[]);

    // Another object of the same length in its place: nothing of it opens.
    let (case, key) = changed(&original, "swapped", |object| {
        let len = object.len();
        object.rotate_left(len / 3);
    });
    case.is_found_and_mended(&["--data"], &["/big", &key, "bytes 0-"], &["big"]);
}
