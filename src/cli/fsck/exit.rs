//! The exit codes of `fsck`: those of e2fsck(8), because scripts know them.
//!
//! A code says what became of the check, and is one of these numbers, never a sum of them: where
//! something was mended and something else was left, 4 is the one that counts. Whatever keeps the
//! volume from being opened has the code that it has with the other commands, as long as that
//! number means nothing here; where it does, it becomes 8.

use std::process::ExitCode;

use crate::session::Exit;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FsckExit {
    /// Nothing is wrong.
    Clean = 0,
    /// All that was wrong is mended.
    Corrected = 1,
    /// Something is wrong, and was left so.
    Uncorrected = 4,
    /// The check could not be made.
    Operational = 8,
    /// The command line is wrong.
    Usage = 16,
    /// Stopped by a signal.
    Cancelled = 32,
}

impl FsckExit {
    /// All of them, in the order of their numbers.
    pub const ALL: [FsckExit; 6] = [
        FsckExit::Clean,
        FsckExit::Corrected,
        FsckExit::Uncorrected,
        FsckExit::Operational,
        FsckExit::Usage,
        FsckExit::Cancelled,
    ];

    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// One line for the table of codes.
    pub fn meaning(self) -> &'static str {
        match self {
            FsckExit::Clean => "the volume is whole",
            FsckExit::Corrected => "what was wrong is mended",
            FsckExit::Uncorrected => "something is wrong, and was left so",
            FsckExit::Operational => "the check could not be made",
            FsckExit::Usage => "the command line is wrong",
            FsckExit::Cancelled => "stopped by a signal",
        }
    }

    /// What became of a check that came to its end.
    pub fn verdict(mended: u64, left: u64) -> FsckExit {
        match (mended, left) {
            (0, 0) => FsckExit::Clean,
            (_, 0) => FsckExit::Corrected,
            _ => FsckExit::Uncorrected,
        }
    }

    /// Whether this failure to open a volume says that the volume is not whole.
    pub fn is_verdict(exit: Exit) -> bool {
        matches!(exit, Exit::Damaged | Exit::DamagedHeader | Exit::NoMetadata)
    }

    /// What another command's code becomes here; `None` if it stays.
    pub fn of(exit: Exit) -> Option<FsckExit> {
        match exit {
            Exit::Ok => Some(FsckExit::Clean),
            Exit::Usage => Some(FsckExit::Usage),
            Exit::Interrupted => Some(FsckExit::Cancelled),
            exit if FsckExit::is_verdict(exit) => Some(FsckExit::Uncorrected),
            exit if FsckExit::ALL.iter().any(|own| own.code() == exit.code()) => {
                Some(FsckExit::Operational)
            }
            _ => None,
        }
    }

    /// The number for a failure of the whole command.
    pub fn code_for(exit: Exit) -> u8 {
        FsckExit::of(exit).map_or(exit.code(), FsckExit::code)
    }
}

impl From<FsckExit> for ExitCode {
    fn from(exit: FsckExit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_to_open_looks_like_a_verdict() {
        for exit in Exit::ALL.into_iter().filter(|exit| *exit != Exit::Ok) {
            let code = FsckExit::code_for(exit);
            assert!(![0, 1].contains(&code), "{exit:?}");
            assert_eq!(code == 4, FsckExit::is_verdict(exit), "{exit:?}");
        }
        assert_eq!(FsckExit::code_for(Exit::WrongKey), 3);
        assert_eq!(FsckExit::code_for(Exit::RolledBack), 24);
        assert_eq!(FsckExit::code_for(Exit::NoVolume), 8);
        assert_eq!(FsckExit::code_for(Exit::Interrupted), 32);
    }
}
