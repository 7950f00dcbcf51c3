//! The operations of a mount at work. A row is one volume and one mount; its cells follow one
//! another in it, so that what a fault breaks for good fails all that come after it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Cell, FAULTS, Fault, HANG, HEALED_WITHIN, LASTING, Row, Span, assert_all_hold, run, told,
};
use crate::{
    support::{
        lying::{Fired, Form, Kind, Lie, Op, Rule},
        mount::Mount,
        random::noise,
    },
    world::{Ended, Holds, World, at, compare, exit_code, sync, write_synced},
};

/// Larger than two parts at 128 MiB, so that a file has an upload of its own with three.
const LARGE: usize = 12 << 20;

/// Too large to lie in the metadata, small enough for a pack.
const SMALL: usize = 200 << 10;

/// An unmount gives up by itself before this.
const UNMOUNTED_WITHIN: Duration = Duration::from_secs(200);

/// A request that a cell provokes was made by the time that its caller is told, or very soon after.
const MET_WITHIN: Duration = Duration::from_secs(3);

/// Late requests have come after this.
const BEFORE_COMPLETE: Duration = Duration::from_millis(500);

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

/// The files that a cell wrote, to be looked at again after the remount.
struct Written {
    cell: usize,
    name: String,
    seed: u64,
    len: usize,
    acknowledged: bool,
}

/// A mount whose requests of one kind meet one fault after the other.
struct Serving<'a> {
    world: &'a World,
    row: &'a Row,
    span: Span,
    written: Vec<Written>,
}

/// One row under all these faults.
fn row(row: &Row, faults: &[Fault], span: Span) -> Vec<Cell> {
    let world = World::start();
    let mut mount = world.begin_mount(&world.site.scratch("state"), &[]);
    mount.wait_ready();
    let mut serving = Serving {
        world: &world,
        row,
        span,
        written: Vec::new(),
    };
    let mut cells = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let mut cell = serving.meet(&mount, *fault, index);
        if cell.works_after.is_none() && index + 1 < faults.len() {
            // The next mount shall be judged by itself.
            let code = exit_code(mount, UNMOUNTED_WITHIN);
            cell.wrong(format!("unmount after the failure: {code:?}"));
            let again = world.site.scratch(&format!("state-after-{index}"));
            mount = world.begin_mount(&again, &["--takeover"]);
            mount.wait_ready();
        }
        cells.push(cell);
    }
    let log = mount.log.clone();
    let code = exit_code(mount, UNMOUNTED_WITHIN);
    if code != Some(0)
        && let Some(last) = cells.last_mut()
    {
        last.wrong(format!("unmount: {code:?}"));
    }
    // Another machine: no state, no cache.
    let elsewhere = world.begin_mount(&world.site.scratch("elsewhere"), &["--takeover"]);
    elsewhere.wait_ready();
    for file in &serving.written {
        let contents = noise(file.seed, file.len);
        let holds = compare(&at(&elsewhere, &file.name), contents, HEALED_WITHIN);
        let what = format!("{} after a remount", file.name);
        cells[file.cell].judge(&what, file.acknowledged, holds);
    }
    elsewhere.unmount();
    if cells.iter().any(|cell| !cell.faults_found.is_empty()) {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        eprintln!("--- log of the mount of {}:\n{log}", row.name);
    }
    cells
}

impl Serving<'_> {
    /// The fault meets a request of a file; then it is over, and everything must go on.
    fn meet(&mut self, mount: &Mount<'_>, fault: Fault, index: usize) -> Cell {
        let mut cell = Cell::new(self.row, fault);
        let seed = index as u64 + 1;
        let len = match self.row.ops {
            [Op::Create | Op::UploadPart | Op::Complete | Op::ListParts] => LARGE,
            _ if self.row.kinds == [Kind::Log] => INLINE,
            _ => SMALL,
        };
        let name = format!("struck-{index}");
        let (path, contents) = (at(mount, &name), noise(seed, len));
        let mut acknowledged = self.strike(&mut cell, fault, &path, &contents);
        self.world.store.heal();
        let began = Instant::now();
        // The same file becomes durable, if need be with the second fsync: the first may report
        // what happened before.
        let ended = sync(&path, HEALED_WITHIN);
        acknowledged |= ended == Ended::Ok;
        if ended != Ended::Ok && sync(&path, HEALED_WITHIN) != Ended::Ok {
            cell.wrong(format!("fsync after healing: {}", told(ended)));
        }
        let holds = compare(&path, contents, HEALED_WITHIN);
        cell.judge("the file in the same mount", true, holds);
        self.note(index, name, seed, len, acknowledged);
        let (after, seed) = (format!("after-{index}"), seed + 1000);
        let ended = write_synced(&at(mount, &after), noise(seed, len), HEALED_WITHIN);
        self.note(index, after, seed, len, ended == Ended::Ok);
        match ended {
            Ended::Ok => cell.works_after = Some(began.elapsed()),
            ended => cell.wrong(format!("a new file after healing: {}", told(ended))),
        }
        sync_root(&mount.dir);
        cell
    }

    /// Writes or reads the file under the fault; whether an fsync of it returned 0.
    fn strike(&self, cell: &mut Cell, fault: Fault, path: &Path, contents: &[u8]) -> bool {
        let patience = match self.span {
            Span::Once => HANG * 2 + HEALED_WITHIN,
            Span::Minute => LASTING * 2 + HEALED_WITHIN,
        };
        let acknowledged;
        let fired;
        if self.row.ops == [Op::Get] {
            acknowledged = write_synced(path, contents.to_vec(), patience) == Ended::Ok;
            fired = self.provoke(fault);
            cell.told = match compare(path, contents.to_vec(), patience) {
                Holds::Right => "ok".to_owned(),
                Holds::Errno(errno) => told(Ended::Errno(errno)),
                Holds::Hangs => told(Ended::Hangs),
                other => {
                    cell.wrong(format!("a read under the fault: {other:?}"));
                    format!("{other:?}")
                }
            };
        } else {
            fired = self.provoke(fault);
            let ended = write_synced(path, contents.to_vec(), patience);
            acknowledged = ended == Ended::Ok;
            cell.told = told(ended);
        }
        if !fired.wait(MET_WITHIN) {
            cell.wrong("the fault met no request");
        }
        cell.fired = fired.count();
        acknowledged
    }

    /// The fault, and what it needs to matter: for HEAD a conditional PUT whose answer was lost;
    /// for ListParts a part that comes late, so that completing the upload fails. Whenever parts
    /// come late, they come before the upload is completed.
    fn provoke(&self, fault: Fault) -> Fired {
        let store = &self.world.store;
        let fired = self.row.strike(store, fault, self.span);
        let once = |ops: [Op; 1], lie| drop(store.lie(Rule::on(ops).once(lie)));
        match self.row.ops {
            [Op::Head] => once([Op::Put], Lie::ResetAfter),
            [Op::ListParts] => {
                once([Op::UploadPart], Lie::Overtaken);
                once([Op::Complete], Lie::Hang(BEFORE_COMPLETE));
            }
            [Op::UploadPart] => once([Op::Complete], Lie::Hang(BEFORE_COMPLETE)),
            _ => {}
        }
        fired
    }

    fn note(&mut self, cell: usize, name: String, seed: u64, len: usize, acknowledged: bool) {
        self.written.push(Written {
            cell,
            name,
            seed,
            len,
            acknowledged,
        });
    }
}

fn sync_root(dir: &Path) {
    let dir = dir.to_owned();
    let _ = crate::world::within(HEALED_WITHIN, move || crate::world::sync_dir(&dir));
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
