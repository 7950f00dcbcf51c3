//! The exit codes of `fsck`: those of e2fsck(8), because scripts know them.
//!
//! A code is one of these numbers, never a sum of them: where some faults were mended and others
//! were left, 4 is the one that counts. A failure to open the volume has the code that it has with
//! the other commands, unless that number means something else here; then it becomes 8.

use std::process::ExitCode;

use crate::session::{Exit, exit::exit_codes};

exit_codes! {
    /// How a check ended.
    FsckExit [6] {
        Clean = 0, "the volume is whole";
        Corrected = 1, "what was wrong is mended";
        Uncorrected = 4, "something is wrong, and was left so";
        Operational = 8, "the check could not be made";
        Usage = 16, "the command line is wrong";
        Cancelled = 32, "stopped by a signal";
    }
}

impl FsckExit {
    /// The outcome of a check that came to its end.
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

    /// The code of `fsck` for another command's code; `None` if it stays.
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
