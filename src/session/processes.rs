//! The processes that serve mounts, found by their control sockets instead of through a mount.
//!
//! The kernel lets nobody but its user into a mount that was made without `--allow-other`, not even
//! root, and a mount that is gone leads nowhere. `/proc/net/unix` names the sockets of all state
//! directories.
//!
//! Promises: only a process of the expected user is asked.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use super::{
    control::{self, Address},
    status::StatusReport,
};
use crate::proc;

/// How long each process may take to answer; it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Sockets that are asked at most. A user can make any number of them.
const ASKED_MAX: usize = 256;

/// A process of `user` whose report is the wanted one.
pub fn find(user: u32, mut wanted: impl FnMut(&StatusReport) -> bool) -> Option<Address> {
    let sockets = proc::listening_sockets();
    let ours = sockets
        .into_iter()
        // Connecting to a socket that nobody accepts from can wait for ever, so the file is looked
        // at before.
        .filter(|path| is_control_socket(path) && is_owned_by(path, user));
    ours.take(ASKED_MAX)
        .map(|path| Address {
            path,
            owner: Some(user),
        })
        .find(|socket| {
            control::ask_status(socket, ANSWER_WITHIN).is_ok_and(|report| wanted(&report))
        })
}

fn is_owned_by(path: &Path, user: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|socket| socket.uid() == user)
}

/// `<state-dir>/<volume id>/<process>.sock`.
fn is_control_socket(path: &Path) -> bool {
    let named = |path: Option<&Path>, fits: fn(&[u8]) -> bool| {
        let name = path.and_then(Path::file_name);
        name.is_some_and(|name| fits(name.as_encoded_bytes()))
    };
    let is_process = |name: &[u8]| {
        let number = name.strip_suffix(b".sock").unwrap_or_default();
        !number.is_empty() && number.iter().all(u8::is_ascii_digit)
    };
    let is_volume = |name: &[u8]| name.len() == 32 && name.iter().all(u8::is_ascii_hexdigit);
    path.is_absolute() && named(Some(path), is_process) && named(path.parent(), is_volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_socket_is_told_from_others_by_its_path() {
        let volume = "0123456789abcdef0123456789abcdef";
        for (path, is) in [
            (format!("/var/lib/strongroom/{volume}/17.sock"), true),
            (format!("strongroom/{volume}/17.sock"), false),
            (format!("/x/{volume}/.sock"), false),
            (format!("/x/{volume}/17a.sock"), false),
            (format!("/x/{volume}/17"), false),
            (format!("/x/{volume}0/17.sock"), false),
            ("/17.sock".to_owned(), false),
            ("/run/dbus/system_bus_socket".to_owned(), false),
        ] {
            assert_eq!(is_control_socket(Path::new(&path)), is, "{path}");
        }
    }
}
