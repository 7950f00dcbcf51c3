//! The container: a tar archive of a bounded size, made in memory.

use std::io;

use tar::{Builder, EntryType, Header};

use crate::clock;

/// The directory that all files of a bundle are in.
const DIRECTORY: &str = "strongroom-report";
/// The first file of a bundle.
pub(super) const README: &str = "README.txt";

/// All files together have at most so many bytes.
pub(super) const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its name in the bundle's directory.
    pub name: String,
    /// Its contents in a few words.
    pub about: String,
    /// Its size.
    pub size_bytes: u64,
}

/// A file with its contents.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) contents: Vec<u8>,
}

impl Entry {
    pub(super) fn packed(&self) -> Packed {
        Packed {
            name: self.name.clone(),
            about: self.about.clone(),
            size_bytes: self.contents.len() as u64,
        }
    }
}

/// The archive with these files.
pub(super) fn archive(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let now = u64::try_from(clock::unix_seconds()).unwrap_or_default();
    for entry in entries {
        // Neither user nor group: it has no names.
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(now);
        header.set_size(entry.contents.len() as u64);
        let path = format!("{DIRECTORY}/{}", entry.name);
        archive.append_data(&mut header, path, entry.contents.as_slice())?;
    }
    archive.into_inner()
}

/// The text of the first file.
pub(super) fn readme(entries: &[Entry], left_out: &[String]) -> String {
    let mut text = format!(
        "\
A report of Strongroom {}, made by 'strongroom doctor --bundle'.

Read it before you send it. It is meant to hold no secret, no content and no name: no passphrase,
key or credential, nothing of any file, and in place of the names of buckets, prefixes, endpoints,
directories, users, hosts and volumes stand words in angle brackets, such as <bucket>. Names are
replaced where they were known or look like names (URLs, absolute paths, addresses), so look at the
logs and at doctor.txt with your own eyes. What can be told from it: versions, sizes, counts, times.

Files:
",
        env!("CARGO_PKG_VERSION")
    );
    for entry in entries {
        text.push_str(&format!("  {:<24} {}\n", entry.name, entry.about));
    }
    text.push_str("\nLeft out:\n");
    for line in left_out {
        text.push_str(&format!("  {line}\n"));
    }
    if left_out.is_empty() {
        text.push_str("  nothing\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io::Read, path::Path};

    use super::*;

    #[test]
    fn an_archive_has_each_file_once_for_its_reader_alone() {
        let entry = |name: &str, contents: &str| Entry {
            name: name.to_owned(),
            about: "about".to_owned(),
            contents: contents.as_bytes().to_vec(),
        };
        let bytes =
            archive(&[entry(README, "read"), entry("mount-1/log.txt", "")]).expect("packed");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("read");
            assert_eq!(entry.header().mode().expect("a mode"), 0o600);
            assert_eq!(entry.header().username(), Ok(Some("")));
            found.push((entry.path().expect("a path").into_owned(), text));
        }
        let path = |name: &str| Path::new(DIRECTORY).join(name);
        assert_eq!(
            found,
            [
                (path(README), "read".to_owned()),
                (path("mount-1/log.txt"), String::new())
            ]
        );
    }
}
