//! SlateDB's names of log objects and manifests.

use object_store::path::Path;

/// Digits in SlateDB's names of log objects and manifests.
const DIGITS: usize = 20;

/// The number of a log object.
pub(super) fn log_number(location: &Path) -> Option<u64> {
    numbered(location, "wal", ".sst")
}

/// The location of a log object.
pub(super) fn log_location(number: u64) -> Path {
    Path::from(format!("wal/{number:020}.sst"))
}

/// The number of a manifest.
pub(super) fn manifest_number(location: &Path) -> Option<u64> {
    numbered(location, "manifest", MANIFEST_EXTENSION)
}

/// How the name of a manifest ends.
pub(super) const MANIFEST_EXTENSION: &str = ".manifest";

/// The number in the name of an object of SlateDB's. Each object has one name: `parse` would take a
/// sign too.
fn numbered(location: &Path, directory: &str, extension: &str) -> Option<u64> {
    let (parent, name) = location.as_ref().split_once('/')?;
    let digits = name.strip_suffix(extension)?;
    let numbered = parent == directory
        && digits.len() == DIGITS
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    numbered.then(|| digits.parse().ok())?
}
