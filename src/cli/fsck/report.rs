//! The output of `fsck`: findings on standard output, progress on standard error.

use std::{
    io::{self, Write},
    ops::Range,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    check::{Finding, Outcome, Progress},
    cli::progress::ProgressLine,
    meta::Mended,
    session::Failure,
    telemetry::{human_size, shown, shown_json},
};

/// How often the display follows the check.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// A path may have 4,096 bytes, and each of them may take several characters.
const TEXT_CHARS_MAX: usize = 20_000;
/// Ranges that are printed for people; programs get all.
const RANGES_SHOWN: usize = 16;

/// Prints the findings of a check.
pub(super) struct Reporter {
    json: bool,
    quiet: bool,
    progress: ProgressLine,
    began: Instant,
}

impl Reporter {
    pub(super) fn new(json: bool, quiet: bool) -> Reporter {
        Reporter {
            json,
            quiet,
            progress: ProgressLine::new(quiet),
            began: Instant::now(),
        }
    }

    /// Shows how far the check is; never returns.
    pub(super) async fn follow(&self, progress: &Progress) {
        loop {
            tokio::time::sleep(SHOW_EVERY).await;
            let (done, total) = progress.bytes();
            self.progress.show(progress.step(), done, total);
        }
    }

    /// Names the step that is under way before there is a check.
    pub(super) fn step(&self, step: &str) {
        self.progress.step(step);
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.progress.clear();
    }

    /// Prints a line; a reader that has gone is no error.
    fn line(&self, line: &str) {
        self.progress.beside(|| {
            let _ = writeln!(io::stdout(), "{line}");
        });
    }

    /// A fact that is no fault, but worth knowing.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            self.line(&format!("note: {text}"));
        }
    }

    pub(super) fn finding(&self, finding: &Finding) {
        match self.json {
            true => self.line(&shown_json(&as_json(finding).to_string())),
            false => self.line(&as_text(finding)),
        }
    }

    /// The metadata cannot be read or opened: that is a finding too.
    pub(super) fn damaged(&self, error: &Failure) {
        self.clear();
        self.finding(&Finding {
            code: "metadata",
            what: format!("{}: {}", error.what, error.advice),
            object: None,
            paths: Vec::new(),
            ranges: Vec::new(),
            has_more_ranges: false,
            mended: None,
        });
        if self.json {
            let summary = json!({ "kind": "summary", "complete": false });
            self.line(&summary.to_string());
        }
    }

    pub(super) fn failed(&self, error: &Failure) {
        self.clear();
        let _ = writeln!(io::stderr(), "{error}");
    }

    pub(super) fn summary(&self, outcome: &Outcome, frames: bool) {
        let seconds = self.began.elapsed().as_secs_f64();
        let counted = outcome.counted;
        if self.json {
            let summary = json!({
                "kind": "summary",
                "complete": true,
                "left": outcome.left,
                "mended": outcome.mended,
                "inodes": counted.inodes,
                "extents": counted.extents,
                "objects": counted.objects,
                "stored_bytes": counted.stored_bytes,
                "frames": outcome.frames,
                "frame_bytes": outcome.frame_bytes,
                "unnamed_objects": outcome.unnamed_objects,
                "unnamed_bytes": outcome.unnamed_bytes,
                "seconds": seconds,
            });
            self.line(&summary.to_string());
            return;
        }
        if self.quiet {
            return;
        }
        let verdict = match (outcome.mended, outcome.left) {
            (0, 0) => "the volume is whole".to_owned(),
            (mended, 0) => format!("{mended} things were wrong, and are mended"),
            (0, left) => format!("{left} things are wrong"),
            (mended, left) => format!("{left} things are wrong; {mended} others are mended"),
        };
        self.line(&format!(
            "{verdict}: {} inodes, {} extents, {} objects of {}, in {seconds:.1} s",
            counted.inodes,
            counted.extents,
            counted.objects,
            human_size(counted.stored_bytes),
        ));
        if frames {
            let rate = outcome.frame_bytes as f64 / seconds.max(0.001);
            self.line(&format!(
                "{} frames ({}) were opened, {}/s",
                outcome.frames,
                human_size(outcome.frame_bytes),
                human_size(rate as u64)
            ));
        } else if outcome.left == 0 {
            self.line("contents were not read: --data does that");
        }
        if outcome.unnamed_objects > 0 {
            self.line(&format!(
                "{} objects ({}) are named by nothing: on their way, or left over ('strongroom gc' deletes those)",
                outcome.unnamed_objects,
                human_size(outcome.unnamed_bytes)
            ));
        }
    }
}

fn path_text(path: &[u8]) -> String {
    shown(&String::from_utf8_lossy(path), TEXT_CHARS_MAX)
}

fn as_text(finding: &Finding) -> String {
    let mut line = match finding.paths.split_first() {
        Some((first, [])) => format!("{}: ", path_text(first)),
        Some((first, others)) => {
            let others: Vec<String> = others.iter().map(|path| path_text(path)).collect();
            format!("{} (also {}): ", path_text(first), others.join(", "))
        }
        None => String::new(),
    };
    line.push_str(&shown(&finding.what, TEXT_CHARS_MAX));
    if !finding.ranges.is_empty() {
        let shown: Vec<String> = finding
            .ranges
            .iter()
            .take(RANGES_SHOWN)
            .map(|range| format!("{}-{}", range.start, range.end))
            .collect();
        let has_more = finding.has_more_ranges || finding.ranges.len() > RANGES_SHOWN;
        let more = if has_more { " and more" } else { "" };
        line.push_str(&format!("; bytes {}{more}", shown.join(", ")));
    }
    match &finding.mended {
        None => {}
        Some(Mended::Done(how)) => line.push_str(&format!("; mended: {how}")),
        Some(Mended::Left(why)) => line.push_str(&format!("; left: {why}")),
    }
    line
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let text = |path: &bytes::Bytes| String::from_utf8_lossy(path).into_owned();
    let range = |range: &Range<u64>| json!([range.start, range.end]);
    let (state, detail) = match &finding.mended {
        None => ("found", None),
        Some(Mended::Done(how)) => ("mended", Some(how)),
        Some(Mended::Left(why)) => ("left", Some(why)),
    };
    json!({
        "kind": "finding",
        "code": finding.code,
        "what": finding.what,
        "object": finding.object,
        "paths": finding.paths.iter().map(text).collect::<Vec<_>>(),
        "ranges": finding.ranges.iter().map(range).collect::<Vec<_>>(),
        "more_ranges": finding.has_more_ranges,
        "state": state,
        "detail": detail,
    })
}
