//! The operations that a mount makes while it opens a volume and clears what a dead one left: a
//! volume for each cell.
//!
//! The volume was left by a process that was killed with an unfinished upload and an object that no
//! metadata names.

use std::time::{Duration, Instant};

use super::{
    Cell, FAULTS, Fault, HANG, HEALED_WITHIN, LASTING, Row, Span, assert_all_hold, run, told,
};
use crate::{
    support::{
        lying::{Kind, Lie, LyingStore, Op, Rule},
        mount::Mount,
        random::noise,
        site::Site,
    },
    world::{Ended, Past, Start, World, at, compare, exit_code, wait_start, write_synced},
};

const ROWS: [Row; 9] = [
    Row {
        name: "HEAD (bucket)",
        ops: &[Op::HeadBucket],
        kinds: &[],
    },
    Row {
        name: "GET (header)",
        ops: &[Op::Get],
        kinds: &[Kind::Header],
    },
    Row {
        name: "GET (metadata)",
        ops: &[Op::Get],
        kinds: &[Kind::Manifest, Kind::Log, Kind::Table],
    },
    Row {
        name: "LIST",
        ops: &[Op::List],
        kinds: &[],
    },
    Row {
        name: "PUT (lease)",
        ops: &[Op::Put],
        kinds: &[Kind::Lease],
    },
    Row {
        name: "PUT (manifest)",
        ops: &[Op::Put],
        kinds: &[Kind::Manifest],
    },
    Row {
        name: "ListUploads",
        ops: &[Op::ListUploads],
        kinds: &[],
    },
    Row {
        name: "Abort",
        ops: &[Op::Abort],
        kinds: &[],
    },
    Row {
        name: "DELETE",
        ops: &[Op::Delete, Op::DeleteMany],
        kinds: &[],
    },
];

/// The exit code that sends people to their copies.
const DAMAGED: i32 = 28;

/// A mount clears what a dead one left in the background, soon after it answers.
const CLEARED_WITHIN: Duration = Duration::from_secs(20);

/// The volume as the dead mount left it, and what its files hold.
struct Ruin {
    past: Past,
    files: Vec<(String, u64, usize)>,
    /// The proxy's place is taken by one for each cell; the site is kept for its passphrase and
    /// directories.
    world: World,
}

fn ruin() -> Ruin {
    let world = World::start();
    let state = world.site.scratch("first-state");
    let mount = world.begin_mount(&state, &[]);
    mount.wait_ready();
    let files: Vec<(String, u64, usize)> = [1000, 200 << 10, 12 << 20]
        .iter()
        .enumerate()
        .map(|(n, len)| (format!("kept-{n}"), n as u64 + 1, *len))
        .collect();
    for (name, seed, len) in &files {
        assert_eq!(
            write_synced(&at(&mount, name), noise(*seed, *len), HEALED_WITHIN),
            Ended::Ok
        );
    }
    // An upload that is never completed, and an object that is never committed.
    let held = world.store.lie(
        Rule::on([Op::Complete])
            .of([Kind::Data])
            .always(Lie::Withhold),
    );
    let uncommitted = world
        .store
        .lie(Rule::on([Op::Put]).of([Kind::Log]).always(Lie::Withhold));
    for (name, len) in [("unfinished", 12 << 20), ("uncommitted", 200 << 10)] {
        assert_eq!(
            write_synced(&at(&mount, name), noise(99, len), Duration::from_secs(2)),
            Ended::Hangs
        );
    }
    assert!(held.wait(HEALED_WITHIN) && uncommitted.wait(HEALED_WITHIN));
    mount.kill();
    let past = world.past();
    Ruin { past, files, world }
}

/// The site whose clients speak to another store.
struct Visit<'a> {
    site: &'a Site,
    store: LyingStore,
}

impl Visit<'_> {
    fn begin_mount(&self, state: &str, options: &[&str]) -> Mount<'_> {
        let state = self.site.scratch(state);
        let endpoint = self.store.endpoint();
        let own = [
            "--state-dir",
            state.to_str().expect("path"),
            "--endpoint-url",
            &endpoint,
            "--takeover",
        ];
        self.site.begin_mount(&[&own, options].concat())
    }
}

