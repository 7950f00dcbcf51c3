//! The lives of volumes, from one seed each: the real layers over a simulated network and store, in
//! simulated time.
//!
//! docs/reliability.md says what is simulated and what is checked. A seed that fails is run again
//! with `STRONGROOM_SEED=n cargo nextest run --test simulation one_seed --no-capture`.

mod attributes;
mod audit;
mod client;
mod connector;
mod found;
mod habits;
mod life;
mod machine;
mod model;
mod network;
mod overwrites;
mod rng;
mod s3;
mod stats;
mod versions;
mod watch;
mod weather;
mod worker;

use std::{
    panic::AssertUnwindSafe,
    process::Command,
    sync::{Mutex, Once, PoisonError},
    time::Instant,
};

use habits::Habits;
use network::Network;
use stats::Stats;

const SEED_VARIABLE: &str = "STRONGROOM_SEED";
/// Seeds of the ordinary run.
const SEEDS: u64 = 300;
const SEEDS_LONG: u64 = 10_000;
/// A run says after so many seeds how far it is.
const SEEDS_BETWEEN_LINES: u64 = 500;
/// Lines of the trace that a failure shows, unless the environment says how many.
const LINES_SHOWN: usize = 120;
const LINES_VARIABLE: &str = "STRONGROOM_TRACE_LINES";
const COUNT_VARIABLE: &str = "STRONGROOM_SEEDS";
const STATS_MARK: &str = "simulated: ";
const DIGEST_MARK: &str = "digest: ";

fn give_credentials() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "simulated"),
            ("AWS_SECRET_ACCESS_KEY", "simulated"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ] {
            // SAFETY: no other thread of this process reads the environment.
            unsafe { std::env::set_var(name, value) };
        }
    });
}

/// Panics of tasks, which the runtime would keep to itself.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
            panics.push(info.to_string());
            drop(panics);
            before(info);
        }));
    });
}

/// One seed in this process. Prints what it went through.
fn run(seed: u64) -> Result<(), String> {
    give_credentials();
    note_panics();
    machine::begin(seed);
    let network = Network::new(seed);
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| life::live(seed, &network)));
    machine::end();
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    let lived = match lived {
        Ok(Ok(stats)) if panics.is_empty() => Ok(stats),
        Ok(Err(why)) => Err(format!("{why}\n{}", panics.join("\n"))),
        _ => Err(panics.join("\n")),
    };
    match lived {
        Ok(stats) => {
            println!("{STATS_MARK}{}", stats.encode());
            println!("{DIGEST_MARK}{:016x}", network.digest());
            println!("{stats}");
            Ok(())
        }
        Err(why) => {
            let trace = network.trace();
            let shown = std::env::var(LINES_VARIABLE).ok();
            let shown = shown.and_then(|lines| lines.parse().ok());
            let from = trace.len().saturating_sub(shown.unwrap_or(LINES_SHOWN));
            println!("{}", trace[from..].join("\n"));
            Err(format!("seed {seed}: {why}"))
        }
    }
}

/// One seed, in a process of its own: tokio counts its runtimes, and so each seed begins alike.
fn run_apart(seed: u64) -> Result<(Stats, String), String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["one_seed", "--exact", "--nocapture"])
        .env(SEED_VARIABLE, seed.to_string())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let marked = |mark| {
        let mut lines = text.lines();
        lines.find_map(|line| line.split_once(mark).map(|(_, rest)| rest.to_owned()))
    };
    match (
        marked(STATS_MARK).as_deref().and_then(Stats::decode),
        marked(DIGEST_MARK),
    ) {
        (Some(stats), Some(digest)) if output.status.success() => Ok((stats, digest)),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("seed {seed}\n{text}\n{errors}"))
        }
    }
}

/// Many seeds, as many at once as there are processors. Names each that fails at once, and shows
/// the first in the end.
fn run_all(seeds: impl Iterator<Item = u64> + Send) -> Stats {
    let begun = Instant::now();
    let seeds = Mutex::new(seeds);
    let total = Mutex::new(Stats::default());
    let failed: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = seeds.lock().unwrap().next();
                    let Some(seed) = next.filter(|_| failed.lock().unwrap().len() < 10) else {
                        break;
                    };
                    match run_apart(seed) {
                        Ok((stats, _)) => total.lock().unwrap().add(stats),
                        Err(why) => {
                            println!("seed {seed} failed");
                            failed.lock().unwrap().push((seed, why));
                        }
                    }
                    if seed > 0 && seed.is_multiple_of(SEEDS_BETWEEN_LINES) {
                        println!("seed {seed} after {:.0} s", begun.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    let took = begun.elapsed().as_secs_f64();
    println!("{total}");
    println!(
        "{took:.0} s; {:.0} simulated hours in an hour",
        total.simulated_seconds as f64 / took
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if let Some((_, why)) = failed.first() {
        let numbers: Vec<_> = failed.iter().map(|(seed, _)| seed.to_string()).collect();
        panic!(
            "{why}\nfailed: seeds {}; again: {SEED_VARIABLE}={} cargo nextest run --test simulation one_seed --no-capture",
            numbers.join(", "),
            numbers[0]
        );
    }
    for (what, count) in [
        ("crashes", total.crashes),
        ("bytes put in order", total.defragmented_bytes),
        ("bytes repacked", total.repacked_bytes),
        ("slices", total.slices),
        ("takeovers", total.takeovers),
        ("followers", total.followers),
        ("faults", total.faults),
        ("late requests", total.late),
        ("outages", total.outages),
        ("attributes", total.attributes),
        ("closes that wait", total.closes),
        ("writes that wait for memory", total.waits),
        ("stray answers", total.strays),
    ] {
        assert!(count > 0, "no {what} were met");
    }
    total
}

/// The first seeds whose lives have a large file that is overwritten at random.
fn overwriting(count: usize) -> impl Iterator<Item = u64> {
    (0..)
        .filter(|seed| Habits::of(*seed).overwrites)
        .take(count)
}

/// The seed that is named in the environment, or the first.
#[test]
fn one_seed() {
    let seed = std::env::var(SEED_VARIABLE).ok();
    let seed = seed.map_or(0, |seed| seed.parse().expect("a seed is a number"));
    run(seed).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_volume_survives_whatever_the_seed_brings() {
    run_all(0..SEEDS);
}

#[test]
fn a_seed_is_the_same_life_each_time() {
    let digests: Vec<_> = (0..2).map(|_| run_apart(7).unwrap().1).collect();
    assert_eq!(digests[0], digests[1]);
}

mod long {
    use super::*;

    #[test]
    #[ignore = "ten thousand seeds"]
    fn a_volume_survives_ten_thousand_lives() {
        run_all(0..SEEDS_LONG);
    }

    /// The environment may say how many.
    #[test]
    #[ignore = "as many seeds of the costliest kind as the ordinary run has of all kinds"]
    fn a_large_file_survives_being_overwritten_and_put_in_order() {
        let count = std::env::var(COUNT_VARIABLE).ok();
        let count = count.map_or(SEEDS, |count| count.parse().expect("a count is a number"));
        let total = run_all(overwriting(count as usize));
        assert!(total.crashes_after_tidying > 0, "{total}");
    }
}
