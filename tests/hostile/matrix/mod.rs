//! The fault matrix: each fault at each operation of S3, once and for a minute; what became of the
//! files.
//!
//! A cell holds if, after the fault is over,
//! - every file whose fsync returned 0 has its contents after a remount elsewhere,
//! - no file fails with EIO for good, neither in this mount nor in the next,
//! - the mount works on: a new file is written, synced and read,
//! - the unmount ends with 0.
//!
//! `opening` has the operations that only a mount makes, `serving` those of a mount at work,
//! `table` makes `docs/fault-matrix.md`: `STRONGROOM_FAULT_MATRIX=docs/fault-matrix.md` with the
//! long run.

mod opening;
mod serving;
mod table;

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    support::lying::{Fired, Form, Kind, Lie, LyingStore, Op, Rule},
    world::{Ended, Holds},
};

/// A fault, by what the client sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Refused(u16, Form),
    /// Although the server acted.
    RefusedAfter(u16, Form),
    ResetBefore,
    ResetAfter,
    Hang,
    LateDuplicate,
    /// Not asked for by any list, but what a timeout makes of a slow network.
    Overtaken,
}

const FAULTS: [Fault; 22] = [
    Fault::Refused(404, Form::Code("NoSuchKey")),
    Fault::Refused(404, Form::Code("NoSuchUpload")),
    Fault::Refused(404, Form::Foreign),
    Fault::Refused(404, Form::Empty),
    Fault::Refused(400, Form::Code("InvalidRequest")),
    Fault::Refused(401, Form::Code("Unauthorized")),
    Fault::Refused(403, Form::Code("AccessDenied")),
    Fault::Refused(405, Form::Code("MethodNotAllowed")),
    Fault::Refused(409, Form::Code("OperationAborted")),
    Fault::Refused(411, Form::Code("MissingContentLength")),
    Fault::Refused(412, Form::Code("PreconditionFailed")),
    Fault::Refused(500, Form::Code("InternalError")),
    Fault::Refused(501, Form::Code("NotImplemented")),
    Fault::Refused(503, Form::Code("SlowDown")),
    Fault::Refused(507, Form::Code("InsufficientStorage")),
    Fault::RefusedAfter(404, Form::Code("NoSuchUpload")),
    Fault::RefusedAfter(500, Form::Code("InternalError")),
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::Hang,
    Fault::LateDuplicate,
    Fault::Overtaken,
];

/// Longer than the client waits without progress (20 s), so that it tries again while the first try
/// is still on its way.
const HANG: Duration = Duration::from_secs(23);

/// The long run's faults last this long.
const LASTING: Duration = Duration::from_secs(60);

/// Everything must go on within this time after healing: the longest pause between two tries is 10
/// s.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(status, Form::Code(code)) => write!(f, "{status} {code}"),
            Fault::Refused(status, Form::Foreign) => write!(f, "{status}, another body"),
            Fault::Refused(status, Form::Empty) => write!(f, "{status}, no body"),
            Fault::RefusedAfter(status, _) => write!(f, "{status} after the server acted"),
            Fault::ResetBefore => f.write_str("reset before the server acted"),
            Fault::ResetAfter => f.write_str("reset after the server acted"),
            Fault::Hang => f.write_str("hang"),
            Fault::LateDuplicate => f.write_str("late duplicate"),
            Fault::Overtaken => f.write_str("overtaken by its own retry"),
        }
    }
}

impl Fault {
    fn lie(self, span: Span) -> Lie {
        match self {
            Fault::Refused(status, form) => Lie::Refuse(status, form),
            Fault::RefusedAfter(status, form) => Lie::RefuseAfter(status, form),
            Fault::ResetBefore => Lie::ResetBefore,
            Fault::ResetAfter => Lie::ResetAfter,
            Fault::Hang => Lie::Hang(if span == Span::Once { HANG } else { LASTING }),
            Fault::LateDuplicate => Lie::LateDuplicate,
            Fault::Overtaken => Lie::Overtaken,
        }
    }
}

