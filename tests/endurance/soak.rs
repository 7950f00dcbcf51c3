//! Everything together, for as long as it is told: all programs, all kinds of weather, and a mount
//! and a server that die, are taken over and made anew.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    director::Director,
    load::{self, Programs, Tally, Worker},
    samples::{HEADINGS, LongLife, Sample, Samples, drawn, long_lives, mib, status},
    scene::Scene,
    stage::{EndOfStage, Stage},
    support::random::Random,
    weather::Weather,
};

/// Between two events.
const EVENT_AFTER_SECONDS: (u64, u64) = (20, 70);

/// Between two runs of `fsck --data`; a short run has three of them all the same.
const CHECK_EVERY: Duration = Duration::from_secs(600);

/// One mount of so many lives for longer, with its server only in danger: what grows slowly shows.
const CALM_ONE_IN: u64 = 6;
const CALM: Duration = Duration::from_secs(600);

/// The largest ratio of the bucket's bytes to the live ones, after the load.
const HELD_TO_LIVE_MAX: f64 = 1.5;

/// In quiet the objects below `data/` come down to that within this: dead ones stay two minutes,
/// and so do those that others were repacked from.
const QUIET_MAX: Duration = Duration::from_secs(600);

/// Objects of the metadata that are not needed any more stay so long for read-only mounts.
const LOG_KEPT: Duration = Duration::from_secs(15 * 60 + 30);

/// Lines for whoever watches, and for later.
struct Log {
    began: Instant,
    file: Mutex<File>,
}

impl Log {
    fn open(dir: &Path) -> Log {
        fs::create_dir_all(dir).expect("directory of the log");
        let file = File::create(dir.join("soak.log")).expect("log");
        Log {
            began: Instant::now(),
            file: Mutex::new(file),
        }
    }

    fn line(&self, text: &str) {
        let text = format!("{:7.1} {text}", self.began.elapsed().as_secs_f64());
        eprintln!("{text}");
        let _ = writeln!(self.file.lock().expect("log"), "{text}");
    }
}

