//! Measurements every ten seconds while everything runs, and the bounds that must hold for them.

use std::{
    fmt, fs,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    load::Tally,
    scene::{MEMORY_LIMIT, Scene},
    stage::Stage,
    support::{
        commands::BINARY,
        plot::{Panel, slope, svg},
    },
    weather::Weather,
};

const EVERY: Duration = Duration::from_secs(10);

/// The bucket is listed with each sixth sample: that can be a hundred pages.
const LISTED_EVERY: usize = 6;

/// A mount has connections (16 at most), the kernel's device, its log, sockets and the runtime's
/// own.
const DESCRIPTORS_MAX: u64 = 64;

/// Half of the connections that there may be.
const DESCRIPTORS_SWING: u64 = 8;

/// A shorter life says nothing of growth; the first minute of each does not count.
const WARM_AFTER: f64 = 60.0;
const LONG_SAMPLES_MIN: usize = 18;

/// One line. Bytes are MiB; what could not be asked at that moment is the last that was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub second: f64,
    pub life: u32,
    pub rss: f64,
    pub rss_peak: f64,
    pub descriptors: u64,
    pub connections: u64,
    pub requests: u64,
    pub requests_hit: u64,
    pub bucket: f64,
    /// The part of it below `data/`.
    pub data: f64,
    pub objects: u64,
    pub live: f64,
    pub dirty: f64,
    pub retries: u64,
    pub store_errors: u64,
    pub fuse_errors: u64,
    pub rounds: u64,
    /// Processor time of everything together since the last sample, in cores.
    pub cores: f64,
}

pub const HEADINGS: &str = "second,life,rss_mib,rss_peak_mib,descriptors,connections,requests,requests_hit,bucket_mib,data_mib,objects,live_mib,dirty_mib,retries,store_errors,fuse_errors,rounds,cores";

impl Sample {
    pub fn line(&self) -> String {
        format!(
            "{:.0},{},{:.1},{:.1},{},{},{},{},{:.1},{:.1},{},{:.1},{:.1},{},{},{},{},{:.2}",
            self.second,
            self.life,
            self.rss,
            self.rss_peak,
            self.descriptors,
            self.connections,
            self.requests,
            self.requests_hit,
            self.bucket,
            self.data,
            self.objects,
            self.live,
            self.dirty,
            self.retries,
            self.store_errors,
            self.fuse_errors,
            self.rounds,
            self.cores
        )
    }
}

/// `status --json` of a mount, if it answers.
pub fn status(dir: &std::path::Path) -> Option<serde_json::Value> {
    let output = Command::new(BINARY)
        .arg("status")
        .arg(dir)
        .arg("--json")
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    serde_json::from_slice(&output.stdout).ok()
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A field of `/proc/PID/status` in bytes.
fn memory_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Processor time of a process and of its children that ended.
fn processor_seconds(pid: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks: f64 = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Some(ticks / 100.0)
}

pub struct Samples<'a> {
    pub scene: &'a Scene,
    pub stage: &'a Stage,
    pub tally: &'a Tally,
    pub weather: &'a Weather,
    began: Instant,
    taken: Mutex<Vec<Sample>>,
}

