//! The operations of a mount at work. A row is one volume and one mount; its cells follow one another in it, so that what a fault
//! breaks for good fails all that come after it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Cell, FAULTS, Fault, HANG, HEALED_WITHIN, LASTING, Row, Span, assert_all_hold, run, told,
};
use crate::{
    harness::Mount,
    lying::{Fired, Form, Kind, Lie, Op, Rule},
    tree::noise,
    world::{Ended, World, at, compare, exit_code, sync, write_synced},
};

/// Larger than two parts at 128 MiB, so that a file has an upload of its own with three.
const LARGE: usize = 12 << 20;

/// Too large to lie in the metadata, small enough for a pack.
const SMALL: usize = 200 << 10;

/// Small enough to lie in the metadata: fsync is one PUT of the log.
const INLINE: usize = 1000;

const ROWS: [Row; 8] = [
    Row {
        name: "PUT (data)",
        ops: &[Op::Put],
        kinds: &[Kind::Data],
    },
    Row {
        name: "PUT (log)",
        ops: &[Op::Put],
        kinds: &[Kind::Log],
    },
    Row {
        name: "Create",
        ops: &[Op::Create],
        kinds: &[Kind::Data],
    },
    Row {
        name: "UploadPart",
        ops: &[Op::UploadPart],
        kinds: &[Kind::Data],
    },
    Row {
        name: "Complete",
        ops: &[Op::Complete],
        kinds: &[Kind::Data],
    },
    Row {
        name: "ListParts",
        ops: &[Op::ListParts],
        kinds: &[Kind::Data],
    },
    Row {
        name: "GET (data)",
        ops: &[Op::Get],
        kinds: &[Kind::Data],
    },
    Row {
        name: "HEAD (log)",
        ops: &[Op::Head],
        kinds: &[Kind::Log],
    },
];

/// What a cell wrote, to be looked at again after the remount.
struct Written {
    cell: usize,
    name: String,
    contents: (u64, usize),
    acknowledged: bool,
}

/// One row under all these faults.
fn row(row: &Row, faults: &[Fault], span: Span) -> Vec<Cell> {
    let world = World::start();
    let state = world.site.scratch("state");
    let mut mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    let mut cells = Vec::new();
    let mut written = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let mut cell = Cell::new(row, *fault, span);
        let seed = index as u64 + 1;
        meet(
            &world,
            &mount,
            row,
            *fault,
            span,
            seed,
            &mut cell,
            &mut written,
        );
        if cell.works_after.is_none() && index + 1 < faults.len() {
            // What comes next shall be judged by itself.
            let code = exit_code(mount, Duration::from_secs(200));
            cell.wrong(format!("unmount after the failure: {code:?}"));
            let again = world.site.scratch(&format!("state-after-{index}"));
            mount = world.begin_mount(&again, &["--takeover"]);
            mount.wait_ready();
        }
        cells.push(cell);
    }
    let code = exit_code(mount, Duration::from_secs(200));
    if code != Some(0)
        && let Some(last) = cells.last_mut()
    {
        last.wrong(format!("unmount: {code:?}"));
    }
    // Another machine: no state, no cache.
    let elsewhere = world.begin_mount(&world.site.scratch("elsewhere"), &["--takeover"]);
    elsewhere.wait_ready();
    for file in &written {
        let (seed, len) = file.contents;
        let holds = compare(&at(&elsewhere, &file.name), noise(seed, len), HEALED_WITHIN);
        let what = format!("{} after a remount", file.name);
        cells[file.cell].judge(&what, file.acknowledged, holds);
    }
    elsewhere.unmount();
    cells
}

