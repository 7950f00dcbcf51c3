//! `strongroom doctor`: are this machine and a store fit for a mount?

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write, stderr, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    args::{StateArgs, StoreArgs},
    disk_cache::DiskCacheArgs,
    doctor_bundle::BundleFile,
    runtime,
    values::{parse_duration, parse_memory},
};
use crate::{
    session::{
        self, Exit, Failure, MemorySize,
        bundle::{Bundle, Diagnosed},
        doctor::{DoctorPlan, Line, Report, Verdict, Watcher, examine},
    },
    store::S3Url,
    telemetry::shown_json,
};

/// `strongroom doctor [URL|DIR]`
#[derive(Args, Debug)]
#[command(
    long_about = "Checks whether this machine and a store are fit for a mount: FUSE, kernel, limits, clock, credentials, rights \
                  of the key, abilities of the store, rules of the bucket, room on the local disk, latency and bandwidth. Each \
                  line says ok, warning, failure or skipped, what was found, and what to do. Objects that it writes below the \
                  prefix are deleted again. It needs no passphrase. The exit code is 37 if a check failed. With --bundle it also \
                  packs what a report of a fault needs, without secrets and names, into a file.",
    after_help = "\
Examples:
  strongroom doctor
  strongroom doctor s3://bucket/laptop
  strongroom doctor s3://bucket/laptop --json --memory 256MiB
  strongroom doctor /mnt/vault --bundle report.tar"
)]
pub struct DoctorArgs {
    /// The volume, or where one is to be: s3://bucket/prefix; or the directory that it is mounted
    /// on; without it only this machine is looked at
    #[arg(value_name = "URL|DIR")]
    place: Option<String>,

    /// Pack all that a report of a fault needs into this new file (tar; - is standard output): this
    /// report, and of the mount, or all mounts, status, metrics, the end of the log, and what
    /// --record recorded; names are replaced
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,

    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,

    /// The memory that the mount is to have: a size, or a percentage [default: 512MiB, or what the
    /// control group allows]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<MemorySize>,

    /// The longest that one check may take; those that move megabytes may take four times as long
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    disk_cache: DiskCacheArgs,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> Result<(), Failure> {
    if args.timeout.is_zero() {
        return Err(Failure::usage(
            "--timeout 0 leaves no time for any check",
            "give some seconds, such as 15s",
        ));
    }
    let bundle = args.bundle.as_deref();
    let bundle = bundle.map(|file| BundleFile::check(file, args.json));
    let bundle = bundle.transpose()?;
    let (url, mount) = subject(args.place.as_deref())?;
    let state_root = args.state.root()?;
    let settings = args.store.settings();
    let plan = DoctorPlan {
        url,
        store: match &mount {
            Some(mount) => mount.reached(settings),
            None => settings,
        },
        memory: args.memory,
        disk_cache: args.disk_cache.config(&state_root),
        state_root,
        limit: args.timeout,
    };
    let terminal = Terminal {
        prints_lines: !args.json,
        on_standard_error: bundle.as_ref().is_some_and(BundleFile::is_standard_output),
    };
    let report = runtime::block_on(examine(&plan, &terminal))?;
    let text = match args.json {
        true => json(&report)?,
        false => end(&report),
    };
    terminal.print(text.trim_end());
    if let Some(file) = bundle {
        let bundle = Bundle::collect(&plan, mount)?;
        let scrubbed = bundle.scrubbed(&report);
        let packed = bundle
            .pack(&whole(&scrubbed), &json(&scrubbed)?)
            .map_err(|error| Failure::unexpected(format!("cannot pack the bundle: {error}")))?;
        file.write(&packed)?;
    }
    let failed = report.failed();
    let (what, advice) = match failed.len() {
        0 => return Ok(()),
        1 => ("a check".to_owned(), "do what its line says"),
        count => (format!("{count} checks"), "do what their lines say"),
    };
    let what = format!("{what} failed ({})", failed.join(", "));
    Err(Failure::new(Exit::CheckFailed, what, advice))
}

/// The place to be looked at: a URL, or a mount, which has one.
fn subject(place: Option<&str>) -> Result<(Option<S3Url>, Option<Diagnosed>), Failure> {
    match place {
        None => Ok((None, None)),
        Some(url) if url.contains("://") => Ok((Some(session::parse_url(url)?), None)),
        Some(dir) => {
            let mount = Diagnosed::at(Path::new(dir)).map_err(|failure| neither(dir, failure))?;
            Ok((Some(session::parse_url(&mount.mount.url)?), Some(mount)))
        }
    }
}

/// There is no mount at `dir`, which may have been meant for a URL.
fn neither(dir: &str, failure: Failure) -> Failure {
    let is_nothing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    Failure {
        exit: match Path::new(dir).symlink_metadata().is_err_and(is_nothing) {
            true => Exit::Usage,
            false => failure.exit,
        },
        advice: "give the directory of a mount, or a URL such as s3://bucket/prefix".to_owned(),
        ..failure
    }
}

/// Shows lines as they come.
struct Terminal {
    prints_lines: bool,
    /// Standard output is the bundle.
    on_standard_error: bool,
}

impl Terminal {
    /// Prints a line or more. A reader that has gone still gets the code.
    fn print(&self, text: &str) {
        let _ = match self.on_standard_error {
            true => writeln!(stderr(), "{text}"),
            false => writeln!(stdout(), "{text}").and_then(|()| stdout().flush()),
        };
    }
}

impl Watcher for Terminal {
    fn noted(&self, line: &Line) {
        if self.prints_lines {
            self.print(&as_line(line));
        }
    }

