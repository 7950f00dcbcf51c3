//! The mounts on this machine: those that the kernel has, and those that still drain.
//!
//! A mount whose process hangs or has died is among them, and any user can make a socket that looks
//! like one of ours, so nothing here waits for one longer than twice [`ANSWER_WITHIN`]. Sockets are
//! found in the kernel's table, because the kernel keeps root out of the mounts of other users. A
//! mount whose socket is not there is asked itself.
//!
//! Promises: a process is believed only about the mounts of the user that it runs as.

use std::{
    collections::BTreeMap,
    iter,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::statvfs::statvfs, unistd::geteuid};
use serde::{Serialize, Serializer};

use super::{
    control::{self, Address},
    exit::Exit,
    failure::Failure,
    mountpoint,
    status::StatusReport,
};
use crate::{
    fuse::{
        self,
        mountinfo::{self, MountEntry},
    },
    proc,
};

/// How long a process may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Sockets, and mounts, that are asked at most. A user can make any number of sockets.
const ASKED_MAX: usize = 256;

/// The state of a mount whose process has died.
pub const DEAD: &str = "dead";
/// The state of a mount whose process does not answer, or cannot be found.
pub const SILENT: &str = "silent";

/// A mount. The names of the fields are the keys of `status --json` without a directory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedMount {
    /// The directory.
    #[serde(serialize_with = "as_text")]
    pub mount_point: PathBuf,
    /// The volume.
    pub url: String,
    /// The user who mounted it, if the kernel says so.
    pub user: Option<u32>,
    /// As in the report (`mounted`, `detached`, `draining`, `lost`), or [`DEAD`], or [`SILENT`].
    pub state: String,
    /// The process, if it answers.
    pub pid: Option<u32>,
    /// Contents that are not in the store, if it answers.
    pub dirty_bytes: Option<u64>,
    /// Age of the oldest change that is not in the store, if it answers.
    pub oldest_change_ms: Option<u64>,
    /// The obstacle, if there is one.
    pub trouble: Option<String>,
    /// All that it says.
    #[serde(skip)]
    pub report: Option<StatusReport>,
    /// Where it answers.
    #[serde(skip)]
    pub address: Option<Address>,
}

/// JSON has no bytes that are not UTF-8, and a directory may.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl ListedMount {
    fn answering(user: Option<u32>, address: Address, report: StatusReport) -> ListedMount {
        ListedMount {
            mount_point: PathBuf::from(&report.mount.mount_point),
            url: report.mount.url.clone(),
            user,
            state: report.mount.state.clone(),
            pid: Some(report.mount.pid),
            dirty_bytes: Some(report.durability.dirty_bytes),
            oldest_change_ms: Some(report.durability.oldest_change_ms()),
            trouble: report.durability.trouble.clone(),
            report: Some(report),
            address: Some(address),
        }
    }

    fn mute(entry: &MountEntry, state: &str) -> ListedMount {
        ListedMount {
            mount_point: entry.path.clone(),
            url: entry.source.clone(),
            user: entry.user,
            state: state.to_owned(),
            pid: None,
            dirty_bytes: None,
            oldest_change_ms: None,
            trouble: None,
            report: None,
            address: None,
        }
    }
}

/// The mounts of this user, or of all users for root, by directory.
///
/// # Errors
/// The kernel does not show its table of mounts.
pub fn list() -> Result<Vec<ListedMount>, Failure> {
    let entries = mountinfo::of_kind(fuse::KIND).map_err(|error| {
        Failure::unexpected(format!("cannot read the table of mounts: {error}"))
    })?;
    let (own, all) = (geteuid().as_raw(), geteuid().is_root());
    let entries = entries
        .into_iter()
        .filter(|entry| all || entry.user == Some(own));
    // Of mounts on top of each other only the uppermost can be reached.
    let entries: BTreeMap<PathBuf, MountEntry> =
        entries.map(|entry| (entry.path.clone(), entry)).collect();
    let mut answers = at_once(sockets(), 2 * ANSWER_WITHIN, |address| {
        let report = control::ask_status(&address, ANSWER_WITHIN).ok()?;
        Some((address, report))
    });
    let mut unanswered = Vec::new();
    let mut found = Vec::new();
    for entry in entries.into_values() {
        let serves = |(address, report): &(Address, StatusReport)| {
            address.owner == entry.user
                && report.mount.state != "draining"
                && Path::new(&report.mount.mount_point) == entry.path
        };
        match answers.iter().position(serves) {
            Some(index) => {
                let (address, report) = answers.swap_remove(index);
                found.push(ListedMount::answering(address.owner, address, report));
            }
            None => unanswered.push(entry),
        }
    }
    let gone = answers.into_iter();
    let gone = gone.filter(|(_, report)| report.mount.state != "mounted");
    found.extend(
        gone.map(|(address, report)| ListedMount::answering(address.owner, address, report)),
    );
    let asked = at_once(unanswered.clone(), 2 * ANSWER_WITHIN, |entry| {
        Some((entry.id, ask_itself(entry)))
    });
    let mut asked: BTreeMap<u64, ListedMount> = asked.into_iter().collect();
    found.extend(unanswered.iter().map(|entry| {
        let answer = asked.remove(&entry.id);
        answer.unwrap_or_else(|| ListedMount::mute(entry, SILENT))
    }));
    found.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Ok(found)
}