impl<'a> Samples<'a> {
    pub fn new(
        scene: &'a Scene,
        stage: &'a Stage,
        tally: &'a Tally,
        weather: &'a Weather,
    ) -> Samples<'a> {
        Samples {
            scene,
            stage,
            tally,
            weather,
            began: Instant::now(),
            taken: Mutex::default(),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub fn taken(&self) -> Vec<Sample> {
        self.taken.lock().expect("samples").clone()
    }

    /// Takes one every ten seconds until all is over, and fails the run as soon as a limit is
    /// passed.
    pub fn watch(&self, each: impl Fn(&Sample)) {
        let mut processor = self.processor_seconds();
        while !self.stage.is_over() {
            let began = Instant::now();
            self.stage.pause(EVERY);
            if self.stage.is_over() {
                return;
            }
            let mut sample = self.take();
            let now = self.processor_seconds();
            // Less than before where a process ended whose parent has not heard of it yet.
            sample.cores = (now - processor).max(0.0) / began.elapsed().as_secs_f64();
            processor = now;
            each(&sample);
            if sample.rss_peak > mib(MEMORY_LIMIT) {
                self.stage.fail(format!("RSS was {} MiB", sample.rss_peak));
            }
            if sample.descriptors > DESCRIPTORS_MAX {
                self.stage
                    .fail(format!("{} descriptors", sample.descriptors));
            }
            self.taken.lock().expect("samples").push(sample);
            // The log of seen requests serves late requests only, which come a little later when it
            // is cleared.
            if (sample.second as u64 / 60).is_multiple_of(3) {
                self.scene.store.forget();
            }
        }
    }

    fn take(&self) -> Sample {
        let taken = self.taken();
        let mut sample = taken.last().copied().unwrap_or_default();
        sample.second = self.seconds();
        sample.connections = self.scene.store.connections();
        sample.requests = self.scene.store.requests();
        sample.requests_hit = self.weather.requests_hit();
        sample.rounds = self.tally.rounds();
        if taken.len().is_multiple_of(LISTED_EVERY)
            && let Some(held) = self.scene.held()
        {
            (sample.bucket, sample.data) = (mib(held.bytes), mib(held.data_bytes));
            sample.objects = held.objects;
        }
        let Some(life) = self.stage.life() else {
            return sample;
        };
        let (rss, peak) = (
            memory_bytes(life.pid, "VmRSS:"),
            memory_bytes(life.pid, "VmHWM:"),
        );
        let descriptors = fs::read_dir(format!("/proc/{}/fd", life.pid));
        if let (Some(rss), Some(peak), Ok(descriptors)) = (rss, peak, descriptors) {
            sample.life = life.number;
            (sample.rss, sample.rss_peak) = (mib(rss), mib(peak));
            sample.descriptors = descriptors.count() as u64;
        }
        if let Some(status) = status(&life.dir) {
            let counter = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
            sample.live = mib(status["volume"]["bytes"].as_u64().unwrap_or(0));
            sample.dirty = mib(status["durability"]["dirty_bytes"].as_u64().unwrap_or(0));
            sample.retries = counter("retries");
            sample.store_errors = counter("store_errors");
            sample.fuse_errors = counter("fuse_errors");
        }
        sample
    }

    /// Processor time of this process, all its children that ended, the mount and the server.
    fn processor_seconds(&self) -> f64 {
        let server = self.scene.server.lock().expect("server").pid();
        let mount = self.stage.life().map(|life| life.pid);
        let mut all = vec!["self".to_owned(), server.to_string()];
        all.extend(mount.map(|pid| pid.to_string()));
        all.iter().filter_map(|pid| processor_seconds(pid)).sum()
    }
}

/// The growth of a mount that lived long enough; its first minute does not count.
pub struct LongLife {
    life: u32,
    seconds: f64,
    rss_slope: f64,
    /// Open descriptors in its first and in its last third.
    descriptors: [(u64, u64); 2],
}

impl LongLife {
    /// In its last third there are always more than there ever were in its first, and not for
    /// connections alone, which come and go.
    pub fn has_grown(&self) -> bool {
        let [(_, most_first), (least_last, _)] = self.descriptors;
        least_last > most_first + DESCRIPTORS_SWING
    }
}

impl fmt::Display for LongLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = self.descriptors;
        write!(
            f,
            "mount {} for {:.0} s: RSS {:+.1} MiB an hour, descriptors {}..={} in its first third, {}..={} in its last",
            self.life, self.seconds, self.rss_slope, first.0, first.1, last.0, last.1
        )
    }
}

pub fn long_lives(samples: &[Sample]) -> impl Iterator<Item = LongLife> {
    let of_life = |life: &[Sample]| {
        let began = life[0].second;
        let warm: Vec<&Sample> = life
            .iter()
            .filter(|sample| sample.second - began >= WARM_AFTER)
            .collect();
        if warm.len() < LONG_SAMPLES_MIN {
            return None;
        }
        let rss: Vec<(f64, f64)> = warm
            .iter()
            .map(|sample| (sample.second / 3600.0, sample.rss))
            .collect();
        let range = |third: &[&Sample]| {
            let counts = || third.iter().map(|sample| sample.descriptors);
            (counts().min().unwrap_or(0), counts().max().unwrap_or(0))
        };
        let third = warm.len() / 3;
        Some(LongLife {
            life: life[0].life,
            seconds: life[life.len() - 1].second - began,
            rss_slope: slope(&rss),
            descriptors: [range(&warm[..third]), range(&warm[warm.len() - third..])],
        })
    };
    samples
        .chunk_by(|a, b| a.life == b.life)
        .filter_map(of_life)
}

/// Memory, and the bucket beside what is live in it. A dashed line is a new mount.
pub fn drawn(samples: &[Sample]) -> String {
    let curve = |value: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        samples
            .iter()
            .map(|sample| (sample.second, value(sample)))
            .collect()
    };
    let marks: Vec<f64> = samples
        .windows(2)
        .filter(|pair| pair[0].life != pair[1].life)
        .map(|pair| pair[1].second)
        .collect();
    let panel = |title: &str, limit, curves| Panel {
        title: title.to_owned(),
        limit,
        curves,
        marks: marks.clone(),
    };
    svg(&[
        panel(
            "RSS of the mount, MiB (a dashed line is a new mount)",
            Some(mib(MEMORY_LIMIT)),
            vec![curve(|sample| sample.rss)],
        ),
        panel(
            "MiB in the bucket (blue), below data/ (orange), live (green)",
            None,
            vec![
                curve(|sample| sample.bucket),
                curve(|sample| sample.data),
                curve(|sample| sample.live),
            ],
        ),
        panel(
            "Descriptors of the mount",
            Some(DESCRIPTORS_MAX as f64),
            vec![curve(|sample| sample.descriptors as f64)],
        ),
    ])
}
