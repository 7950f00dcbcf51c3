//! `strongroom status`: asks a mount for its report and prints it; without a directory it lists all
//! mounts.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    status_list, status_table,
    status_watch::{self, Every},
    values::parse_duration,
};
use crate::{
    session::{Exit, Failure, control, mountpoint, mounts, status::StatusReport},
    telemetry::shown_json,
};

/// How long a mount may take to answer; it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `strongroom status [DIR]`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  strongroom status
  strongroom status /mnt/vault --watch 5
  strongroom status /mnt/vault --check --max-lag 2m

With --check the exit code is 0 (ok), 1 (warning), 2 (critical) or 3 (unknown).")]
pub struct StatusArgs {
    /// The directory that the volume is mounted on; without it, all mounts of this user are listed,
    /// or of all users for root
    pub dir: Option<PathBuf>,

    /// Print JSON with stable keys instead of a table
    #[arg(long)]
    json: bool,

    /// Show it anew every so often, until interrupted [default: 2s]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2s")]
    watch: Option<Every>,

    /// Print one line about whether all is well, and end with a code that says so too
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub check: bool,

    /// With --check: warn if a change has not been in the store for this long
    #[arg(long, value_name = "DURATION", requires = "check", default_value = "60s", value_parser = parse_duration)]
    pub max_lag: Duration,
}

/// Runs the command, but for `--check`.
pub fn run(args: StatusArgs) -> Result<(), Failure> {
    let StatusArgs {
        dir, json, watch, ..
    } = args;
    let Some(every) = watch else {
        let text = text(dir.as_deref(), json, false)?;
        // A reader that has gone (`status | head`) is no error.
        let _ = writeln!(std::io::stdout(), "{text}");
        return Ok(());
    };
    let (every, dir) = every.or_directory(dir)?;
    status_watch::run(every, || text(dir.as_deref(), json, json))
}

/// The report of one mount, or the list of all; JSON in one line if it is to be `compact`.
fn text(dir: Option<&Path>, json: bool, compact: bool) -> Result<String, Failure> {
    let text = match dir {
        None => {
            let list = mounts::list()?;
            match json {
                true => printed(&status_list::json(&list), compact)?,
                false => status_list::render(&list),
            }
        }
        Some(dir) => {
            let report = ask(dir)?;
            match json {
                true => printed(&report, compact)?,
                false => status_table::render(&report),
            }
        }
    };
    Ok(text.trim_end().to_owned())
}

fn ask(dir: &Path) -> Result<StatusReport, Failure> {
    let socket = mountpoint::control_socket(dir)?;
    control::ask_status(&socket, ANSWER_WITHIN).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the mount at {} does not answer: {error}", dir.display()),
            "only the user who mounted it and root may ask; see its log",
        )
    })
}

fn printed(value: &impl serde::Serialize, compact: bool) -> Result<String, Failure> {
    let json = match compact {
        true => serde_json::to_string(value),
        false => serde_json::to_string_pretty(value),
    };
    let json =
        json.map_err(|error| Failure::unexpected(format!("cannot print the report: {error}")))?;
    Ok(shown_json(&json))
}
