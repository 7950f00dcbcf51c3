//! The outcome of an examination: a line for each check, what was measured, what is recommended.

use serde::Serialize;

use crate::telemetry::shown;

/// Longer texts are cut: a line has to stay readable.
const TEXT_CHARS_MAX: usize = 600;

/// The judgement of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It could not be looked at, or another failure makes it senseless.
    Skipped,
    /// A mount works, and something will be slow, dear or missing.
    Warning,
    /// A mount does not work, or will lose data.
    Failure,
}

impl Verdict {
    /// The word at the beginning of a line.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Skipped => "skipped",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        }
    }
}

/// Makes the table of checks: name, and the words while it lasts.
macro_rules! checks {
    ($($variant:ident = $name:literal, $doing:literal;)*) => {
        /// One check; in the order in which they are made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Check {
            $(#[doc = $doing] $variant,)*
        }

        impl Check {
            /// The name in reports. It never changes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Check::$variant => $name,)*
                }
            }

            /// The words for a terminal while it lasts.
            pub fn doing(self) -> &'static str {
                match self {
                    $(Check::$variant => $doing,)*
                }
            }
        }
    };
}

checks! {
    Fuse = "fuse", "looking at /dev/fuse";
    AllowOther = "allow other", "reading /etc/fuse.conf";
    Kernel = "kernel", "asking for the kernel's version";
    Memory = "memory", "looking at the limits of memory";
    OpenFiles = "open files", "asking for the limit of open files";
    Endpoint = "endpoint", "connecting to the store";
    Clock = "clock", "comparing the clocks";
    Credentials = "credentials", "trying the credentials";
    Bucket = "bucket", "looking for the bucket";
    Put = "put", "writing an object";
    Get = "get", "reading it again";
    List = "list", "listing objects";
    Delete = "delete", "deleting objects";
    ConditionalPut = "conditional put", "writing objects on conditions";
    RangedGet = "ranged get", "reading ranges of an object";
    Multipart = "multipart upload", "uploading 5 MiB in parts, and reading them again";
    Uploads = "unfinished uploads", "beginning an upload and aborting it";
    Races = "races", "letting conditional writes race";
    Lifecycle = "lifecycle rules", "reading the bucket's lifecycle rules";
    Versioning = "versioning", "asking whether the bucket keeps versions";
    Volume = "volume", "looking for a volume";
    StateDirectory = "state directory", "looking at the state directory";
    DiskCache = "disk cache", "looking at the directory of the disk cache";
    Latency = "latency", "measuring how long small requests take";
    Bandwidth = "bandwidth", "measuring how fast an object moves";
    CleanUp = "clean up", "deleting what was written";
}

/// The finding of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    found: String,
    advice: Option<String>,
    names: Vec<String>,
}

impl Outcome {
    pub(super) fn ok(found: impl Into<String>) -> Outcome {
        Outcome {
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
            names: Vec::new(),
        }
    }

    /// The same with something that may be wanted all the same.
    pub(super) fn hint(found: impl Into<String>, advice: impl Into<String>) -> Outcome {
        Outcome {
            advice: Some(advice.into()),
            ..Outcome::ok(found)
        }
    }

    pub(super) fn skipped(found: impl Into<String>) -> Outcome {
        Outcome {
            verdict: Verdict::Skipped,
            ..Outcome::ok(found)
        }
    }

    pub(super) fn warning(found: impl Into<String>, advice: impl Into<String>) -> Outcome {
        Outcome {
            verdict: Verdict::Warning,
            ..Outcome::hint(found, advice)
        }
    }

    pub(super) fn failure(found: impl Into<String>, advice: impl Into<String>) -> Outcome {
        Outcome {
            verdict: Verdict::Failure,
            ..Outcome::hint(found, advice)
        }
    }

    /// The same with the names that its texts take from the store, for whoever must leave them out.
    pub(super) fn naming(self, names: impl IntoIterator<Item = String>) -> Outcome {
        Outcome {
            names: names.into_iter().collect(),
            ..self
        }
    }

    /// The line of `check`. Texts may come from the store: they are escaped and cut.
    pub(super) fn line(self, check: Check) -> Line {
        Line {
            check: check.name(),
            verdict: self.verdict,
            found: shown(&self.found, TEXT_CHARS_MAX),
            advice: self.advice.map(|advice| shown(&advice, TEXT_CHARS_MAX)),
            names: self.names,
        }
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The check's name.
    pub check: &'static str,
    /// The judgement.
    pub verdict: Verdict,
    /// The facts. One line.
    pub found: String,
    /// The advice. One line.
    pub advice: Option<String>,
    /// Names in these texts that the store supplied, of other objects and of rules.
    #[serde(skip)]
    pub names: Vec<String>,
}

/// Figures, where they were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// By how much this machine's clock is ahead of the store's.
    pub clock_ahead_seconds: Option<i64>,
    /// The median of some small requests, one after the other.
    pub latency_us: Option<u64>,
    /// Of one object, in one request.
    pub upload_bytes_per_second: Option<u64>,
    /// The same down.
    pub download_bytes_per_second: Option<u64>,
}

/// One option of `mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recommendation {
    /// Such as `--memory`.
    pub option: &'static str,
    /// Its value.
    pub value: String,
    /// The reason. One line.
    pub because: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form: 1.
    pub format: u32,
    /// Of the program.
    pub version: &'static str,
    /// The place that was looked at, if any.
    pub url: Option<String>,
    /// The worst verdict.
    pub verdict: Verdict,
    /// One for each check.
    pub checks: Vec<Line>,
    /// Figures.
    pub measured: Measured,
    /// Settings that suit this machine and this store.
    pub recommended: Vec<Recommendation>,
}

impl Report {
    /// How many checks ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        let lines = self.checks.iter();
        lines.filter(|line| line.verdict == verdict).count()
    }

    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        let lines = self.checks.iter();
        let failed = lines.filter(|line| line.verdict == Verdict::Failure);
        failed.map(|line| line.check).collect()
    }
}
