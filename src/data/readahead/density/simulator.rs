//! The policy beside readers that know the future: bytes, requests and time for what programs read,
//! on near and far links, with room for all of it and for a third.
//!
//! The link brings so many bytes a second, shared by all requests under way; each begins after the
//! latency. A reader reads one thing after the other, 20 us each beside what it waits for. Fetched
//! frames stay until they are the least recently used.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
};

use super::{
    Density, Miss, REGION_MIN_LOG2,
    hindsight::{distinct, fastest, in_hindsight},
    requests::{Sizes, requests},
    simulated::{Cache, FRAME, Place, READ_US, Tally, object_id},
    traces::{self, Trace},
};
use crate::data::frames::Cost;

/// As the mount has it with `--memory 256MiB`.
const REQUESTS_MAX: usize = 16;

/// Milliseconds until the first byte, and MB a second.
const LINKS: [(f64, f64); 6] = [
    (0.2, 50.0),
    (0.2, 1000.0),
    (20.0, 50.0),
    (20.0, 1000.0),
    (100.0, 50.0),
    (100.0, 1000.0),
];

/// Frames of the largest memory that is simulated: a GiB.
const MEMORY_MAX: u64 = 4 * traces::OBJECT;

/// A request under way.
struct Flow {
    object: usize,
    frames: Range<u64>,
    missed: Range<u64>,
    starts_us: f64,
    /// Of the frame that is on its way.
    left_bytes: f64,
    /// One of those that bring the rest of a region.
    is_along: bool,
}

struct Reader {
    cost: Cost,
    now_us: f64,
    cache: Cache,
    flows: Vec<Flow>,
    waiting: VecDeque<(usize, Range<u64>)>,
    sizes: Sizes,
    tally: Tally,
}

impl Reader {
    fn start(&mut self, object: usize, frames: Range<u64>, missed: Range<u64>, is_along: bool) {
        self.tally.requests += 1;
        self.tally.bytes += (frames.end - frames.start) * FRAME;
        let coming = self
            .flows
            .iter()
            .map(|flow| flow.frames.end - flow.frames.start);
        let coming = coming.sum::<u64>() + frames.end - frames.start;
        self.cache.evict(coming as usize);
        self.flows.push(Flow {
            object,
            frames,
            missed,
            starts_us: self.now_us + self.cost.latency_us,
            left_bytes: FRAME as f64,
            is_along,
        });
    }

    fn fill(&mut self) {
        while let Some((object, mut frames)) = self.waiting.pop_front() {
            let along = self.flows.iter().filter(|flow| flow.is_along);
            let under_way: u64 = along
                .clone()
                .map(|flow| flow.frames.end - flow.frames.start)
                .sum();
            let is_full = under_way + frames.end - frames.start > self.sizes.under_way;
            if along.clone().next().is_some() && (is_full || along.count() >= REQUESTS_MAX) {
                self.waiting.push_front((object, frames));
                return;
            }
            let is_here =
                |frame: u64| self.cache.is_here((object, frame)) || self.is_coming((object, frame));
            while !frames.is_empty() && is_here(frames.start) {
                frames.start += 1;
            }
            while !frames.is_empty() && is_here(frames.end - 1) {
                frames.end -= 1;
            }
            if !frames.is_empty() {
                self.start(object, frames, 0..0, true);
            }
        }
    }

    fn is_coming(&self, place: Place) -> bool {
        let brings = |flow: &Flow| flow.object == place.0 && flow.frames.contains(&place.1);
        self.flows.iter().any(brings)
    }

    fn take_queued(&mut self, place: Place) -> Option<Range<u64>> {
        let brings = |(object, frames): &(usize, Range<u64>)| {
            *object == place.0 && frames.contains(&place.1)
        };
        let index = self.waiting.iter().position(brings)?;
        self.waiting.remove(index).map(|(_, frames)| frames)
    }

