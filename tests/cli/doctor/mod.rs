//! `doctor` on machines and stores that are fit: its lines, its document, what it leaves behind.

mod bundle;
mod denied;
mod lacking;
mod machine;
mod unreachable;

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use strongroom::server::Faults;

use crate::{
    init::{interrupted_after, set_latency},
    running::strongroom,
    support::{
        bucket::BUCKET,
        commands::{said, succeed},
        credentials::SECRET_KEY,
        lying::LyingStore,
        site::{PASSPHRASE, Site, Transport},
        terminal::TerminalProgram,
    },
};

/// The checks of an examination with a URL, in their order.
pub const CHECKS: [&str; 26] = [
    "fuse",
    "allow other",
    "kernel",
    "memory",
    "open files",
    "endpoint",
    "clock",
    "credentials",
    "bucket",
    "put",
    "get",
    "list",
    "delete",
    "conditional put",
    "ranged get",
    "multipart upload",
    "unfinished uploads",
    "lifecycle rules",
    "versioning",
    "races",
    "volume",
    "state directory",
    "disk cache",
    "latency",
    "bandwidth",
    "clean up",
];

/// `doctor --json` for a mount that every machine has room for, also one whose disk is full.
pub fn doctor(site: &Site, options: &[&str]) -> Command {
    let small = ["--memory", "128MiB", "--disk-cache", "off", "--json"];
    let words = ["doctor"].into_iter().chain(small);
    let words: Vec<_> = words.chain(options.iter().copied()).collect();
    site.strongroom(&words).command
}

/// An examination that has ended.
pub struct Examined {
    pub report: Value,
    pub code: Option<i32>,
    pub said: String,
}

impl Examined {
    /// The examination of the site's volume through another store.
    pub fn through(site: &Site, store: &LyingStore) -> Examined {
        let mut command = doctor(site, &[&site.url()]);
        Examined::by(command.env("AWS_ENDPOINT_URL_S3", store.endpoint()))
    }

    pub fn by(command: &mut Command) -> Examined {
        let output = command.output().expect("runs");
        let said = said(&output);
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_no_secret(&output);
        Examined {
            report,
            code: output.status.code(),
            said,
        }
    }

    /// The lines of all checks.
    fn lines(&self) -> &[Value] {
        self.report["checks"].as_array().expect("checks")
    }

    /// The names of the checks that ended so.
    pub fn checks(&self, verdict: &str) -> Vec<&str> {
        let lines = self.lines().iter();
        let lines = lines.filter(|line| line["verdict"] == verdict);
        lines.filter_map(|line| line["check"].as_str()).collect()
    }

    /// The findings of a check, and its advice.
    pub fn text(&self, check: &str) -> String {
        let mut lines = self.lines().iter();
        let line = lines.find(|line| line["check"] == check);
        let line = line.unwrap_or_else(|| panic!("no {check}: {}", self.said));
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("found"), text("advice"))
    }

    /// Wants only this check to fail, with these words, and these others to be skipped or warned
    /// of.
    pub fn assert_only(&self, failure: &str, words: &[&str], skipped: &[&str], warned: &[&str]) {
        assert_eq!(self.checks("failure"), [failure], "{}", self.said);
        assert_eq!(self.checks("skipped"), skipped, "{}", self.said);
        assert_eq!(self.checks("warning"), warned, "{}", self.said);
        let text = self.text(failure);
        for word in words {
            assert!(text.contains(word), "'{word}' is missing: {text}");
        }
        assert!(!text.ends_with(": "), "no advice: {text}");
        assert_eq!(self.code, Some(37), "{}", self.said);
        assert_eq!(self.report["verdict"], "failure");
        let line = format!("strongroom: a check failed ({failure}): ");
        assert!(self.said.contains(&line), "{}", self.said);
    }
}

fn assert_no_secret(output: &Output) {
    let said = said(output);
    for secret in [SECRET_KEY, PASSPHRASE] {
        assert!(!said.contains(secret), "{secret} is told: {said}");
    }
}

/// Nothing of an examination is in the bucket.
pub fn assert_nothing_left(site: &Site, before: &[(String, u64)], what: &str) {
    assert_eq!(site.bucket().sizes(), before, "{what}");
    assert_eq!(site.bucket().uploads(), [""; 0], "{what}");
}

#[test]
fn where_all_is_well_each_check_says_so_and_nothing_is_left() {
    let site = Site::start(Transport::Plain);
    let before = site.bucket().sizes();
    let examined = Examined::by(&mut doctor(&site, &[&site.url()]));
    assert_eq!(examined.checks("ok"), CHECKS, "{}", examined.said);
    assert_eq!(examined.code, Some(0), "{}", examined.said);
    assert_eq!(examined.report["verdict"], "ok");
    assert_nothing_left(&site, &before, &examined.said);

    let info = succeed(&site.strongroom(&["info", &site.url(), "--json"]).output());
    let info: Value = serde_json::from_str(&info).expect("JSON");
    let id = info["volume"].as_str().expect("an id");
    assert!(examined.text("volume").contains(id), "{}", examined.said);

    let measured = &examined.report["measured"];
    for figure in [
        "latency_us",
        "upload_bytes_per_second",
        "download_bytes_per_second",
    ] {
        assert!(
            measured[figure].as_u64().is_some_and(|value| value > 0),
            "{measured}"
        );
    }
    let ahead = measured["clock_ahead_seconds"].as_i64().expect("a date");
    assert!(ahead.abs() < 30, "{ahead}");

    // Only options that a mount has are recommended, and it takes the values.
    let help = succeed(&strongroom(&["mount", "--help"]).output().unwrap());
    let recommended = examined.report["recommended"].as_array().expect("settings");
    assert!(!recommended.is_empty());
    let mut words = vec!["mount", "nonsense", "/"];
    for setting in recommended {
        let option = setting["option"].as_str().expect("an option");
        assert!(help.contains(&format!(" {option} <")), "{option}: {help}");
        words.extend([option, setting["value"].as_str().expect("a value")]);
    }
    let refused = said(&strongroom(&words).output().expect("runs"));
    assert!(refused.contains("nonsense"), "{refused}");
}

