//! Exit codes, and the one-line errors that go with them.
//!
//! Promises: each cause that a script may want to tell apart has a code of its own that never
//! changes its meaning; each error is one line, `strongroom: what: what to do`.
//! Never: prints a secret.

use std::fmt;

use crate::telemetry::shown;

/// Longer texts are cut: a path may have 4,096 bytes.
const TEXT_CHARS_MAX: usize = 6000;

/// How the program ended. The table in `docs/operations.md` and the man page is made from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All went well; for `umount`: everything is durable in the store.
    Ok = 0,
    /// A failure that has no code of its own.
    Unexpected = 1,
    /// The command line is wrong: an unknown option, a missing argument, a value that cannot be.
    Usage = 2,
    /// The passphrase, key file or recovery key opens no slot of this volume.
    WrongKey = 3,
    /// There is no volume at this URL.
    NoVolume = 4,
    /// Another mount holds the volume for writing.
    Held = 5,
    /// The store lacks something that a volume needs.
    StoreUnfit = 6,
    /// Not everything became durable.
    NotDurable = 7,
    /// The endpoint does not answer.
    Unreachable = 8,
    /// No S3 credentials were found.
    NoCredentials = 9,
    /// The bucket does not exist.
    NoBucket = 10,
    /// `init` found objects under the prefix.
    NotEmpty = 11,
    /// The mount point does not exist.
    MountPointMissing = 12,
    /// FUSE cannot be used on this machine.
    NoFuse = 13,
    /// The volume was written by a newer version.
    NewerFormat = 14,
    /// The volume header is damaged.
    DamagedHeader = 15,
    /// Stopped by a signal before it was done.
    Interrupted = 16,
    /// The store does not know the key id, or the secret is wrong.
    BadCredentials = 17,
    /// The store knows who asks and refuses.
    Denied = 18,
    /// The mount point is not a directory.
    MountPointNotDirectory = 19,
    /// Something is mounted at the mount point already.
    MountPointInUse = 20,
    /// `--memory` is below the floor.
    MemoryTooSmall = 21,
    /// The directory is not a Strongroom mount.
    NotMounted = 22,
    /// The mount is busy: files are open or a shell stands in it.
    Busy = 23,
    /// The volume went back in time.
    RolledBack = 24,
    /// Another mount took the volume over while this one was serving.
    TakenOver = 25,
    /// The last key slot cannot be removed.
    LastSlot = 26,
    /// The endpoint's certificate is not trusted.
    Tls = 27,
    /// A stored object does not authenticate.
    Damaged = 28,
    /// A volume exists there already.
    VolumeExists = 29,
    /// Another volume is at the URL than this machine knows there.
    OtherVolume = 30,
    /// The volume is on another branch of its history than this machine has seen.
    Forked = 31,
    /// The volume does not have the fingerprint of `--expect`.
    NotExpected = 32,
    /// The volume has a header and no metadata.
    NoMetadata = 33,
    /// The directory of `--disk-cache-dir` cannot be used.
    CacheDirectory = 34,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Exit; 35] = [
        Exit::Ok,
        Exit::Unexpected,
        Exit::Usage,
        Exit::WrongKey,
        Exit::NoVolume,
        Exit::Held,
        Exit::StoreUnfit,
        Exit::NotDurable,
        Exit::Unreachable,
        Exit::NoCredentials,
        Exit::NoBucket,
        Exit::NotEmpty,
        Exit::MountPointMissing,
        Exit::NoFuse,
        Exit::NewerFormat,
        Exit::DamagedHeader,
        Exit::Interrupted,
        Exit::BadCredentials,
        Exit::Denied,
        Exit::MountPointNotDirectory,
        Exit::MountPointInUse,
        Exit::MemoryTooSmall,
        Exit::NotMounted,
        Exit::Busy,
        Exit::RolledBack,
        Exit::TakenOver,
        Exit::LastSlot,
        Exit::Tls,
        Exit::Damaged,
        Exit::VolumeExists,
        Exit::OtherVolume,
        Exit::Forked,
        Exit::NotExpected,
        Exit::NoMetadata,
        Exit::CacheDirectory,
    ];

    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit with this number.
    pub fn from_code(code: u8) -> Option<Exit> {
        Exit::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// One line for the table of codes.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "success; for `umount`, everything is durable in the store",
            Exit::Unexpected => "a failure without a code of its own",
            Exit::Usage => "the command line is wrong",
            Exit::WrongKey => "the passphrase, key file or recovery key opens no slot",
            Exit::NoVolume => "no volume at this URL",
            Exit::Held => "another mount holds the volume for writing",
            Exit::StoreUnfit => "the store lacks something that a volume needs",
            Exit::NotDurable => "not everything became durable",
            Exit::Unreachable => "the endpoint does not answer",
            Exit::NoCredentials => "no S3 credentials found",
            Exit::NoBucket => "the bucket does not exist",
            Exit::NotEmpty => "`init`: the prefix is not empty",
            Exit::MountPointMissing => "the mount point does not exist",
            Exit::NoFuse => "FUSE cannot be used on this machine",
            Exit::NewerFormat => "the volume was written by a newer version",
            Exit::DamagedHeader => "the volume header is damaged",
            Exit::Interrupted => "stopped by a signal before it was done",
            Exit::BadCredentials => "the store refuses the access key or its secret",
            Exit::Denied => "the store denies access",
            Exit::MountPointNotDirectory => "the mount point is not a directory",
            Exit::MountPointInUse => "something is mounted at the mount point already",
            Exit::MemoryTooSmall => "`--memory` is below the floor",
            Exit::NotMounted => "the directory is not a Strongroom mount",
            Exit::Busy => "the mount is busy",
            Exit::RolledBack => "the volume went back in time",
            Exit::TakenOver => "another mount took the volume over",
            Exit::LastSlot => "the last key slot cannot be removed",
            Exit::Tls => "the endpoint's certificate is not trusted",
            Exit::Damaged => "a stored object does not authenticate",
            Exit::VolumeExists => "`init`: there is a volume already",
            Exit::OtherVolume => "another volume is at this URL than this machine knows there",
            Exit::Forked => {
                "the volume is on another branch of its history than this machine has seen"
            }
            Exit::NotExpected => "the volume does not have the fingerprint of `--expect`",
            Exit::NoMetadata => "the volume's header is there, its metadata is not",
            Exit::CacheDirectory => "the directory of `--disk-cache-dir` cannot be used",
        }
    }
}