    /// To the next frame that arrives, or request that begins to, at most until `until_us`.
    fn step(&mut self, until_us: f64) {
        let active = self
            .flows
            .iter()
            .filter(|flow| flow.starts_us <= self.now_us)
            .count();
        let rate = self.cost.bandwidth / active.max(1) as f64;
        let mut next_us = until_us;
        for flow in &self.flows {
            let at = match flow.starts_us <= self.now_us {
                true => self.now_us + flow.left_bytes / rate,
                false => flow.starts_us,
            };
            next_us = next_us.min(at);
        }
        let passed = next_us - self.now_us;
        let (now, mut arrived) = (self.now_us, Vec::new());
        for flow in self.flows.iter_mut().filter(|flow| flow.starts_us <= now) {
            flow.left_bytes -= passed * rate;
            if flow.left_bytes < 1.0 {
                let frame = flow.frames.start;
                arrived.push(((flow.object, frame), !flow.missed.contains(&frame)));
                flow.frames.start += 1;
                flow.left_bytes = FRAME as f64;
            }
        }
        self.now_us = next_us;
        self.flows.retain(|flow| !flow.frames.is_empty());
        arrived
            .into_iter()
            .for_each(|(place, is_unread)| self.cache.put(place, is_unread));
        self.fill();
    }

    fn pass(&mut self, us: f64) {
        let until = self.now_us + us;
        while self.now_us < until {
            self.step(until);
        }
    }
}

/// The reader that follows the policy.
fn with_policy(trace: &Trace, cost: Cost, capacity: usize) -> Tally {
    let mut density = Density::new(REGION_MIN_LOG2);
    let mut reader = Reader {
        cost,
        now_us: 0.0,
        cache: Cache::new(capacity),
        flows: Vec::new(),
        waiting: VecDeque::new(),
        sizes: Sizes::new(capacity as u64 * FRAME, cost.is_far(), FRAME),
        tally: Tally::default(),
    };
    for (object, frames) in &trace.reads {
        let object = *object;
        let absent = |reader: &Reader| {
            let is_absent = |frame: &u64| {
                !reader.cache.is_here((object, *frame)) && !reader.is_coming((object, *frame))
            };
            let first = frames.clone().find(is_absent)?;
            let end = (first..frames.end).find(|frame| !is_absent(frame));
            Some(first..end.unwrap_or(frames.end))
        };
        while let Some(missed) = absent(&reader) {
            let miss = Miss {
                object: object_id(object),
                frames: missed.clone(),
                object_frames: trace.objects[object],
                frame_len: FRAME,
                was_evicted: reader.cache.evicted.take((object_id(object), missed.start)),
            };
            let region = if let Some(queued) = reader.take_queued((object, missed.start)) {
                queued.start.min(missed.start)..queued.end.max(missed.end)
            } else {
                let outcome = std::mem::take(&mut reader.cache.outcome);
                density.on_miss(&miss, &cost, capacity as u64 * FRAME, outcome)
            };
            let is_here =
                |frame| reader.cache.is_here((object, frame)) || reader.is_coming((object, frame));
            let asked = requests(&region, &miss, &cost, reader.sizes, is_here);
            reader.start(object, asked.first, missed, false);
            asked
                .then
                .into_iter()
                .rev()
                .for_each(|piece| reader.waiting.push_front((object, piece)));
            reader.fill();
        }
        for frame in frames.clone() {
            while !reader.cache.read((object, frame)) && reader.is_coming((object, frame)) {
                reader.step(f64::INFINITY);
            }
        }
        reader.pass(READ_US);
    }
    let mut tally = reader.tally;
    tally.us = reader.now_us;
    // Pieces that still wait are counted too.
    tally.bytes += reader
        .waiting
        .iter()
        .map(|(_, piece)| (piece.end - piece.start) * FRAME)
        .sum::<u64>();
    tally
}

struct Row {
    trace: &'static str,
    latency_ms: f64,
    bandwidth: f64,
    fits: &'static str,
    least_bytes: u64,
    policy: Tally,
    hindsight: Tally,
}

fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    for trace in traces::all() {
        let wanted = distinct(&trace);
        let touched: HashSet<usize> = wanted.iter().map(|place| place.0).collect();
        let all: u64 = touched.iter().map(|object| trace.objects[*object]).sum();
        let all = all.min(MEMORY_MAX) as usize;
        for (fits, capacity) in [("all", all), ("a third", wanted.len() / 3)] {
            let hindsight = in_hindsight(&trace, capacity, &wanted);
            for (latency_ms, bandwidth) in LINKS {
                let cost = Cost {
                    latency_us: latency_ms * 1000.0,
                    bandwidth,
                };
                rows.push(Row {
                    trace: trace.name,
                    latency_ms,
                    bandwidth,
                    fits,
                    least_bytes: wanted.len() as u64 * FRAME,
                    policy: with_policy(&trace, cost, capacity),
                    hindsight: fastest(&hindsight, trace.reads.len(), &cost),
                });
            }
        }
    }
    rows
}

impl Row {
    fn bytes_ratio(&self) -> f64 {
        self.policy.bytes as f64 / self.hindsight.bytes as f64
    }

    fn time_ratio(&self) -> f64 {
        self.policy.us / self.hindsight.us
    }

    /// A cell of the table: MiB moved, requests and seconds, and what part or multiple of
    /// hindsight's bytes and time these are.
    fn cell(&self) -> String {
        format!(
            "{:.0}, {}, {:.2} ({:.1}; {:.1})",
            self.policy.bytes as f64 / (1 << 20) as f64,
            self.policy.requests,
            self.policy.us / 1e6,
            self.bytes_ratio(),
            self.time_ratio()
        )
    }
}

fn print(rows: &[Row]) {
    let link = |(latency_ms, bandwidth)| format!("{latency_ms} ms, {bandwidth} MB/s");
    let links: Vec<String> = LINKS.into_iter().map(link).collect();
    println!(
        "| what is read | MiB of it | memory for | {} |",
        links.join(" | ")
    );
    println!("|---|---|---|{}", "---|".repeat(LINKS.len()));
    for of_trace in rows.chunks(LINKS.len()) {
        let cells: Vec<String> = of_trace.iter().map(Row::cell).collect();
        println!(
            "| {} | {} | {} | {} |",
            of_trace[0].trace,
            of_trace[0].least_bytes >> 20,
            of_trace[0].fits,
            cells.join(" | ")
        );
    }
}

/// With `--no-capture` this prints the table of `docs/benchmarks.md`.
#[test]
fn no_trace_costs_more_than_three_times_what_hindsight_would() {
    let rows = table();
    print(&rows);
    let worst: HashMap<_, _> = rows
        .iter()
        .filter(|row| row.bytes_ratio() > 3.0 || row.time_ratio() > 3.0)
        .map(|row| {
            (
                (
                    row.trace,
                    row.fits,
                    row.latency_ms as u64,
                    row.bandwidth as u64,
                ),
                (row.bytes_ratio(), row.time_ratio()),
            )
        })
        .collect();
    assert!(
        worst.is_empty(),
        "{} of {}: {worst:#?}",
        worst.len(),
        rows.len()
    );
}

/// 4 KiB each, of which a frame is 16 times as much.
#[test]
fn reads_all_over_a_huge_file_move_little_more_than_their_frames() {
    for (gib, reads) in [(16, 600), (16, 2_400), (16, 12_000), (100, 6_000)] {
        let trace = traces::uniform("huge", gib * 4 * traces::OBJECT, reads);
        for memory_mib in [100, 700] {
            for (latency_ms, bandwidth) in [(0.2, 1000.0), (20.0, 500.0), (100.0, 1000.0)] {
                let cost = Cost {
                    latency_us: latency_ms * 1000.0,
                    bandwidth,
                };
                let tally = with_policy(&trace, cost, memory_mib * traces::MIB as usize);
                let moved = tally.bytes as f64 / (reads as f64 * 4096.0);
                println!(
                    "{gib} GiB, {reads} reads, {memory_mib} MiB, {latency_ms} ms, {bandwidth} MB/s: {moved:.2} times"
                );
                assert!(moved <= 20.0, "{moved}");
            }
        }
    }
}