/// The duration of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// One request.
    Once,
    /// All requests of the kind for a minute.
    Minute,
}

/// An operation of S3 on a kind of object: a row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub ops: &'static [Op],
    pub kinds: &'static [Kind],
}

impl Row {
    fn rule(&self) -> Rule {
        Rule::on(self.ops).of(self.kinds)
    }

    /// Puts the fault in force.
    fn strike(&self, store: &LyingStore, fault: Fault, span: Span) -> Fired {
        let lie = fault.lie(span);
        store.lie(match span {
            Span::Once => self.rule().once(lie),
            Span::Minute => self.rule().lasting(LASTING, lie),
        })
    }
}

/// The outcome of a cell.
#[derive(Clone, Debug)]
pub struct Cell {
    pub row: &'static str,
    pub fault: String,
    /// Requests that the fault met.
    pub fired: u64,
    /// The answer that the caller (or the mount) got while the fault was in force.
    pub told: String,
    /// Time after healing until the mount worked on.
    pub works_after: Option<Duration>,
    /// Broken promises; empty if the cell holds.
    pub faults_found: Vec<String>,
}

impl Cell {
    fn new(row: &Row, fault: Fault) -> Cell {
        Cell {
            row: row.name,
            fault: fault.to_string(),
            fired: 0,
            told: String::new(),
            works_after: None,
            faults_found: Vec::new(),
        }
    }

    fn wrong(&mut self, what: impl Into<String>) {
        self.faults_found.push(what.into());
    }

    /// A file whose fsync ended so must hold what was written, or, if it was never acknowledged, at
    /// least not fail.
    fn judge(&mut self, what: &str, acknowledged: bool, holds: Holds) {
        let fine = match holds {
            Holds::Right => true,
            Holds::Shorter | Holds::Missing => !acknowledged,
            Holds::Wrong | Holds::Errno(_) | Holds::Hangs => false,
        };
        if !fine {
            let claim = if acknowledged {
                "acknowledged"
            } else {
                "not acknowledged"
            };
            self.wrong(format!("{what} ({claim}): {holds:?}"));
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row, fault, told) = (self.row, &self.fault, &self.told);
        write!(
            f,
            "{row:18} {fault:32} met {:3}  told: {told:24}",
            self.fired
        )?;
        match self.works_after {
            Some(time) => write!(f, "  works after {:4.1} s", time.as_secs_f32())?,
            None => write!(f, "  does not work on")?,
        }
        match self.faults_found.is_empty() {
            true => write!(f, "  holds"),
            false => write!(f, "  FAILS: {}", self.faults_found.join("; ")),
        }
    }
}

fn told(ended: Ended) -> String {
    match ended {
        Ended::Ok => "ok".to_owned(),
        Ended::Errno(errno) => nix::errno::Errno::from_raw(errno).to_string(),
        Ended::Hangs => "waits".to_owned(),
    }
}

/// Runs rows in parallel, and says of each cell what became of it. All must hold, and the fault
/// must have met a request in each.
fn run<R: Send + Sync>(
    rows: Vec<R>,
    work: impl Fn(&R) -> Vec<Cell> + Sync,
    width: usize,
) -> Vec<Cell> {
    let waiting = Mutex::new(rows);
    let cells = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(|| {
                while let Some(row) = { waiting.lock().unwrap().pop() } {
                    let done = work(&row);
                    for cell in &done {
                        eprintln!("{:6.1} s  {cell}", began.elapsed().as_secs_f32());
                    }
                    cells.lock().unwrap().extend(done);
                }
            });
        }
    });
    cells.into_inner().unwrap()
}

fn assert_all_hold(cells: &[Cell]) {
    let failed: Vec<String> = cells
        .iter()
        .filter(|cell| !cell.faults_found.is_empty())
        .map(ToString::to_string)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} cells fail:\n{}",
        failed.len(),
        cells.len(),
        failed.join("\n")
    );
}