#[allow(clippy::too_many_arguments)]
fn meet(
    world: &World,
    mount: &Mount<'_>,
    row: &Row,
    fault: Fault,
    span: Span,
    seed: u64,
    cell: &mut Cell,
    written: &mut Vec<Written>,
) {
    let patience = match span {
        Span::Once => HANG * 2 + HEALED_WITHIN,
        Span::Minute => LASTING * 2 + HEALED_WITHIN,
    };
    let index = (seed - 1) as usize;
    let mut note = |name: String, contents, acknowledged| {
        written.push(Written {
            cell: index,
            name,
            contents,
            acknowledged,
        });
    };
    let len = match row.ops {
        [Op::Create | Op::UploadPart | Op::Complete | Op::ListParts] => LARGE,
        _ if row.kinds == [Kind::Log] => INLINE,
        _ => SMALL,
    };
    let name = format!("struck-{index}");
    let path = at(mount, &name);
    let contents = noise(seed, len);
    let fired;
    let mut acknowledged = false;
    if row.ops == [Op::Get] {
        acknowledged = write_synced(&path, contents.clone(), patience) == Ended::Ok;
        fired = strike(world, row, fault, span);
        cell.told = match compare(&path, contents.clone(), patience) {
            crate::world::Holds::Right => "ok".to_owned(),
            crate::world::Holds::Errno(errno) => told(Ended::Errno(errno)),
            crate::world::Holds::Hangs => "waits".to_owned(),
            other => {
                cell.wrong(format!("a read under the fault: {other:?}"));
                format!("{other:?}")
            }
        };
    } else {
        fired = strike(world, row, fault, span);
        let ended = write_synced(&path, contents.clone(), patience);
        acknowledged |= ended == Ended::Ok;
        cell.told = told(ended);
    }
    if !fired.wait(Duration::from_secs(3)) {
        cell.wrong("the fault met no request");
    }
    cell.fired = fired.count();
    world.store.heal();
    let began = Instant::now();
    // The same file becomes durable, and a new one.
    let ended = sync(&path, HEALED_WITHIN);
    acknowledged |= ended == Ended::Ok;
    if ended != Ended::Ok && sync(&path, HEALED_WITHIN) != Ended::Ok {
        cell.wrong(format!("fsync after healing: {}", told(ended)));
    }
    let holds = compare(&path, contents, HEALED_WITHIN);
    cell.judge("the file in the same mount", true, holds);
    note(name, (seed, len), acknowledged);
    let after = format!("after-{index}");
    let ended = write_synced(&at(mount, &after), noise(seed + 1000, len), HEALED_WITHIN);
    note(after.clone(), (seed + 1000, len), ended == Ended::Ok);
    match ended {
        Ended::Ok => cell.works_after = Some(began.elapsed()),
        ended => cell.wrong(format!("a new file after healing: {}", told(ended))),
    }
    sync_root(&mount.dir);
}

fn sync_root(dir: &Path) {
    let dir = dir.to_owned();
    let _ = crate::world::within(HEALED_WITHIN, move || crate::world::sync_dir(&dir));
}

/// The fault, and what makes the client ask: for HEAD a conditional PUT whose answer was lost, for ListParts a part that came
/// late, so that completing the upload fails.
fn strike(world: &World, row: &Row, fault: Fault, span: Span) -> Fired {
    let fired = row.strike(&world.store, fault, span);
    let lie = |rule: Rule, lie| drop(world.store.lie(rule.once(lie)));
    match row.ops {
        [Op::Head] => lie(Rule::on([Op::Put]).of([Kind::Log]), Lie::ResetAfter),
        [Op::ListParts] => lie(Rule::on([Op::UploadPart]), Lie::Overtaken),
        _ => {}
    }
    fired
}

/// Each row with each third fault, shifted from row to row: every fault and every row is there.
#[test]
fn what_was_acknowledged_survives_a_fault_at_any_request_of_a_mount() {
    let rows = ROWS.iter().enumerate().collect();
    let cells = run(
        rows,
        |(index, this)| {
            let mine = FAULTS
                .iter()
                .enumerate()
                .filter(|(n, _)| (n + index) % 3 == 0);
            let mine: Vec<Fault> = mine.map(|(_, fault)| *fault).collect();
            row(this, &mine, Span::Once)
        },
        4,
    );
    assert_all_hold(&cells);
}

/// The forms of 404 that once lost data, at each request of an upload: always all of them.
#[test]
fn a_stray_404_to_a_request_of_an_upload_costs_nothing() {
    let strays = [
        Fault::Refused(404, Form::Code("NoSuchKey")),
        Fault::Refused(404, Form::Code("NoSuchUpload")),
        Fault::Refused(404, Form::Empty),
    ];
    let rows = ROWS[..5].to_vec();
    let cells = run(rows, |this| row(this, &strays, Span::Once), 5);
    assert_all_hold(&cells);
}

/// All cells.
pub(super) fn whole(span: Span) -> Vec<Cell> {
    let cells = run(ROWS.to_vec(), |this| row(this, &FAULTS, span), ROWS.len());
    assert_eq!(cells.len(), ROWS.len() * FAULTS.len());
    cells
}

/// The rows' names.
pub(super) fn rows() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}
