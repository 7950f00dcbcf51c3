//! Linux's facts about processes in `/proc`: one place that opens these files and knows how they
//! are written.
//!
//! (The `procfs` crate reads all of a file where one field is wanted, and takes mount points for
//! UTF-8, which they need not be.)

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// `/proc/<pid>/status` (proc_pid_status(5)): a line for each field.
pub(crate) struct Status(String);

impl Status {
    /// Of this process. Empty if the system does not say.
    pub(crate) fn of_self() -> Status {
        Status(fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// Of another process or thread; `None` if it is not there.
    pub(crate) fn of(pid: u32) -> Option<Status> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Status(text))
    }

    /// The text of a field, without the blanks around it.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim())
    }

    /// A set of signals; empty if it is not there.
    pub(crate) fn signals(&self, name: &str) -> u64 {
        let mask = self.field(name);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .unwrap_or(0)
    }

    /// An amount of memory, bytes; 0 if it is not there.
    pub(crate) fn memory_bytes(&self, name: &str) -> u64 {
        let amount = self.field(name).and_then(|value| value.strip_suffix(" kB"));
        amount
            .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
            .map_or(0, |kibibytes| kibibytes * 1024)
    }

    /// The supplementary groups.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let groups = self.field("Groups").unwrap_or_default();
        groups
            .split_whitespace()
            .filter_map(|group| group.parse().ok())
            .collect()
    }
}

impl From<&str> for Status {
    fn from(text: &str) -> Status {
        Status(text.to_owned())
    }
}

/// `/proc/<pid>/stat` (proc_pid_stat(5)): numbered fields in one line.
pub(crate) struct Stat(String);

impl Stat {
    /// Of a process or thread; `None` if it is not there.
    pub(crate) fn of(pid: u32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Stat(text))
    }

    /// The field with this number in the manual, from 3 (the state) on.
    pub(crate) fn field(&self, number: usize) -> Option<&str> {
        // Field 2, the name, may hold anything; it ends at the last parenthesis.
        let (_, rest) = self.0.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(number.checked_sub(3)?)
    }
}

impl From<&str> for Stat {
    fn from(text: &str) -> Stat {
        Stat(text.to_owned())
    }
}

/// The mounts that this process sees, as `/proc/self/mountinfo` has them. Bytes, because mount
/// points need not be UTF-8.
pub(crate) fn mount_table() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo")
}

/// The paths of the Unix sockets that somebody listens on in this network namespace, as they were
/// given to bind(2). Every user chooses such paths, and one with a line break looks like another
/// entry, so the caller looks at who listens.
pub(crate) fn listening_sockets() -> Vec<PathBuf> {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    listening(&table)
}

/// `Num RefCount Protocol Flags Type St Inode Path` (proc_net_unix(5)), the first seven of fixed
/// width or padded, the path as it is.
fn listening(table: &[u8]) -> Vec<PathBuf> {
    /// `__SO_ACCEPTCON`.
    const LISTENS: u32 = 1 << 16;
    let path_of = |line: &[u8]| {
        let mut rest = line;
        let mut fields = [&b""[..]; 7];
        for field in &mut fields {
            rest = rest.trim_ascii_start();
            let end = rest.iter().position(|byte| *byte == b' ')?;
            (*field, rest) = rest.split_at_checked(end)?;
        }
        let [_, _, _, flags, ..] = fields;
        let flags = u32::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
        let path = rest.strip_prefix(b" ")?;
        // A name without a file begins with `@`.
        (flags & LISTENS != 0 && path.starts_with(b"/"))
            .then(|| PathBuf::from(OsString::from_vec(path.to_vec())))
    };
    table
        .split(|byte| *byte == b'\n')
        .filter_map(path_of)
        .collect()
}

/// The random id of this boot; empty if the system does not say.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The process namespace of this process; empty if the system does not say.
pub(crate) fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid")
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The descriptors that this process has open.
pub(crate) fn open_descriptors() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc/self/fd")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_gives_text_signals_memory_and_groups() {
        let status = Status::from(
            "Name:\ta b\nGroups:\t4 27 \nVmRSS:\t   1234 kB\nSigIgn:\t0000000000000001\nSigIgnored:\tx\n",
        );
        assert_eq!(status.field("Name"), Some("a b"));
        assert_eq!(status.field("VmSize"), None);
        assert_eq!(status.groups(), [4, 27]);
        assert_eq!(status.memory_bytes("VmRSS"), 1234 * 1024);
        assert_eq!((status.signals("SigIgn"), status.signals("SigCgt")), (1, 0));
        assert_eq!(status.memory_bytes("Name"), 0);
    }

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields_of_a_stat() {
        let stat = Stat::from("7 (a) b) S 1 2 3");
        assert_eq!((stat.field(3), stat.field(6)), (Some("S"), Some("3")));
        assert_eq!((stat.field(7), stat.field(2)), (None, None));
        assert_eq!(Stat::from("").field(3), None);
    }

    #[test]
    fn sockets_that_somebody_listens_on_are_found_whatever_their_paths_hold() {
        let table = b"\
Num       RefCount Protocol Flags    Type St Inode Path\n\
0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/a  b/1.sock\n\
0000000000000000: 00000003 00000000 00000000 0001 03   999 /run/connected\n\
0000000000000000: 00000002 00000000 00010000 0001 01     7 @abstract\n\
0000000000000000: 00000003 00000000 00000000 0001 03 23457\n";
        assert_eq!(listening(table), [PathBuf::from("/run/a  b/1.sock")]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(listening_sockets().contains(&path));
    }

    #[test]
    fn this_process_is_found() {
        let own = std::process::id();
        assert_eq!(Status::of_self().field("Tgid"), Some(&*own.to_string()));
        assert!(Status::of(own).is_some() && Stat::of(own).is_some());
        assert!(Status::of(u32::MAX).is_none());
        assert!(!mount_table().unwrap().is_empty());
        assert!(open_descriptors().unwrap().contains(&0));
    }
}
