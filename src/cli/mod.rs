//! The command line: one file a subcommand, the only place that parses, prints and ends the
//! process.
//!
//! Promises: an error is one line, `strongroom: what: what to do`, with an exit code of its own
//! ([`Exit`]); secrets never stand in the arguments or the environment of a process.
//! Never: moves file contents itself; everything below is reached through [`crate::session`].
//!
//! | file | what it holds |
//! |---|---|
//! | `init.rs`, `mount.rs`, `umount.rs`, `status.rs`, `top/`, `key/`, `info.rs`, `list.rs`, `destroy.rs`, `fsck/`, `usage.rs`, `which.rs`, `gc.rs`, `doctor.rs`, `demo.rs`, `serve.rs`, `generate.rs` | the subcommands |
//! | `args.rs`, `mount_args.rs`, `visit.rs`, `disk_cache.rs`, `record_args.rs`, `values.rs` | options, and the values that they take |
//! | `mount_options.rs` | `-o` |
//! | `secret.rs`, `strength.rs` | passphrases and keys; how strong a new passphrase is |
//! | `daemon.rs`, `runtime.rs`, `sys.rs` | the background, the runtime, system calls |
//! | `observer.rs`, `status_table.rs`, `status_list.rs` | the display of a mount's progress, of its status, of all mounts |
//! | `status_watch.rs`, `status_check.rs` | a status shown again and again, or judged |
//! | `look.rs`, `usage_table.rs`, `price.rs` | asking what is where, of a bucket or a mount; showing it |
//! | `doctor_bundle.rs` | writing the file of `doctor --bundle` |
//! | `progress.rs` | how far a long command is |

pub mod args;
pub mod daemon;
#[cfg(feature = "demo")]
mod demo;
mod destroy;
mod disk_cache;
mod doctor;
mod doctor_bundle;
mod drain_display;
pub mod fsck;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod gc;
mod generate;
mod info;
mod init;
mod key;
mod list;
mod look;
mod mount;
mod mount_args;
mod mount_options;
mod observer;
mod price;
mod progress;
mod record_args;
mod runtime;
pub mod secret;
#[cfg(feature = "demo")]
mod serve;
pub mod status;
mod status_check;
mod status_list;
mod status_table;
mod status_watch;
mod strength;
mod sys;
mod top;
mod umount;
mod usage;
mod usage_table;
pub mod values;
mod visit;
mod which;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::session::{Exit, Failure};

/// Mounts an S3 bucket as a directory in which everything is sealed before it leaves this machine
#[derive(Parser, Debug)]
#[command(
    name = "strongroom",
    version,
    about,
    long_about = "Mounts an S3 bucket as a directory. Everything in the bucket is sealed on this machine before it \
                  leaves: contents, names, sizes of files, the shape of the tree.",
    after_help = examples(),
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// The subcommand
    #[command(subcommand)]
    pub command: Command,
}

/// The end of `strongroom --help`.
fn examples() -> String {
    let mut text = "\
Examples:
  strongroom init   s3://bucket/laptop --passphrase-file pass
  strongroom mount  s3://bucket/laptop /mnt/vault --passphrase-file pass
  strongroom status /mnt/vault
  strongroom umount /mnt/vault"
        .to_owned();
    if cfg!(feature = "demo") {
        text.push_str("\n  strongroom demo");
    }
    text
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a new volume in an empty prefix of a bucket
    Init(init::InitArgs),
    /// Mount a volume on a directory
    Mount(Box<mount_args::MountArgs>),
    /// Unmount, and wait until everything is durable in the store
    #[command(visible_alias = "unmount")]
    Umount(umount::UmountArgs),
    /// Show the state of a mount (memory, requests, uploads, cache, lease), or list all mounts
    Status(status::StatusArgs),
    /// Watch a mount live: rates, latencies, memory, busiest files, what waits for what
    Top(top::TopArgs),
    /// Try it out: a store, a volume and a mount in one process, gone on Ctrl-C
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Run the embedded S3 server alone
    #[cfg(feature = "demo")]
    Serve(serve::ServeArgs),
    /// Add, remove, list and change key slots; make a new key for what is written
    Key(key::KeyArgs),
    /// Check whether a volume is whole, and mend its faults on demand
    Fsck(Box<fsck::FsckArgs>),
    /// Read and authenticate all of a volume: `fsck --data`
    Check(Box<fsck::FsckArgs>),
    /// Show which objects a volume has in the bucket, and what they cost
    Usage(Box<usage::UsageArgs>),
    /// Find the objects of a file, the files of an object, or the path of an inode
    Which(Box<which::WhichArgs>),
    /// Delete the objects in the bucket that nothing names
    Gc(Box<gc::GcArgs>),
    /// Check whether this machine and a store are fit for a mount; needs no key
    Doctor(Box<doctor::DoctorArgs>),
    /// List the volumes in a bucket; needs no key
    List(list::ListArgs),
    /// Delete a volume
    Destroy(destroy::DestroyArgs),
    /// Show a volume's header; needs no key
    Info(info::InfoArgs),
    /// Write the manual pages into a directory
    Man(generate::ManArgs),
    /// Print a completion script for a shell
    Completions(generate::CompletionsArgs),
}

