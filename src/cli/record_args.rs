//! The options of a recording of the requests to the store.

use std::path::PathBuf;

use clap::Args;

use super::values::parse_size;
use crate::{
    record::{RecordPlan, SIZE_MIN_BYTES},
    session::recording::RecordingConfig,
    telemetry::human_size,
};

/// More would not fit into memory where it is replayed.
const SIZE_MAX_BYTES: u64 = 1 << 30;
const MINUTES_MAX: u64 = 24 * 60;

/// A recording of the requests to the store.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recording")]
pub struct RecordArgs {
    /// Record the requests to the store in this file, as HAR 1.2: their kinds, sizes, times, and
    /// how they ended; no name, address, key or content. An earlier recording there becomes
    /// FILE.old
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// How many minutes a recording keeps
    #[arg(long, value_name = "MINUTES", default_value = "10", value_parser = parse_minutes)]
    pub record_minutes: u64,

    /// How large the file of a recording may be; it has that size from the beginning. A MiB holds
    /// some 1,000 requests
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_record_size)]
    pub record_size: u64,
}

impl RecordArgs {
    /// The recording, if there is to be one.
    pub fn config(self) -> Option<RecordingConfig> {
        let plan = RecordPlan {
            minutes: self.record_minutes,
            size_bytes: self.record_size,
        };
        self.record.map(|file| RecordingConfig { file, plan })
    }
}

/// A number of minutes.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_minutes(text: &str) -> Result<u64, String> {
    match text.trim().parse() {
        Ok(minutes @ 1..=MINUTES_MAX) => Ok(minutes),
        _ => Err(format!(
            "'{text}' is not a number of minutes from 1 to {MINUTES_MAX}"
        )),
    }
}

/// The size of a recording.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_record_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes @ SIZE_MIN_BYTES..=SIZE_MAX_BYTES => Ok(bytes),
        _ => Err(format!(
            "give {} to {}",
            human_size(SIZE_MIN_BYTES),
            human_size(SIZE_MAX_BYTES)
        )),
    }
}