/// Events, and how often each happened.
#[derive(Default)]
struct Events(BTreeMap<&'static str, u64>);

impl Events {
    /// Notes it if it went well.
    fn note(
        &mut self,
        log: &Log,
        name: &'static str,
        event: impl FnOnce() -> Result<String, String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        let said = event().map_err(|error| format!("{name}: {error}"))?;
        *self.0.entry(name).or_default() += 1;
        let took = began.elapsed().as_secs_f64();
        log.line(&format!("event {name}: {took:.1} s{said}"));
        Ok(())
    }
}

fn directed(
    director: &mut Director<'_>,
    events: &mut Events,
    random: &mut Random,
    log: &Log,
    length: Duration,
) -> Result<(), String> {
    let until = Instant::now() + length;
    let check_every = CHECK_EVERY.min(length / 3);
    let mut check_at = Instant::now() + check_every;
    let (least, most) = EVENT_AFTER_SECONDS;
    let calm = CALM.min(length / 4);
    let mut calm_until = Instant::now();
    loop {
        let pause = Duration::from_secs(random.between(least, most));
        let left = until.saturating_duration_since(Instant::now());
        director.stage.pause(pause.min(left));
        if director.stage.is_over() || Instant::now() >= until {
            return Ok(());
        }
        if Instant::now() >= check_at {
            check_at = Instant::now() + check_every;
            events.note(log, "fsck", || {
                let (summary, _) = director.check()?;
                Ok(format!(
                    ", clean: {} inodes, {} objects",
                    summary["inodes"], summary["objects"]
                ))
            })?;
        }
        if Instant::now() >= calm_until {
            event(director, events, random, log)?;
            if random.one_in(CALM_ONE_IN) {
                calm_until = Instant::now() + calm;
            }
        } else if random.one_in(4) {
            kill_server(director, events, random, log)?;
        }
    }
}

fn kill_server(
    director: &Director<'_>,
    events: &mut Events,
    random: &mut Random,
    log: &Log,
) -> Result<(), String> {
    let away = Duration::from_millis(random.between(500, 8000));
    events.note(log, "server killed", || {
        director.kill_server(away);
        Ok(format!(", away for {away:.1?}"))
    })
}

fn event(
    director: &mut Director<'_>,
    events: &mut Events,
    random: &mut Random,
    log: &Log,
) -> Result<(), String> {
    let away = Duration::from_millis(random.between(500, 8000));
    let done = |()| String::new();
    match random.below(10) {
        0..3 => events.note(log, "mount killed", || {
            director.kill_mount()?;
            director.mount().map(done)
        }),
        3..5 => events.note(log, "takeover", || director.take_over().map(done)),
        5..7 => {
            let by_command = random.one_in(2);
            events.note(log, "remount", || {
                director.unmount(by_command)?;
                director.mount().map(done)
            })
        }
        7..9 => kill_server(director, events, random, log),
        _ => events.note(log, "both killed", || {
            director.kill_both(away)?;
            director.mount().map(done)
        }),
    }
}

/// After the load: everything is looked at closely, and the bucket comes down to what is live.
fn look_at_the_end(
    scene: &Scene,
    workers: &mut [Box<dyn Worker>],
    log: &Log,
) -> Result<(), String> {
    let stage = Stage::default();
    let mut director = Director::begin(scene, &stage)?;
    let place = stage.enter().expect("open");
    load::look_closely(workers, &place)?;
    log.line("all that was promised is there");
    let live = quiet(scene, &place.life.dir, log)?;
    drop(place);
    director.unmount(true)?;
    let unmounted = Instant::now();
    let mut ratio = swept(&director, log)? / live;
    if ratio > HELD_TO_LIVE_MAX {
        log.line(&format!(
            "that is {ratio:.2} of what is live: the metadata's log is to go too"
        ));
        thread::sleep(LOG_KEPT.saturating_sub(unmounted.elapsed()));
        ratio = swept(&director, log)? / live;
    }
    log.line(&format!(
        "the bucket holds {ratio:.2} of what is live; fsck --data is clean"
    ));
    match ratio <= HELD_TO_LIVE_MAX {
        true => Ok(()),
        false => Err(format!("the bucket holds {ratio:.2} of what is live")),
    }
}

/// Waits until the objects below `data/` are hardly more than what is live; returns that, in MiB.
fn quiet(scene: &Scene, mount: &Path, log: &Log) -> Result<f64, String> {
    let began = Instant::now();
    let mut first = None;
    loop {
        let status = status(mount).ok_or("the mount does not answer")?;
        let live = mib(status["volume"]["bytes"].as_u64().unwrap_or(0));
        let held = scene.held().ok_or("the bucket cannot be listed")?;
        let data = mib(held.data_bytes);
        let before = *first.get_or_insert(data);
        if data <= HELD_TO_LIVE_MAX * live || began.elapsed() > QUIET_MAX {
            log.line(&format!(
                "in quiet what is below data/ came from {before:.1} to {data:.1} MiB in {:.0} s; live are {live:.1}",
                began.elapsed().as_secs_f64()
            ));
            return Ok(live);
        }
        thread::sleep(Duration::from_secs(10));
    }
}

/// `gc`, and what the bucket holds after it, in MiB.
fn swept(director: &Director<'_>, log: &Log) -> Result<f64, String> {
    let swept = director.sweep()?;
    let held = director.scene.held().ok_or("the bucket cannot be listed")?;
    log.line(&format!(
        "gc freed {} bytes: {} objects that mounts left, {} of the metadata, {} uploads; in the bucket are {:.1} MiB, {:.1} of them below data/",
        swept["freed_bytes"],
        swept["left_objects"],
        swept["metadata_objects"],
        swept["uploads"],
        mib(held.bytes),
        mib(held.data_bytes)
    ));
    Ok(mib(held.bytes))
}

fn summarize(log: &Log, samples: &[Sample], events: &Events, weather: &Weather, tally: &Tally) {
    log.line("summary");
    for (name, count) in &events.0 {
        log.line(&format!("  {name}: {count}"));
    }
    for (name, spells, requests) in weather.spells() {
        log.line(&format!(
            "  weather, {name}: {spells} times, {requests} requests"
        ));
    }
    for (name, done) in tally.by_program() {
        log.line(&format!(
            "  {name}: {} rounds, {} interrupted, {} looks",
            done.rounds, done.interrupted, done.looks
        ));
    }
    let most = |value: fn(&Sample) -> f64| samples.iter().map(value).fold(0.0, f64::max);
    let count = samples.len().max(1) as f64;
    let cores = samples.iter().map(|sample| sample.cores).sum::<f64>() / count;
    log.line(&format!(
        "  RSS at most {:.1} MiB; descriptors at most {}; {cores:.2} cores in the mean",
        most(|sample| sample.rss_peak),
        most(|sample| sample.descriptors as f64)
    ));
    for life in long_lives(samples) {
        log.line(&format!("  {life}"));
    }
    if let Some(last) = samples.last() {
        log.line(&format!(
            "  {} requests over {} connections; bucket {:.1} MiB, live {:.1} MiB at the end of the load",
            last.requests, last.connections, last.bucket, last.live
        ));
    }
}

fn soak(length: Duration, dir: &Path) {
    let log = Log::open(dir);
    let mut random = Random::of_this_run();
    let scene = Scene::set();
    let (stage, tally, weather) = (Stage::default(), Tally::default(), Weather::default());
    let programs = Programs::new(scene.site.scratch("scratch"));
    let mut workers = load::for_soak(&programs, &mut random);
    let samples = Samples::new(&scene, &stage, &tally, &weather);
    let csv = Mutex::new(File::create(dir.join("samples.csv")).expect("samples"));
    let keep = |line: &str| {
        let _ = writeln!(csv.lock().expect("samples"), "{line}");
    };
    keep(HEADINGS);
    log.line(HEADINGS);
    let mut events = Events::default();
    let directed = thread::scope(|scope| {
        let _end = EndOfStage(&stage);
        let mut director = Director::begin(&scene, &stage)?;
        let of_weather = random.branch(1);
        for worker in &mut workers {
            let (stage, tally) = (&stage, &tally);
            scope.spawn(move || load::work(worker.as_mut(), stage, tally, 1));
        }
        scope.spawn(|| weather.blow(&scene.store, &stage, of_weather));
        scope.spawn(|| {
            samples.watch(|sample| {
                log.line(&sample.line());
                keep(&sample.line());
            });
        });
        directed(&mut director, &mut events, &mut random, &log, length)?;
        if stage.is_over() {
            return Ok(());
        }
        director.unmount(false)
    });
    let taken = samples.taken();
    fs::write(dir.join("soak.svg"), drawn(&taken)).expect("plot");
    summarize(&log, &taken, &events, &weather, &tally);
    let grown = long_lives(&taken)
        .filter(LongLife::has_grown)
        .map(|life| format!("descriptors grow: {life}"));
    let failures = [
        stage.failures(),
        directed.err().into_iter().collect(),
        grown.collect(),
    ]
    .concat();
    let ended = match failures.is_empty() {
        true => look_at_the_end(&scene, &mut workers, &log),
        false => Err(failures.join("\n")),
    };
    if let Err(text) = ended {
        log.line(&format!("FAILED {text}"));
        scene.keep_evidence(&dir.join("evidence"));
        panic!("{text}");
    }
    log.line("passed");
}

mod long {
    use super::{Duration, PathBuf, soak};

    #[test]
    #[ignore = "a quarter of an hour, or as long as STRONGROOM_SOAK_HOURS says: run by mount-scripts/test.sh --soak"]
    fn everything_together_holds_for_hours() {
        let hours = std::env::var("STRONGROOM_SOAK_HOURS");
        let hours: Option<f64> = hours.ok().and_then(|hours| hours.parse().ok());
        let length = Duration::from_secs_f64(hours.unwrap_or(0.25) * 3600.0);
        let dir = std::env::var_os("STRONGROOM_SOAK_DIR");
        soak(
            length,
            &PathBuf::from(dir.unwrap_or_else(|| "target/soak".into())),
        );
    }
}