fn cell(ruin: &Ruin, row: &Row, fault: Fault, span: Span) -> Cell {
    let mut cell = Cell::new(row, fault);
    let branch = ruin.past.branch();
    let visit = Visit {
        site: &ruin.world.site,
        store: LyingStore::before(branch.address()),
    };
    let name = format!("{}-{}-{span:?}", row.name, fault).replace([' ', '(', ')', ','], "");
    let fired = row.strike(&visit.store, fault, span);
    let patience = HANG * 2
        + HEALED_WITHIN
        + if span == Span::Minute {
            LASTING
        } else {
            Duration::ZERO
        };
    let mut mount = visit.begin_mount(&name, &[]);
    let start = wait_start(&mut mount, patience);
    cell.told = match &start {
        Start::Mounted => "mounted".to_owned(),
        Start::Ended(code) => format!("exit {code}"),
        Start::Hangs => "waits".to_owned(),
    };
    if !fired.wait(CLEARED_WITHIN) {
        cell.wrong("the fault met no request");
    }
    if span == Span::Minute && start == Start::Mounted {
        std::thread::sleep(LASTING);
    }
    if fault == Fault::Hang && start == Start::Mounted {
        // Until the client has noticed.
        std::thread::sleep(HANG);
    }
    cell.fired = fired.count();
    visit.store.heal();
    let began = Instant::now();
    match start {
        Start::Hangs => cell.wrong("the mount neither answers nor ends"),
        Start::Ended(DAMAGED) => cell.wrong("a fault of the moment is called damage"),
        _ => {}
    }
    if start != Start::Mounted {
        drop(mount);
        mount = visit.begin_mount(&name, &[]);
        if wait_start(&mut mount, HEALED_WITHIN) != Start::Mounted {
            cell.wrong("no mount after healing");
            return cell;
        }
    }
    check(&mut cell, ruin, &mount, "in the mount");
    match write_synced(&at(&mount, "after"), noise(7, 300 << 10), HEALED_WITHIN) {
        Ended::Ok => cell.works_after = Some(began.elapsed()),
        ended => cell.wrong(format!("a new file after healing: {}", told(ended))),
    }
    let code = exit_code(mount, Duration::from_secs(100));
    if code != Some(0) {
        cell.wrong(format!("unmount: {code:?}"));
    }
    let mut again = visit.begin_mount(&format!("{name}-elsewhere"), &["--read-only"]);
    match wait_start(&mut again, HEALED_WITHIN) {
        Start::Mounted => {
            check(&mut cell, ruin, &again, "after a remount");
            let holds = compare(&at(&again, "after"), noise(7, 300 << 10), HEALED_WITHIN);
            let acknowledged = cell.works_after.is_some();
            cell.judge("the new file after a remount", acknowledged, holds);
            let _ = exit_code(again, Duration::from_secs(30));
        }
        other => cell.wrong(format!("mount elsewhere: {other:?}")),
    }
    cell
}

fn check(cell: &mut Cell, ruin: &Ruin, mount: &Mount<'_>, when: &str) {
    for (name, seed, len) in &ruin.files {
        let holds = compare(&at(mount, name), noise(*seed, *len), HEALED_WITHIN);
        cell.judge(&format!("{name} {when}"), true, holds);
    }
}

fn cells(chosen: Vec<(Row, Fault)>, span: Span, width: usize) -> Vec<Cell> {
    let ruin = ruin();
    run(
        chosen,
        |(row, fault)| vec![cell(&ruin, row, *fault, span)],
        width,
    )
}

fn all() -> Vec<(Row, Fault)> {
    ROWS.iter()
        .flat_map(|row| FAULTS.iter().map(move |fault| (*row, *fault)))
        .collect()
}

/// Two or three faults a row, another choice in each row: every fault and every row is there.
#[test]
fn a_volume_opens_whole_after_a_fault_at_any_request_of_opening_it() {
    let chosen = all()
        .into_iter()
        .enumerate()
        .filter(|(n, _)| (n % FAULTS.len() + 3 * (n / FAULTS.len())).is_multiple_of(7));
    assert_all_hold(&cells(
        chosen.map(|(_, cell)| cell).collect(),
        Span::Once,
        4,
    ));
}

/// All cells.
pub(super) fn whole(span: Span) -> Vec<Cell> {
    // Minutes are spent waiting.
    cells(all(), span, if span == Span::Once { 4 } else { 16 })
}

/// The rows' names.
pub(super) fn rows() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}
