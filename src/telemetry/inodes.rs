//! Files in log lines: `ino:149173`, which `strongroom which` takes. Logs travel, so the path goes
//! with it only if the user asked for that (`mount --log-paths`).

use std::{fmt, sync::OnceLock};

/// Finds the path of an inode, as far as it is known.
type FindPath = Box<dyn Fn(u64) -> Option<String> + Send + Sync>;

/// There is one log in a process, so there is one of these.
static FIND_PATH: OnceLock<FindPath> = OnceLock::new();

/// From now on log lines name paths. The first mount of a process that asks for it is the one whose
/// paths are found. `find` must not log, and escapes what a terminal would obey.
pub fn log_paths(find: impl Fn(u64) -> Option<String> + Send + Sync + 'static) {
    let _ = FIND_PATH.set(Box::new(find));
}

/// An inode, for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InLog(pub u64);

impl fmt::Display for InLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ino:{}", self.0)?;
        match FIND_PATH.get().and_then(|find| find(self.0)) {
            Some(path) => write!(f, " \"{path}\""),
            None => Ok(()),
        }
    }
}
