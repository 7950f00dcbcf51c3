//! The common part of the benchmarks: their options, noise, and figures of a process.

use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom::server::Faults;

use crate::harness::site::Site;

pub const MIB: usize = 1 << 20;

/// The options that all benchmarks have; the remaining words are `words`.
pub struct Options {
    pub memory: &'static str,
    disk_cache: &'static str,
    latency: Duration,
    bandwidth: Option<u64>,
    pub words: Vec<String>,
}

impl Options {
    /// `--memory SIZE`, `--disk-cache SIZE` (off without it; `default` is a mount's default),
    /// `--latency-ms NUMBER`, `--bandwidth-mb NUMBER` (10^6 bytes a second). A wrong option ends
    /// the process.
    pub fn from_command_line() -> Options {
        let mut options = Options {
            memory: "512MiB",
            disk_cache: "off",
            latency: Duration::ZERO,
            bandwidth: None,
            words: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> u64 {
                let value = words.next().and_then(|value| value.parse().ok());
                value.unwrap_or_else(|| refuse(&format!("{word} needs a number")))
            };
            match word.as_str() {
                // Cargo passes it.
                "--bench" => {}
                "--latency-ms" => options.latency = Duration::from_millis(number()),
                "--bandwidth-mb" => options.bandwidth = Some(number() * 1_000_000),
                "--memory" => match words.next() {
                    Some(size) => options.memory = String::leak(size),
                    None => refuse("--memory needs a size"),
                },
                "--disk-cache" => match words.next() {
                    Some(size) => options.disk_cache = String::leak(size),
                    None => refuse("--disk-cache needs a size"),
                },
                _ if word.starts_with('-') => refuse(&format!("unknown option {word}")),
                _ => options.words.push(word),
            }
        }
        options
    }

    /// Makes `site` as far away and as narrow as the options say, and its mounts as small.
    pub fn apply(&self, site: &mut Site) {
        site.memory = self.memory;
        site.disk_cache = self.disk_cache;
        site.server().set_faults(self.faults()).expect("faults");
    }

    /// The server's faults that make it as far away and as narrow.
    pub fn faults(&self) -> Faults {
        Faults {
            latency: self.latency,
            bandwidth: self.bandwidth,
            ..Faults::default()
        }
    }

    /// One line for the head of a table.
    pub fn describe(&self) -> String {
        let bandwidth = self.bandwidth.map_or(String::new(), |bytes| {
            format!(", {} MB/s both ways together", bytes / 1_000_000)
        });
        format!(
            "--memory {}, --disk-cache {}, {} ms added to each request{bandwidth}",
            self.memory,
            self.disk_cache,
            self.latency.as_millis()
        )
    }
}

pub fn refuse(complaint: &str) -> ! {
    eprintln!("{complaint}");
    std::process::exit(2);
}

/// Bytes that nothing can compress.
pub fn noise(len: usize) -> Bytes {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    Bytes::from(out)
}

/// xorshift64: the same numbers in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
