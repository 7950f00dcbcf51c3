//! `init` that is interrupted, or killed, leaves nothing in the way of the next one.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::{
    server::{Faults, Outage},
    session::Exit,
};

use crate::{
    running::{refused, write_secret},
    support::{
        bucket::BUCKET,
        commands::{said, succeed, text},
        site::{Site, Transport},
    },
};

/// Long enough that a signal meets the request that it is meant for.
const LATENCY: Duration = Duration::from_millis(4);

/// A site with a bucket, and a key file that takes no time to unlock with.
fn place() -> Site {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    write_secret(&site.path().join("key"), (1..=64).collect::<Vec<u8>>());
    set_latency(&site, LATENCY);
    site
}

pub fn set_latency(site: &Site, latency: Duration) {
    let faults = Faults {
        latency,
        ..Faults::default()
    };
    site.server().set_faults(faults).unwrap();
}

fn url_of(name: &str) -> String {
    format!("s3://{BUCKET}/{name}")
}

fn init(site: &Site, name: &str) -> Command {
    let key = site.path().join("key");
    let run = site.strongroom(&["init", &url_of(name), "--key-file", text(&key)]);
    run.command
}

/// Starts a command, and sends the signal once `requests` have come; `None` if it ended before.
pub fn interrupted_after(
    site: &Site,
    mut command: Command,
    requests: u64,
    signal: Signal,
) -> Option<Child> {
    site.server().reset_stats();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while site.stats().total_requests() < requests {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_micros(300));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    Some(child)
}

/// Keys below the prefix, those of uploads that were not ended among them.
fn left(site: &Site, name: &str) -> Vec<String> {
    let bucket = site.bucket();
    let keys = bucket.keys().into_iter();
    keys.chain(bucket.uploads())
        .filter(|key| key.starts_with(&format!("{name}/")))
        .collect()
}

/// The requests of a whole `init`.
fn requests_of_one(site: &Site) -> u64 {
    site.server().reset_stats();
    succeed(&init(site, "whole").output().unwrap());
    site.stats().total_requests()
}

#[test]
fn an_init_that_a_signal_ends_anywhere_leaves_nothing_and_the_next_one_succeeds() {
    let site = place();
    let whole = requests_of_one(&site);
    let (mut ended, mut rounds) = (0, 0);
    for requests in (1..=whole).step_by(3) {
        let name = format!("round-{requests}");
        let signal = [Signal::SIGINT, Signal::SIGTERM][rounds % 2];
        rounds += 1;
        let Some(child) = interrupted_after(&site, init(&site, &name), requests, signal) else {
            continue;
        };
        let output = child.wait_with_output().unwrap();
        let what = format!("{signal} after {requests} of {whole}: {}", said(&output));
        match output.status.code() {
            // It was over.
            Some(0) => continue,
            Some(16) => ended += 1,
            _ => panic!("{what}"),
        }
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(line.lines().count(), 1, "{what}");
        assert!(
            line.contains("interrupted before there was a volume"),
            "{what}"
        );
        assert_eq!(left(&site, &name), [""; 0], "{what}");
        let again = init(&site, &name).output().unwrap();
        assert!(again.status.success(), "{what}; then {}", said(&again));
    }
    assert!(
        ended * 10 >= rounds * 8,
        "{ended} of {rounds} were interrupted"
    );
}

#[test]
fn an_init_that_was_killed_while_it_tried_the_store_is_cleaned_up_by_the_next_one() {
    let site = place();
    let whole = requests_of_one(&site);
    let mut with_leftovers = 0;
    for requests in (1..=whole).step_by(5) {
        let name = format!("round-{requests}");
        let killed = interrupted_after(&site, init(&site, &name), requests, Signal::SIGKILL);
        let Some(mut child) = killed else { continue };
        child.wait().unwrap();
        let leftovers = left(&site, &name);
        // From the header on it is no trial any more.
        if leftovers.iter().any(|key| !key.contains("/probe-")) {
            break;
        }
        with_leftovers += usize::from(!leftovers.is_empty());
        let again = init(&site, &name).output().unwrap();
        assert!(again.status.success(), "{leftovers:?}: {}", said(&again));
        let stale = left(&site, &name).into_iter();
        let stale: Vec<_> = stale.filter(|key| key.contains("/probe-")).collect();
        assert_eq!(stale, [""; 0], "after {requests}");
    }
    assert!(with_leftovers >= 3, "only {with_leftovers} left anything");
}

#[test]
fn a_second_signal_ends_an_init_whose_store_does_not_answer_any_more() {
    let site = place();
    let child =
        interrupted_after(&site, init(&site, "stuck"), 12, Signal::SIGINT).expect("it runs");
    site.server()
        .set_faults(Faults {
            outage: Outage::Hang,
            ..Faults::default()
        })
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let began = Instant::now();
    let mut child = child;
    // The second one ends the wait for requests under way, the third one the cleaning up.
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(8), "it goes on");
        let _ = kill(pid, Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(16), "{}", said(&output));
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(line.contains("may still be at s3://"), "{line}");
    set_latency(&site, LATENCY);
    let again = init(&site, "stuck").output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
}

#[test]
fn a_prefix_with_the_objects_of_others_beside_leftovers_is_refused_and_left_as_it_is() {
    let site = place();
    let id = "0123456789abcdef".repeat(2);
    let keys = [
        format!("mixed/probe-{id}-object"),
        "mixed/notes.txt".to_owned(),
    ];
    for key in &keys {
        site.bucket().put(key, b"mine".to_vec());
    }
    refused(&mut init(&site, "mixed"), Exit::NotEmpty, &["not empty"]);
    for key in &keys {
        assert_eq!(site.bucket().get(key), b"mine");
    }
}

/// With the round trips of a connection, which loopback does not show, a store in another part of
/// the world takes some seconds.
#[test]
fn an_init_takes_at_most_thirty_round_trips_in_a_row() {
    const FAR: Duration = Duration::from_millis(150);
    let site = place();
    let took = |name: &str, latency| {
        set_latency(&site, latency);
        let began = Instant::now();
        succeed(&init(&site, name).output().unwrap());
        began.elapsed()
    };
    // The machine may be busy: the best of some tries counts.
    let trips = (0..4).map(|round| {
        let near = took(&format!("near-{round}"), Duration::ZERO);
        let far = took(&format!("far-{round}"), FAR);
        far.saturating_sub(near).div_duration_f64(FAR)
    });
    let mut seen = Vec::new();
    for trips in trips {
        seen.push(trips);
        if trips <= 30.0 {
            return;
        }
    }
    panic!("{seen:?} round trips");
}
