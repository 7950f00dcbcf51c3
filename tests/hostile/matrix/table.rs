//! `docs/fault-matrix.md`, made by the long run and compared with the matrix in every run.

use std::{fmt::Write, fs, path::Path};

use super::{Cell, Span};

const PAGE: &str = "docs/fault-matrix.md";

/// Names the file that the long run writes the table to.
const VARIABLE: &str = "STRONGROOM_FAULT_MATRIX";

const ONCE: &str = "## Once";
const MINUTE: &str = "## For a minute";

/// The page with one of its tables made anew.
fn page_with(page: &str, span: Span, cells: &[Cell]) -> String {
    let (once, minute) = page.split_once(MINUTE).unwrap_or((page, ""));
    let once = once.split_once(ONCE).map_or("", |(_, table)| table).trim();
    let (once, minute) = match span {
        Span::Once => (table(cells), minute.trim().to_owned()),
        Span::Minute => (once.to_owned(), table(cells)),
    };
    format!("{HEAD}\n{ONCE}\n\n{once}\n\n{MINUTE}\n\n{minute}\n")
}

fn table(cells: &[Cell]) -> String {
    let mut table = String::from(
        "| operation | fault | meanwhile | works on after | result |\n|---|---|---|---|---|\n",
    );
    let rows = super::serving::rows().chain(super::opening::rows());
    let ordered = rows.flat_map(|row| {
        let of_row = |fault: &super::Fault| {
            let name = fault.to_string();
            cells
                .iter()
                .find(|cell| cell.row == row && cell.fault == name)
        };
        super::FAULTS.iter().filter_map(of_row).collect::<Vec<_>>()
    });
    for cell in ordered {
        let after = match cell.works_after {
            Some(time) => format!("{} s", time.as_secs() + 1),
            None => "never".to_owned(),
        };
        let result = match cell.faults_found.is_empty() {
            true => "holds".to_owned(),
            false => cell.faults_found.join("; "),
        };
        let (row, fault, told) = (cell.row, &cell.fault, &cell.told);
        let _ = writeln!(table, "| {row} | {fault} | {told} | {after} | {result} |");
    }
    table.trim_end().to_owned()
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
    let (once, minute) = page.split_once(MINUTE).expect("both tables");
    for (name, table) in [("once", once), ("for a minute", minute)] {
        // An hour's work, which may be made later than the other.
        if name == "for a minute" && table.trim().is_empty() {
            continue;
        }
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

    fn whole(span: Span) {
        let mut cells = serving::whole(span);
        cells.extend(opening::whole(span));
        if let Ok(path) = std::env::var(super::VARIABLE) {
            let page = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, super::page_with(&page, span, &cells)).expect("the page");
        }
        assert_all_hold(&cells);
    }

    #[test]
    #[ignore = "ten minutes: run by mount-scripts/test.sh --long"]
    fn the_whole_matrix_holds_once() {
        whole(Span::Once);
    }

    #[test]
    #[ignore = "an hour: run by mount-scripts/test.sh --long"]
    fn the_whole_matrix_holds_for_a_minute() {
        whole(Span::Minute);
    }
}