    fn lasts(&self, doing: &str) {
        if stderr().is_terminal() {
            let _ = writeln!(stderr(), "... {doing}");
        }
    }
}

fn as_line(line: &Line) -> String {
    let mut text = format!(
        "{:<8} {:<20} {}",
        line.verdict.word(),
        line.check,
        line.found
    );
    if let Some(advice) = &line.advice {
        let _ = write!(text, ": {advice}");
    }
    text
}

/// All lines.
fn whole(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.checks {
        let _ = writeln!(text, "{}", as_line(line));
    }
    let _ = writeln!(text, "{}", end(report));
    text
}

/// The lines behind those of the checks.
fn end(report: &Report) -> String {
    let mut text = String::new();
    for setting in &report.recommended {
        let option = format!("{} {}", setting.option, setting.value);
        let _ = writeln!(text, "{:<8} {option:<20} {}", "setting", setting.because);
    }
    let count = |verdict| report.count(verdict);
    let _ = write!(
        text,
        "{} checks: {} ok, {} warning, {} failure, {} skipped",
        report.checks.len(),
        count(Verdict::Ok),
        count(Verdict::Warning),
        count(Verdict::Failure),
        count(Verdict::Skipped)
    );
    text
}

fn json(report: &Report) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(report);
    json.map(|json| shown_json(&json))
        .map_err(|error| Failure::unexpected(format!("cannot print the report: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::doctor::{Measured, Recommendation};

    fn report() -> Report {
        let line = |check, verdict, advice: Option<&str>| Line {
            check,
            verdict,
            found: "found".to_owned(),
            advice: advice.map(str::to_owned),
            names: Vec::new(),
        };
        Report {
            format: 1,
            version: "1",
            url: None,
            verdict: Verdict::Failure,
            checks: vec![
                line("fuse", Verdict::Ok, None),
                line("get", Verdict::Failure, Some("do")),
            ],
            measured: Measured::default(),
            recommended: vec![Recommendation {
                option: "--memory",
                value: "512MiB".to_owned(),
                because: "why".to_owned(),
            }],
        }
    }

    #[test]
    fn a_line_has_verdict_check_finding_and_advice() {
        let [ok, failure]: [Line; 2] = report().checks.try_into().unwrap();
        assert_eq!(as_line(&ok), "ok       fuse                 found");
        assert_eq!(as_line(&failure), "failure  get                  found: do");
        let end = end(&report());
        assert!(
            end.starts_with("setting  --memory 512MiB      why\n"),
            "{end}"
        );
        assert!(end.ends_with("2 checks: 1 ok, 0 warning, 1 failure, 0 skipped"));
    }

    #[test]
    fn the_document_has_the_same() {
        let json = json(&report()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["verdict"], "failure");
        assert_eq!(value["checks"][1]["check"], "get");
        assert_eq!(value["checks"][1]["advice"], "do");
        assert_eq!(value["measured"]["latency_us"], serde_json::Value::Null);
        assert_eq!(value["recommended"][0]["value"], "512MiB");
    }
}
