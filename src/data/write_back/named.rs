//! Several files in one log line.

use std::sync::Arc;

use crate::{data::file::FileState, telemetry::InLog};

/// Files that a line names at most.
const NAMED_MAX: usize = 8;

/// The files, for a log line.
pub(super) fn named(files: &[Arc<FileState>]) -> String {
    let named = files.iter().take(NAMED_MAX);
    let mut text: Vec<String> = named.map(|file| InLog(file.ino.0).to_string()).collect();
    match files.len().saturating_sub(NAMED_MAX) {
        0 if text.is_empty() => text.push("removed files".to_owned()),
        0 => {}
        more => text.push(format!("{more} more files")),
    }
    text.join(", ")
}
