//! The record in a lease, and the process that it names.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LEASE_KEY;
use crate::{
    proc,
    seal::{
        SealError,
        codec::{META_FRAME_LOG2, ObjectKind, open_whole, seal_whole},
        keys::VolumeKeys,
    },
};

/// The longest lease that is read, sealed.
pub const LEASE_BYTES_MAX: u64 = 64 << 10;

/// The holder's activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Serving.
    Mounted,
    /// Unmounted; dirty data is being uploaded.
    Draining,
    /// Done: any mount may take it.
    Released,
}

impl LeaseState {
    /// The name in the object and in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            LeaseState::Mounted => "mounted",
            LeaseState::Draining => "draining",
            LeaseState::Released => "released",
        }
    }
}

/// The running system that a process belongs to: process numbers mean something only within one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The host's name.
    pub host: String,
    /// Random, made anew at each boot.
    pub boot_id: String,
    /// The process namespace; containers of one host have their own.
    pub pid_namespace: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let host = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown".to_owned());
        Machine {
            host,
            boot_id: proc::boot_id(),
            pid_namespace: proc::pid_namespace(),
        }
    }

    /// Whether process numbers of `other` mean the same processes here. False if anything is
    /// unknown.
    pub fn shares_processes_with(&self, other: &Machine) -> bool {
        self == other && !self.boot_id.is_empty() && !self.pid_namespace.is_empty()
    }
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`, proc(5)).
    pub started_ticks: u64,
}

impl Process {
    /// The running process with this number; `None` if there is none, or it is a zombie.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = proc::Stat::of(pid)?;
        if matches!(stat.field(3)?, "Z" | "X") {
            return None;
        }
        let started_ticks = stat.field(22)?.parse().ok()?;
        Some(Process { pid, started_ticks })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid) == Some(*self)
    }
}

/// The content of the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// 1.
    pub format: u32,
    /// Random; of this mount and no other. Hexadecimal.
    pub holder: String,
    /// Where it runs.
    pub machine: Machine,
    /// The process.
    pub process: Process,
    /// Its control socket, so that a mount on the same machine can ask.
    pub socket: String,
    /// The holder's activity.
    pub state: LeaseState,
    /// When it was taken, seconds since 1970, by the holder's clock. Shown, never compared.
    pub acquired_unix_seconds: i64,
    /// Counts the writes, so that each differs from the one before.
    pub renewal: u64,
}

impl LeaseRecord {
    /// The sealed object. A fresh salt each time, so each has another ETag.
    pub fn seal(&self, keys: &Arc<VolumeKeys>) -> serde_json::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        Ok(seal_whole(
            keys,
            ObjectKind::Control,
            META_FRAME_LOG2,
            LEASE_KEY,
            &text,
        ))
    }

    /// Opens the result of [`LeaseRecord::seal`].
    pub fn open(keys: &Arc<VolumeKeys>, stored: &[u8]) -> Result<LeaseRecord, SealError> {
        let text = open_whole(keys, LEASE_KEY, stored)?;
        serde_json::from_slice(&text).map_err(|_| SealError::Header {
            path: LEASE_KEY.to_owned(),
            why: "not a lease that this version understands",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_is_told_from_one_that_runs() {
        let own = Process::of(std::process::id()).expect("this process runs");
        assert!(own.is_alive());
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let process = Process::of(child.id());
        child.wait().expect("ended");
        assert!(!process.is_some_and(|process| process.is_alive()));
        let earlier = Process {
            started_ticks: own.started_ticks - 1,
            ..own
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn another_boot_is_another_machine() {
        let here = Machine::this();
        assert!(here.shares_processes_with(&Machine::this()));
        let before = Machine {
            boot_id: "0".to_owned(),
            ..here.clone()
        };
        assert!(!here.shares_processes_with(&before));
        let unknown = Machine {
            boot_id: String::new(),
            ..here
        };
        assert!(!unknown.shares_processes_with(&unknown));
    }
}
