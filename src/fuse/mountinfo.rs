//! The kernel's table of mounts, `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::proc;

/// One mount. Equal only to itself for as long as it exists: the kernel may give its numbers out
/// again, but not to a mount at the same place while it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's number.
    pub id: u64,
    /// `major:minor` of its device.
    pub device: String,
    /// Where.
    pub path: PathBuf,
    /// `fuse.strongroom` and the like.
    pub kind: String,
    /// Of a mount of ours: the volume's URL.
    pub source: String,
    /// FUSE: the user who mounted it, as the kernel has it.
    pub user: Option<u32>,
}

/// The mount at `path`, the uppermost if there are several.
pub fn find(path: &Path) -> io::Result<Option<MountEntry>> {
    let table = proc::mount_table()?;
    Ok(parse(&table).filter(|entry| entry.path == path).last())
}

/// All mounts of this kind, in the order in which they were made.
pub fn of_kind(kind: &str) -> io::Result<Vec<MountEntry>> {
    let table = proc::mount_table()?;
    Ok(parse(&table).filter(|entry| entry.kind == kind).collect())
}

/// Whether exactly this mount is still there.
pub fn is_there(entry: &MountEntry) -> io::Result<bool> {
    let table = proc::mount_table()?;
    Ok(parse(&table).any(|other| other == *entry))
}

/// Whether this mount refuses every change now: by itself, or because its whole filesystem does. A
/// mount that is not there does not.
pub fn is_read_only(entry: &MountEntry) -> io::Result<bool> {
    let table = proc::mount_table()?;
    Ok(refuses_changes(&table, entry))
}

pub(super) fn refuses_changes(table: &[u8], entry: &MountEntry) -> bool {
    table
        .split(|byte| *byte == b'\n')
        .filter(|line| parse_line(line).as_ref() == Some(entry))
        .any(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            // The sixth field, and the third behind the dash.
            let of_mount = fields.nth(5);
            let of_filesystem = fields.skip_while(|field| *field != b"-").nth(3);
            [of_mount, of_filesystem]
                .into_iter()
                .flatten()
                .any(|options| {
                    options
                        .split(|byte| *byte == b',')
                        .any(|word| word == b"ro")
                })
        })
}

pub(super) fn parse(table: &[u8]) -> impl Iterator<Item = MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
    let path = unescape(fields.nth(1)?);
    // Behind the dash: kind, source and options of the filesystem.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = fields.next()?;
    let source = unescape(fields.next().unwrap_or_default());
    let options = fields.next().unwrap_or_default();
    let user = options
        .split(|byte| *byte == b',')
        .find_map(|option| option.strip_prefix(b"user_id="));
    Some(MountEntry {
        id,
        device,
        path,
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: source.to_string_lossy().into_owned(),
        user: user.and_then(|user| std::str::from_utf8(user).ok()?.parse().ok()),
    })
}

/// The kernel writes space, tab, line break and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if let (
            b'\\',
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ],
        ) = (first, tail)
        {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// A value for the option string of fusermount3, which splits at commas.
pub fn escape_option(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
40 22 0:35 / /mnt/a\\040b rw,nosuid,nodev shared:7 master:1 - fuse.strongroom s3://x rw,user_id=0\n\
41 22 0:36 / /mnt/a\\040b rw - tmpfs none rw\n";

    #[test]
    fn a_line_gives_device_place_and_kind_whatever_optional_fields_stand_between() {
        let entries: Vec<_> = parse(TABLE).collect();
        assert_eq!(
            entries[1],
            MountEntry {
                id: 40,
                device: "0:35".into(),
                path: "/mnt/a b".into(),
                kind: "fuse.strongroom".into(),
                source: "s3://x".into(),
                user: Some(0),
            }
        );
        assert_eq!(
            (&entries[2].kind, entries[2].user),
            (&"tmpfs".to_owned(), None)
        );
        let line = b"36 35 98:0 / /mnt/a\\040b\\134 rw - fuse.strongroom s3://x rw";
        assert_eq!(parse_line(line).unwrap().path, Path::new("/mnt/a b\\"));
        assert_eq!(parse_line(b"garbage"), None);
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn a_mount_refuses_changes_by_itself_or_with_its_filesystem() {
        let entry = parse(TABLE).nth(1).unwrap();
        let table = |from: &str, to: &str| {
            let table = std::str::from_utf8(TABLE).unwrap();
            table.replace(from, to).into_bytes()
        };
        assert!(!refuses_changes(TABLE, &entry));
        assert!(refuses_changes(&table("rw,nosuid", "ro,nosuid"), &entry));
        assert!(refuses_changes(&table("rw,user_id", "ro,user_id"), &entry));
        assert!(!refuses_changes(&table("none rw", "none ro"), &entry));
    }

    #[test]
    fn an_option_value_cannot_smuggle_an_option_in() {
        assert_eq!(
            escape_option("s3://b/a,allow_other\\x"),
            "s3://b/a\\,allow_other\\\\x"
        );
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(find(Path::new("/")).unwrap().is_some());
    }
}
