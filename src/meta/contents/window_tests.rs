//! A window of extents against a model that has one cell per byte.

use proptest::prelude::*;

use super::*;
use crate::meta::schema::ObjectKey;

fn source(object: u64, at: u64) -> RowSource {
    RowSource::Object {
        object: ObjectKey {
            session: 1,
            number: object,
        },
        at,
    }
}

/// For each byte: object and offset.
fn cells(window: &Window) -> Vec<Option<(u64, u64)>> {
    let mut cells = vec![None; 200];
    for (end, row) in &window.edited {
        let RowSource::Object { object, at } = &row.source else {
            panic!("nothing inline")
        };
        for offset in row.start..*end {
            let cell = &mut cells[offset as usize];
            assert!(cell.is_none(), "extents overlap");
            *cell = Some((object.number, at + offset - row.start));
        }
    }
    cells
}

proptest! {
    #[test]
    fn a_window_says_of_every_byte_what_was_last_said(
        ops in prop::collection::vec((0..150u64, 1..50u64, prop::option::of((0..3u64, 0..100u64))), 1..40)
    ) {
        let mut window = Window::new(Ino(20));
        let mut ledger = Ledger::default();
        let mut model = vec![None; 200];
        for (from, len, put) in ops {
            match put {
                Some((object, at)) => window.put(from, from + len, source(object, at), &mut ledger),
                None => window.clear(from, from + len, &mut ledger),
            }
            for offset in from..from + len {
                model[offset as usize] = put.map(|(object, at)| (object, at + offset - from));
            }
            prop_assert_eq!(&cells(&window), &model);
            prop_assert_eq!(window.allocated, model.iter().flatten().count() as i64);
        }
        let rows: Vec<_> = window.edited.iter().collect();
        for pair in rows.windows(2) {
            let [(end, row), (_, next)] = pair else { unreachable!() };
            prop_assert!(!row.continues_into(**end, next) || window.edited.len() > 40, "neighbours that could be one row");
        }
    }
}

#[test]
fn only_differences_are_written() {
    let mut window = Window::new(Ino(20));
    for part in 0..10u64 {
        window.load(
            part * 10 + 5,
            ExtentRow {
                start: part * 10,
                source: source(part, 0),
            },
        );
    }
    let mut change = Change::default();
    window.emit(&mut change);
    assert!(change.is_empty());
    let mut window = Window::new(Ino(20));
    window.load(
        100,
        ExtentRow {
            start: 0,
            source: source(1, 0),
        },
    );
    window.clear(40, 60, &mut Ledger::default());
    // The same row again changes nothing.
    window.load(
        100,
        ExtentRow {
            start: 0,
            source: source(1, 0),
        },
    );
    assert_eq!(
        window
            .edited
            .iter()
            .map(|(end, row)| (row.start, *end))
            .collect::<Vec<_>>(),
        [(0, 40), (60, 100)]
    );
    assert_eq!(window.allocated, -20);
}
