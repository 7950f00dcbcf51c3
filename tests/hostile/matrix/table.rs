//! `docs/fault-matrix.md`, made by the long run and compared with the matrix in every run.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use super::{Cell, Span};

const PAGE: &str = "docs/fault-matrix.md";

/// Names the file that the long run writes the table to.
const VARIABLE: &str = "STRONGROOM_FAULT_MATRIX";

fn page(cells: &[Cell]) -> String {
    let mut page = String::from(HEAD);
    let mut rows: BTreeMap<(u8, &str), Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        let order = if cell.span == Span::Once { 0 } else { 1 };
        rows.entry((order, cell.row)).or_default().push(cell);
    }
    for (order, title) in [(0, "## Once"), (1, "## For a minute")] {
        let _ = writeln!(page, "\n{title}\n");
        let _ = writeln!(
            page,
            "| operation | fault | meanwhile | works on after | result |"
        );
        let _ = writeln!(page, "|---|---|---|---|---|");
        for ((_, row), cells) in rows.iter().filter(|((at, _), _)| *at == order) {
            for cell in cells {
                let after = cell.works_after.map_or("never".to_owned(), |time| {
                    format!("{} s", time.as_secs() + 1)
                });
                let result = match cell.faults_found.is_empty() {
                    true => "holds".to_owned(),
                    false => cell.faults_found.join("; "),
                };
                let _ = writeln!(
                    page,
                    "| {row} | {} | {} | {after} | {result} |",
                    cell.fault, cell.told
                );
            }
        }
    }
    page
}

const HEAD: &str = "\
# The fault matrix

Each fault at each operation of S3, once and for a minute, between the real binary and a store that otherwise works. Made by
`STRONGROOM_FAULT_MATRIX=docs/fault-matrix.md` and the long runs of `tests/hostile` (`mount-scripts/test.sh --long`).

*Meanwhile* is what the caller was told while the fault was in force: what `fsync` returned (`ok` after waiting, or an error, after
which the file is still kept and tried again), what a read returned, or how `mount` ended. *Works on after* is the time from the fault's end until the same file was
synced and a new file was written, synced and acknowledged in the same mount (in a new one, where `mount` had ended). A cell **holds** if then every file whose fsync returned 0 has its
contents after a remount on another machine, no file fails for good, and the unmount ends with 0.
";

#[test]
fn the_page_has_every_cell_of_the_matrix_and_each_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(path).expect(PAGE);
    let (once, minute) = page.split_once("## For a minute").expect("both tables");
    for (name, table) in [("once", once), ("for a minute", minute)] {
        for row in super::serving::rows().chain(super::opening::rows()) {
            for fault in super::FAULTS {
                let begins = format!("| {row} | {fault} |");
                let line = table.lines().find(|line| line.starts_with(&begins));
                let line = line.unwrap_or_else(|| panic!("{begins} is missing, {name}"));
                assert!(line.ends_with("| holds |"), "{line}");
            }
        }
    }
}

mod long {
    use super::super::{Span, assert_all_hold, opening, serving};

    #[test]
    #[ignore = "an hour: run by mount-scripts/test.sh --long"]
    fn the_whole_matrix_holds() {
        let mut cells = serving::whole(Span::Once);
        cells.extend(opening::whole(Span::Once));
        cells.extend(serving::whole(Span::Minute));
        cells.extend(opening::whole(Span::Minute));
        if let Ok(path) = std::env::var(super::VARIABLE) {
            std::fs::write(path, super::page(&cells)).expect("the page");
        }
        assert_all_hold(&cells);
    }
}