/// Runs the program. Called by `main` before any thread exists, because `mount` may fork.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments),
    };
    let outcome = match cli.command {
        Command::Init(args) => init::run(args),
        Command::Mount(args) => mount::run(*args),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) if args.check => return status_check::run(&args).into(),
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
        #[cfg(feature = "demo")]
        Command::Serve(args) => serve::run(args),
        Command::Key(args) => key::run(args),
        Command::Fsck(args) => return fsck::run(*args),
        Command::Check(args) => return fsck::run(args.with_data()),
        Command::Usage(args) => usage::run(&args),
        Command::Which(args) => which::run(&args),
        Command::Gc(args) => gc::run(*args),
        Command::Doctor(args) => doctor::run(*args),
        Command::List(args) => list::run(&args),
        Command::Destroy(args) => destroy::run(&args),
        Command::Info(args) => info::run(args),
        Command::Man(args) => generate::man(&args),
        Command::Completions(args) => generate::completions(&args),
    };
    match outcome {
        Ok(()) => ExitCode::from(Exit::Ok.code()),
        Err(error) => {
            // Standard error may be closed; there is nobody left to tell then.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(error.exit.code())
        }
    }
}

/// Help and version go to standard output with code 0; everything else is one line and code 2.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::from(Exit::Ok.code())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(Exit::Usage.code())
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{}", usage_error(error, arguments));
            match command_of(arguments).as_deref() {
                // Its exit codes are those of e2fsck.
                Some("fsck" | "check") => fsck::FsckExit::Usage.into(),
                // 2 would be an alarm.
                Some("status") if arguments.iter().any(|argument| argument == "--check") => {
                    status_check::CheckExit::Unknown.into()
                }
                _ => ExitCode::from(Exit::Usage.code()),
            }
        }
    }
}

/// Turns clap's several lines into one with the fault and the advice.
fn usage_error(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" and ")),
        _ => None,
    };
    // Suggestions come with the best one last.
    let best = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(format!("'{text}'")),
        Some(ContextValue::Strings(texts)) => texts.last().map(|text| format!("'{text}'")),
        _ => None,
    };
    let subject = context(ContextKind::InvalidArg)
        .or_else(|| context(ContextKind::InvalidSubcommand))
        .unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::UnknownArgument if subject.starts_with('-') => {
            format!("unknown option '{subject}'")
        }
        ErrorKind::UnknownArgument => format!("unexpected argument '{subject}'"),
        ErrorKind::InvalidSubcommand => format!("unknown command '{subject}'"),
        ErrorKind::MissingRequiredArgument => format!("missing: {subject}"),
        ErrorKind::ArgumentConflict => match context(ContextKind::PriorArg) {
            Some(prior) => format!("'{subject}' does not go together with '{prior}'"),
            None => format!("'{subject}' was given more than once"),
        },
        ErrorKind::InvalidValue if value.is_empty() => format!("'{subject}' needs a value"),
        ErrorKind::InvalidValue => format!("'{value}' is no value for '{subject}'"),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            format!(
                "{subject}: {}",
                why.unwrap_or_else(|| format!("'{value}' is no value for it"))
            )
        }
        _ => first_line(&error.to_string()),
    };
    let help = help_of(arguments);
    let advice = match (
        best(ContextKind::SuggestedArg).or_else(|| best(ContextKind::SuggestedSubcommand)),
        context(ContextKind::ValidValue),
    ) {
        (Some(suggestion), _) => format!("did you mean {suggestion}? See {help}"),
        (None, Some(values)) => format!("use {}", values.replace(" and ", " or ")),
        (None, None) => format!("see {help}"),
    };
    Failure::usage(what, advice)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// The help that fits a command line that was refused: that of its subcommand, if it names one.
fn help_of(arguments: &[OsString]) -> String {
    match command_of(arguments) {
        Some(command) => format!("'strongroom {command} --help'"),
        None => "'strongroom --help'".to_owned(),
    }
}

/// The subcommand that a command line names.
fn command_of(arguments: &[OsString]) -> Option<String> {
    let known = Cli::command();
    arguments
        .iter()
        .skip(1)
        .filter_map(|argument| argument.to_str())
        .find_map(|argument| known.find_subcommand(argument))
        .map(|command| command.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