/// The mount at this directory.
///
/// # Errors
/// As [`list`], and [`Exit::NotMounted`].
pub fn find(dir: &Path) -> Result<ListedMount, Failure> {
    let path = mountpoint::resolve(dir);
    let mut all = list()?.into_iter();
    all.find(|mount| mount.mount_point == path).ok_or_else(|| {
        Failure::new(
            Exit::NotMounted,
            format!("{} is not a Strongroom mount", dir.display()),
            "give the directory that a volume is mounted on",
        )
    })
}

/// The control sockets of this user, or of all users for root.
fn sockets() -> Vec<Address> {
    let (own, all) = (geteuid().as_raw(), geteuid().is_root());
    let listening = proc::listening_sockets().into_iter();
    let sockets = listening.filter(|path| is_control_socket(path));
    sockets
        .filter_map(|path| {
            let owner = path.symlink_metadata().ok()?.uid();
            (all || owner == own).then_some(Address {
                path,
                owner: Some(owner),
            })
        })
        .collect()
}

/// Whether a path is that of a control socket: `<volume id>/<process>.sock`.
fn is_control_socket(path: &Path) -> bool {
    let text =
        |name: Option<&std::ffi::OsStr>| name.and_then(|name| name.to_str().map(str::to_owned));
    let directory = text(path.parent().and_then(Path::file_name)).unwrap_or_default();
    let name = text(path.file_name()).unwrap_or_default();
    let is_volume = directory.len() == 32 && directory.bytes().all(|byte| byte.is_ascii_hexdigit());
    let process = name.strip_suffix(".sock").unwrap_or_default();
    is_volume && !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())
}

/// Asks a mount whose socket was not found, through its directory.
fn ask_itself(entry: MountEntry) -> ListedMount {
    match mountpoint::control_socket(&entry.path) {
        Ok(address) => control::ask_status(&address, ANSWER_WITHIN)
            .map(|report| ListedMount {
                mount_point: entry.path.clone(),
                ..ListedMount::answering(entry.user, address.clone(), report)
            })
            .unwrap_or_else(|_| ListedMount::mute(&entry, SILENT)),
        // Unlike `stat`, this is never answered from the kernel's cache.
        Err(_) if statvfs(&entry.path) == Err(Errno::ENOTCONN) => ListedMount::mute(&entry, DEAD),
        Err(_) => ListedMount::mute(&entry, SILENT),
    }
}

/// Does `work` for each of `things` at the same time. It may never return, so it happens in threads
/// that nobody waits for longer than `patience`; what is not done by then is left out.
fn at_once<A: Send + 'static, B: Send + 'static>(
    things: Vec<A>,
    patience: Duration,
    work: fn(A) -> Option<B>,
) -> Vec<B> {
    let deadline = Instant::now() + patience;
    let (sender, answers) = mpsc::channel();
    for thing in things.into_iter().take(ASKED_MAX) {
        let sender = sender.clone();
        thread::spawn(move || {
            // Nobody waits any longer, if it took too long.
            let _ = sender.send(work(thing));
        });
    }
    // With the last thread the channel ends.
    drop(sender);
    let left = || deadline.saturating_duration_since(Instant::now());
    let answers = iter::from_fn(|| answers.recv_timeout(left()).ok());
    answers.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sockets_are_known_by_their_paths() {
        let volume = "0123456789abcdef0123456789abcdef";
        for (path, is) in [
            (
                format!("/home/a b/.local/state/strongroom/{volume}/17.sock"),
                true,
            ),
            (format!("/{volume}/17.sock"), true),
            (format!("/{volume}/.sock"), false),
            (format!("/{volume}/m17.sock"), false),
            (format!("/{volume}/17.sock/x"), false),
            ("/strongroom/17.sock".to_owned(), false),
        ] {
            assert_eq!(is_control_socket(Path::new(&path)), is, "{path}");
        }
    }
}
