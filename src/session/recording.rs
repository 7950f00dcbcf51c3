//! The recording of a mount: begun before the first request, ended after the last one, found by
//! whoever collects what a report of a fault needs.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    failure::Failure,
    state::{self, VolumeState},
};
use crate::record::{Copied, RecordFile, RecordPlan, Recorder, copy};

/// How long a process waits at its end for a disk that is slow. The file is whole all the same.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// A path has no more bytes.
const PATH_BYTES_MAX: u64 = 4096;

/// Where a mount records, and how much it keeps.
#[derive(Clone, Debug)]
pub struct RecordingConfig {
    /// The file, absolute.
    pub file: PathBuf,
    /// How much is kept in it.
    pub plan: RecordPlan,
}

/// Begins a recording.
///
/// # Errors
/// [`super::Exit::Usage`]: it cannot be kept there.
pub fn start(config: &RecordingConfig) -> Result<Recorder, Failure> {
    let file = RecordFile::open(&config.file).map_err(|error| {
        Failure::usage(
            format!("cannot record in {error}"),
            "name another file with --record",
        )
    })?;
    Recorder::start(file, config.plan)
        .map_err(|error| Failure::unexpected(format!("cannot record: {error}")))
}

/// Ends a recording, and waits for that for a moment.
pub(super) async fn finish(recorder: Recorder) {
    let path = recorder.path().to_path_buf();
    let finished = tokio::task::spawn_blocking(move || recorder.finish(FINISH_WITHIN)).await;
    match finished {
        Ok(true) => tracing::debug!("the recording in {} is complete", path.display()),
        _ => tracing::warn!("the disk of the recording is slow: it may lack the last requests"),
    }
}

/// Notes in the state directory where this mount records, for [`find`].
pub(super) fn note(state: &VolumeState, recorder: Option<&Recorder>) {
    let Some(recorder) = recorder else { return };
    let note = state.recording_note();
    if let Err(error) = fs::write(&note, recorder.path().as_os_str().as_bytes()) {
        tracing::debug!("{}: {error}", note.display());
    }
}

/// The last recording of each volume that this machine knows, if it is still there. The mount that
/// writes it may live, have ended or have been killed.
pub fn find(state_root: &Path) -> Vec<PathBuf> {
    let volumes = state::volumes(state_root).into_iter();
    volumes.filter_map(|(_, state)| find_of(&state)).collect()
}

/// The last recording of one volume, if it is still there.
pub fn find_of(state: &VolumeState) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let note = File::open(state.recording_note()).ok()?;
    note.take(PATH_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    path.is_file().then_some(path)
}

/// Writes a recording into `to` as a whole HAR document: its last minutes, the oldest first. The
/// recording itself is left as it is, and goes on if its mount lives.
///
/// # Errors
/// It is no recording, or one of the two cannot be read or written.
pub fn close(recording: &Path, to: impl Write) -> io::Result<Copied> {
    copy(File::open(recording)?, to)
}