/// A failed command: what went wrong, what to do about it, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What went wrong, on what. One line.
    pub what: String,
    /// What the user can do. One line.
    pub advice: String,
}

impl Failure {
    /// An error with its code; line breaks are folded away, and control characters are escaped,
    /// since parts of it may come from the store or another process.
    pub fn new(exit: Exit, what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure {
            exit,
            what: one_line(&what.into()),
            advice: one_line(&advice.into()),
        }
    }

    /// A wrong command line.
    pub fn usage(what: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, what, advice)
    }

    /// A failure nobody foresaw.
    pub fn unexpected(what: impl Into<String>) -> Failure {
        Failure::new(
            Exit::Unexpected,
            what,
            "see the log, or try again with --log-level debug",
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strongroom: {}: {}", self.what, self.advice)
    }
}

impl std::error::Error for Failure {}

/// Folds every run of white space, line breaks included, into one space.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(&text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_consecutive_and_distinct() {
        for (index, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), index);
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        assert_eq!(Exit::from_code(200), None);
    }

    #[test]
    fn an_error_is_one_line_whatever_went_into_it() {
        let error = Failure::new(Exit::Held, "a\n  b", "c\r\nd");
        assert_eq!(error.to_string(), "strongroom: a b: c d");
        let error = Failure::new(Exit::Held, "\u{1b}[2Ja", "\u{9b}1mb");
        assert_eq!(
            error.to_string(),
            "strongroom: \\u{1b}[2Ja: \\u{9b}1mb",
            "a terminal has nothing to obey"
        );
    }
}
