//! The tests that docs/semantics.md names exist.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_named_in_the_semantics_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let named: BTreeSet<&str> = page
        .split('`')
        .filter(|word| word.contains("::") && !word.contains(' '))
        .filter(|word| *word != "file::test")
        .collect();
    assert!(named.len() > 40, "only {} tests are named", named.len());
    for name in named {
        let (file, test) = name.split_once("::").unwrap();
        let source = fs::read_to_string(root.join(format!("tests/{file}.rs")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            source.contains(&format!("fn {test}(")),
            "{name} does not exist"
        );
    }
}

#[test]
fn every_line_of_the_semantics_tables_names_a_test() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md"))
        .unwrap();
    let lines = page.lines().filter(|line| {
        line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| promise")
    });
    for line in lines {
        assert!(line.matches("::").count() > 0, "no test: {line}");
    }
}
