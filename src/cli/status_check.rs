//! `strongroom status --check`: one line and an exit code, as Nagios and its like expect of a
//! plugin.

use std::{fmt::Write as _, io::Write as _, process::ExitCode, time::Duration};

use super::status::StatusArgs;
use crate::{
    session::{
        Failure,
        exit::exit_codes,
        mounts::{self, DEAD, ListedMount, SILENT},
        status::StatusReport,
    },
    telemetry::{human_size, shown},
};

/// Longer texts are cut: the line has to fit into a message.
const TEXT_CHARS_MAX: usize = 500;

exit_codes! {
    /// How a check ended; the numbers are those of the plugins of Nagios.
    #[derive(PartialOrd, Ord)]
    CheckExit [4] {
        Ok = 0, "all is well";
        Warning = 1, "something should be looked at";
        Critical = 2, "nothing can be read or becomes durable, or data is lost";
        Unknown = 3, "there is nothing to check, or it cannot be checked";
    }
}

impl CheckExit {
    fn word(self) -> &'static str {
        match self {
            CheckExit::Ok => "OK",
            CheckExit::Warning => "WARNING",
            CheckExit::Critical => "CRITICAL",
            CheckExit::Unknown => "UNKNOWN",
        }
    }
}

impl From<CheckExit> for ExitCode {
    fn from(exit: CheckExit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> CheckExit {
    let found = match &args.dir {
        Some(dir) => mounts::find(dir).map(|mount| vec![mount]),
        None => mounts::list(),
    };
    let (exit, line) = verdict(found, args.max_lag);
    // A reader that has gone still gets the code.
    let _ = writeln!(std::io::stdout(), "STRONGROOM {}: {line}", exit.word());
    exit
}

/// The verdict over all that was found, and the line without its first words.
fn verdict(found: Result<Vec<ListedMount>, Failure>, max_lag: Duration) -> (CheckExit, String) {
    let found = match found {
        Ok(found) if found.is_empty() => {
            return (
                CheckExit::Unknown,
                "no Strongroom volume is mounted".to_owned(),
            );
        }
        Ok(found) => found,
        Err(failure) => return (CheckExit::Unknown, failure.what),
    };
    let judged: Vec<(CheckExit, String)> =
        found.iter().map(|mount| judge(mount, max_lag)).collect();
    let worst = judged.iter().map(|(exit, _)| *exit).max();
    let worst = worst.unwrap_or(CheckExit::Unknown);
    // A pipe would begin the figures, and a line break another line.
    let texts = found.iter().zip(&judged).map(|(mount, (_, text))| {
        let directory = mount.mount_point.to_string_lossy();
        format!("{directory} {text}").replace('|', "/")
    });
    let texts: Vec<String> = texts.map(|text| shown(&text, TEXT_CHARS_MAX)).collect();
    let mut line = texts.join("; ");
    if let [mount] = found.as_slice()
        && let (Some(dirty), Some(oldest_ms)) = (mount.dirty_bytes, mount.oldest_change_ms)
    {
        let _ = write!(
            line,
            " | dirty={dirty}B lag={:.1}s;{:.1}",
            oldest_ms as f64 / 1e3,
            max_lag.as_secs_f64()
        );
    }
    (worst, line)
}

fn judge(mount: &ListedMount, max_lag: Duration) -> (CheckExit, String) {
    match (mount.state.as_str(), &mount.report) {
        (DEAD, _) => (
            CheckExit::Critical,
            "is dead: its process has died".to_owned(),
        ),
        (SILENT, _) | (_, None) => (CheckExit::Critical, "does not answer".to_owned()),
        (state, Some(report)) => judge_report(state, report, max_lag),
    }
}

fn judge_report(state: &str, report: &StatusReport, max_lag: Duration) -> (CheckExit, String) {
    let durability = &report.durability;
    let trouble = durability.trouble.as_deref();
    let because = |text: &str| match trouble {
        Some(why) => format!("{text}: {why}"),
        None => text.to_owned(),
    };
    let lease_is_lost = report
        .lease
        .as_ref()
        .is_some_and(|lease| lease.state == "lost");
    if state == "lost" || durability.failed || lease_is_lost {
        return (CheckExit::Critical, because("can store nothing any more"));
    }
    if durability.lost_files > 0 {
        let text = format!("has lost data of {} files", durability.lost_files);
        return (CheckExit::Critical, because(&text));
    }
    let oldest = Duration::from_millis(durability.oldest_change_ms());
    let seconds = oldest.as_secs_f64();
    let lag = match durability.dirty_bytes {
        0 if oldest.is_zero() => "everything is stored".to_owned(),
        0 => format!("names or attributes are not stored for {seconds:.1} s"),
        bytes => format!("{} are not stored for {seconds:.1} s", human_size(bytes)),
    };
    if trouble.is_some() {
        return (CheckExit::Warning, because(&format!("is held up, {lag}")));
    }
    if oldest > max_lag {
        return (CheckExit::Warning, format!("lags behind, {lag}"));
    }
    match state {
        "mounted" => (CheckExit::Ok, format!("is mounted, {lag}")),
        state => (CheckExit::Warning, format!("is {state}, {lag}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Exit, status::LeaseStatus};

    const MAX_LAG: Duration = Duration::from_secs(60);

    fn mount(state: &str, report: Option<StatusReport>) -> ListedMount {
        let durability = report.as_ref().map(|report| &report.durability);
        ListedMount {
            mount_point: "/mnt/vault".into(),
            url: "s3://bucket/laptop".to_owned(),
            user: Some(0),
            state: state.to_owned(),
            pid: Some(7),
            dirty_bytes: durability.map(|durability| durability.dirty_bytes),
            oldest_change_ms: durability.map(|durability| durability.oldest_change_ms()),
            trouble: durability.and_then(|durability| durability.trouble.clone()),
            report,
            address: None,
        }
    }

    fn report(change: impl FnOnce(&mut StatusReport)) -> Option<StatusReport> {
        let mut report = StatusReport::default();
        change(&mut report);
        Some(report)
    }

    #[test]
    fn each_state_has_its_verdict() {
        use CheckExit::{Critical, Ok, Warning};
        let well = || report(|_| {});
        let lag = |ms| report(|report| report.durability.contents_lag_ms = ms);
        let lease = LeaseStatus {
            state: "lost".to_owned(),
            ..LeaseStatus::default()
        };
        for (state, report, exit, word) in [
            ("mounted", well(), Ok, "is mounted, everything is stored"),
            ("mounted", lag(60_000), Ok, "is mounted"),
            ("mounted", lag(60_001), Warning, "lags behind"),
            (
                "mounted",
                report(|it| it.durability.lag_ms = 60_001),
                Warning,
                "lags behind",
            ),
            ("draining", well(), Warning, "is draining"),
            ("detached", well(), Warning, "is detached"),
            (
                "mounted",
                report(|it| it.durability.trouble = Some("no a|b".into())),
                Warning,
                "no a/b",
            ),
            ("lost", well(), Critical, "nothing any more"),
            (
                "mounted",
                report(|it| it.durability.failed = true),
                Critical,
                "nothing any more",
            ),
            (
                "mounted",
                report(|it| it.lease = Some(lease)),
                Critical,
                "nothing any more",
            ),
            (
                "mounted",
                report(|it| it.durability.lost_files = 2),
                Critical,
                "of 2 files",
            ),
            (DEAD, None, Critical, "dead"),
            (SILENT, None, Critical, "does not answer"),
        ] {
            let (judged, line) = verdict(Result::Ok(vec![mount(state, report)]), MAX_LAG);
            assert_eq!(judged, exit, "{line}");
            assert!(line.contains(word) && line.lines().count() == 1, "{line}");
            assert!(line.matches('|').count() <= 1, "{line}");
        }
    }

    #[test]
    fn the_worst_counts_and_nothing_at_all_is_unknown() {
        let well = mount("mounted", report(|_| {}));
        let late = mount("mounted", report(|it| it.durability.lag_ms = 90_000));
        let all = vec![well.clone(), late, well.clone()];
        let (exit, line) = verdict(Ok(all), MAX_LAG);
        assert_eq!(exit, CheckExit::Warning);
        assert_eq!(line.matches("/mnt/vault").count(), 3, "{line}");
        let (_, line) = verdict(Ok(vec![well]), MAX_LAG);
        assert!(line.ends_with(" | dirty=0B lag=0.0s;60.0"), "{line}");
        assert_eq!(verdict(Ok(Vec::new()), MAX_LAG).0, CheckExit::Unknown);
        let none = Failure::new(Exit::NotMounted, "/mnt is no mount", "give another");
        assert_eq!(
            verdict(Err(none), MAX_LAG),
            (CheckExit::Unknown, "/mnt is no mount".to_owned())
        );
    }
}
