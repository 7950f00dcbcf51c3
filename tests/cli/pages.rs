//! The tests that docs/semantics.md and docs/security.md name exist.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_named_in_the_semantics_exists() {
    every_named_test_exists("docs/semantics.md", 40);
}

#[test]
fn every_test_named_by_the_security_page_exists() {
    every_named_test_exists("docs/security.md", 30);
}

fn every_named_test_exists(page: &str, at_least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join(page)).unwrap();
    let named: BTreeSet<&str> = page
        .split('`')
        .filter(|word| word.contains("::") && !word.contains(' '))
        .filter(|word| *word != "file::test")
        .collect();
    assert!(
        named.len() > at_least,
        "only {} tests are named",
        named.len()
    );
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
