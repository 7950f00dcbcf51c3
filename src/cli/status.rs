//! `strongroom status`: asks a mount for its report and prints it.

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Args;

use super::status_table;
use crate::{
    session::{Exit, Failure, control, mountpoint},
    telemetry::shown_json,
};

/// How long a mount may take to answer; it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `strongroom status DIR`
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The directory that the volume is mounted on
    dir: PathBuf,

    /// Print JSON with stable keys instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let socket = mountpoint::control_socket(&args.dir)?;
    let report = control::ask_status(&socket, ANSWER_WITHIN).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!(
                "the mount at {} does not answer: {error}",
                args.dir.display()
            ),
            "only the user who mounted it and root may ask; see its log",
        )
    })?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::unexpected(format!("cannot print the report: {error}")))?;
        shown_json(&json)
    } else {
        status_table::render(&report)
    };
    // A reader that has gone (`status | head`) is no error.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(())
}
