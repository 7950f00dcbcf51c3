//! Counts of the events in a simulation.

use std::fmt;

#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub seeds: u64,
    pub operations: u64,
    pub syncs: u64,
    pub reads: u64,
    pub requests: u64,
    pub faults: u64,
    pub late: u64,
    pub outages: u64,
    pub crashes: u64,
    pub unmounts: u64,
    pub takeovers: u64,
    pub followers: u64,
    pub checks: u64,
    /// Operations on extended attributes.
    pub attributes: u64,
    /// Files whose close waited until they were durable.
    pub closes: u64,
    /// Writes that waited for memory.
    pub waits: u64,
    /// Reads of metadata that were answered 404.
    pub strays: u64,
    /// Bytes of scattered files that were read to be put in order.
    pub defragmented_bytes: u64,
    /// Crashes of mounts that had put something in order.
    pub crashes_after_tidying: u64,
    /// Bytes that were read to be repacked.
    pub repacked_bytes: u64,
    /// Slices of files that were written at random.
    pub slices: u64,
    /// Pages of large files that were overwritten.
    pub overwritten_pages: u64,
    /// Seconds that the simulated clock went on.
    pub simulated_seconds: u64,
}

const NAMES: [&str; 23] = [
    "seeds",
    "operations",
    "syncs",
    "reads",
    "requests",
    "faults",
    "late requests",
    "outages",
    "crashes",
    "unmounts",
    "takeovers",
    "followers",
    "checks of the whole tree",
    "operations on attributes",
    "closes that wait",
    "writes that wait for memory",
    "stray answers",
    "bytes put in order",
    "crashes of mounts that did so",
    "bytes repacked",
    "slices",
    "pages overwritten",
    "simulated seconds",
];

impl Stats {
    fn numbers(&mut self) -> [&mut u64; 23] {
        [
            &mut self.seeds,
            &mut self.operations,
            &mut self.syncs,
            &mut self.reads,
            &mut self.requests,
            &mut self.faults,
            &mut self.late,
            &mut self.outages,
            &mut self.crashes,
            &mut self.unmounts,
            &mut self.takeovers,
            &mut self.followers,
            &mut self.checks,
            &mut self.attributes,
            &mut self.closes,
            &mut self.waits,
            &mut self.strays,
            &mut self.defragmented_bytes,
            &mut self.crashes_after_tidying,
            &mut self.repacked_bytes,
            &mut self.slices,
            &mut self.overwritten_pages,
            &mut self.simulated_seconds,
        ]
    }

    pub fn add(&mut self, mut other: Stats) {
        for (mine, others) in self.numbers().into_iter().zip(other.numbers()) {
            *mine += *others;
        }
    }

    /// The counts as one line for the process that started this one.
    pub fn encode(mut self) -> String {
        let numbers = self.numbers().map(|number| number.to_string());
        numbers.join(" ")
    }

    pub fn decode(line: &str) -> Option<Stats> {
        let mut stats = Stats::default();
        let mut numbers = line.split(' ');
        for number in stats.numbers() {
            *number = numbers.next()?.trim().parse().ok()?;
        }
        Some(stats)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stats = *self;
        for (index, (name, number)) in NAMES.iter().zip(stats.numbers()).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{number} {name}")?;
        }
        Ok(())
    }
}
