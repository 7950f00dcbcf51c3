//! Kills at random moments, of the mount, of the server, of both, while programs work.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    director::Director,
    load::{self, Programs, Tally},
    scene::Scene,
    stage::{EndOfStage, Stage},
    support::random::Random,
};

/// After so many kills the bucket is swept, and compared with what the metadata names.
const SWEPT_EVERY: u32 = 50;

/// Everybody finds what was promised within this.
const LOOKED_WITHIN: Duration = Duration::from_secs(180);

/// The pauses of the programs are divided by this: a round takes seconds.
const HASTE: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Mount,
    Server,
    Both,
}

/// Six kills of ten are of the mount, two each of the server and of both. The mount before each
/// sweep: that needs the volume for itself.
fn victim(round: u32, rounds: u32) -> Victim {
    match round % 10 {
        _ if is_swept(round, rounds) => Victim::Mount,
        1 | 6 => Victim::Server,
        3 | 8 => Victim::Both,
        _ => Victim::Mount,
    }
}

fn is_swept(round: u32, rounds: u32) -> bool {
    (round + 1).is_multiple_of(SWEPT_EVERY) || round + 1 == rounds
}

fn survives(rounds: u32) {
    let mut random = Random::of_this_run();
    let scene = Scene::set();
    let stage = Stage::default();
    let tally = Tally::default();
    let programs = Programs::new(scene.site.scratch("scratch"));
    let mut workers = load::for_kills(&programs, &mut random);
    let all = workers.len();
    let killed = thread::scope(|scope| {
        let _end = EndOfStage(&stage);
        let mut director = Director::begin(&scene, &stage)?;
        for worker in &mut workers {
            let (stage, tally) = (&stage, &tally);
            scope.spawn(move || load::work(worker.as_mut(), stage, tally, HASTE));
        }
        for round in 0..rounds {
            kill_once(&mut director, &mut random, (round, rounds), all)?;
            if stage.is_over() {
                return Ok(());
            }
        }
        stage.wait_looked(all, LOOKED_WITHIN)?;
        director.unmount(false)
    });
    for (name, done) in tally.by_program() {
        eprintln!(
            "{name}: {} rounds, {} interrupted, {} looks",
            done.rounds, done.interrupted, done.looks
        );
    }
    let failures = [stage.failures(), killed.err().into_iter().collect()].concat();
    let ended = match failures.is_empty() {
        true => look_at_the_end(&scene, &mut workers),
        false => Err(failures.join("\n")),
    };
    if let Err(text) = ended {
        if let Some(dir) = std::env::var_os("STRONGROOM_SOAK_DIR") {
            scene.keep_evidence(dir.as_ref());
        }
        panic!("{text}");
    }
    let rounds_done = tally.rounds();
    assert!(
        rounds_done >= u64::from(rounds),
        "too little was done to mean anything: {rounds_done} rounds"
    );
}

fn kill_once(
    director: &mut Director<'_>,
    random: &mut Random,
    (round, rounds): (u32, u32),
    all: usize,
) -> Result<(), String> {
    let began = Instant::now();
    director.stage.wait_looked(all, LOOKED_WITHIN)?;
    let looked = began.elapsed();
    director
        .stage
        .pause(Duration::from_millis(random.between(50, 2500)));
    if director.stage.is_over() {
        return Ok(());
    }
    let away = Duration::from_millis(random.below(1500));
    let victim = victim(round, rounds);
    let mut checked = String::new();
    match victim {
        Victim::Mount => director.kill_mount()?,
        Victim::Both => director.kill_both(away)?,
        Victim::Server => {
            director.kill_server(away);
            director.stage.look_again();
        }
    }
    if is_swept(round, rounds) {
        let swept = director.sweep()?;
        checked += &format!(
            ", gc freed {} bytes in {} objects and {} uploads, nothing else is unnamed",
            swept["freed_bytes"], swept["left_objects"], swept["uploads"]
        );
    }
    let (summary, seconds) = director.check()?;
    if victim != Victim::Server {
        director.mount()?;
    }
    eprintln!(
        "kill {}/{rounds}: {victim:?}; all programs looked in {:.1} s; fsck --data clean in {seconds:.1} s: {} inodes, {} objects, {} bytes{checked}; {:.1} s",
        round + 1,
        looked.as_secs_f64(),
        summary["inodes"],
        summary["objects"],
        summary["stored_bytes"],
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Everything once more, thoroughly, on a mount that nobody disturbs.
fn look_at_the_end(scene: &Scene, workers: &mut [Box<dyn load::Worker>]) -> Result<(), String> {
    let stage = Stage::default();
    let mut director = Director::begin(scene, &stage)?;
    let place = stage.enter().expect("open");
    load::look_closely(workers, &place)?;
    drop(place);
    director.unmount(true)?;
    director.sweep().map(|_| ())
}

#[test]
fn six_kills_of_mount_and_server_lose_nothing_that_was_synced() {
    survives(6);
}

mod long {
    #[test]
    #[ignore = "an hour or more: run by mount-scripts/test.sh --long"]
    fn five_hundred_kills_of_mount_and_server_lose_nothing_that_was_synced() {
        let kills = std::env::var("STRONGROOM_KILLS");
        let kills = kills.ok().and_then(|kills| kills.parse().ok());
        super::survives(kills.unwrap_or(500));
    }
}