#[test]
fn an_empty_place_is_called_one_and_one_with_other_objects_is_warned_of() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    site.bucket().put("photos/cat.jpg", b"meow".to_vec());
    let before = site.bucket().sizes();
    let url = format!("s3://{BUCKET}/new");
    let examined = Examined::by(&mut doctor(&site, &[&url]));
    assert_eq!(examined.checks("ok"), CHECKS, "{}", examined.said);
    let advice = format!("strongroom init {url}");
    assert!(
        examined.text("volume").contains(&advice),
        "{}",
        examined.said
    );
    let examined = Examined::by(&mut doctor(&site, &[&format!("s3://{BUCKET}/photos")]));
    assert_eq!(examined.checks("warning"), ["volume"], "{}", examined.said);
    assert!(
        examined.text("volume").contains("cat.jpg"),
        "{}",
        examined.said
    );
    assert_eq!(examined.code, Some(0), "warnings are no failure");
    assert_eq!(examined.report["verdict"], "warning");
    assert_nothing_left(&site, &before, "both");
}

#[test]
fn people_get_a_line_a_check_then_settings_and_a_sum() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    let run = site.strongroom(&["doctor", &site.url(), "--memory", "128MiB"]);
    let output = run.output();
    assert_no_secret(&output);
    let text = succeed(&output);
    let lines: Vec<_> = text.lines().collect();
    for (line, check) in lines.iter().zip(CHECKS) {
        let (verdict, rest) = line.split_at(9);
        let words = ["ok", "skipped", "warning", "failure"];
        assert!(words.contains(&verdict.trim_end()), "{line}");
        assert!(rest.starts_with(check), "{check}: {line}");
    }
    let rest: Vec<_> = lines.iter().skip(CHECKS.len()).collect();
    assert!(rest[0].starts_with("setting  --memory "), "{text}");
    assert!(rest[1].starts_with("setting  --disk-cache "), "{text}");
    assert!(rest[2].starts_with("26 checks: "), "{text}");
    assert_eq!(rest.len(), 3, "{text}");
    // Steps are told of on a terminal only.
    assert_eq!(output.stderr, b"");
}

#[test]
fn an_examination_that_a_signal_ends_anywhere_leaves_nothing() {
    let site = Site::start(Transport::Plain);
    let before = site.bucket().sizes();
    set_latency(&site, Duration::from_millis(4));
    site.server().reset_stats();
    let whole = Examined::by(&mut doctor(&site, &[&site.url()]));
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    let requests = site.stats().total_requests();
    let (mut ended, mut rounds) = (0, 0);
    for after in (1..=requests).step_by(5) {
        let signal = [Signal::SIGINT, Signal::SIGTERM][rounds % 2];
        rounds += 1;
        let command = doctor(&site, &[&site.url()]);
        let Some(child) = interrupted_after(&site, command, after, signal) else {
            continue;
        };
        let output = child.wait_with_output().unwrap();
        let what = format!("{signal} after {after} of {requests}: {}", said(&output));
        match output.status.code() {
            // It was over.
            Some(0) => {}
            Some(16) => {
                ended += 1;
                let line = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(line.lines().count(), 1, "{what}");
                assert!(line.contains("nothing was left in the store"), "{what}");
            }
            _ => panic!("{what}"),
        }
        assert_nothing_left(&site, &before, &what);
    }
    assert!(
        ended * 10 >= rounds * 8,
        "{ended} of {rounds} were interrupted"
    );
}

#[test]
fn on_a_terminal_a_step_that_lasts_is_told_of() {
    let site = Site::start(Transport::Plain);
    let faults = Faults {
        latency: Duration::from_millis(1500),
        ..Faults::default()
    };
    site.server().set_faults(faults).unwrap();
    let mut command = site.strongroom(&["doctor", &site.url()]).command;
    let program = TerminalProgram::start(&mut command, 200, 60);
    let screen = program.wait_for_text("... connecting to the store");
    assert!(!screen.contains("... looking at /dev/fuse"), "{screen}");
    program.wait_for_text("ok       endpoint");
    let began = Instant::now();
    program.send(Signal::SIGINT);
    let (code, screen) = program.end();
    assert_eq!(code, 16, "{screen}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn each_check_is_documented() {
    let page = std::fs::read_to_string("docs/operations.md").expect("docs/operations.md");
    for check in CHECKS {
        assert!(page.contains(&format!("`{check}`")), "{check}");
    }
}
