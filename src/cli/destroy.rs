//! `strongroom destroy`: deletes a volume.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::{args::StoreArgs, runtime};
use crate::{
    session::{
        self, Failure, connect,
        destroy::{self, Destroyed},
        interruptible, load_header,
    },
    store::S3Url,
    telemetry::human_size,
};

/// `strongroom destroy URL`
#[derive(Args, Debug)]
#[command(
    long_about = "Deletes a volume: all of its objects, the header last. What is in it is gone for good, unless the \
                  bucket keeps versions. It asks for the volume's id, which 'strongroom info' shows. Objects that \
                  Strongroom did not make stay. It needs no key.",
    after_help = "\
Examples:
  strongroom destroy s3://bucket/laptop
  strongroom destroy s3://bucket/laptop --volume 552c35140e2e60318950bbef79115e29"
)]
pub struct DestroyArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// The id of the volume, instead of a question on the terminal
    #[arg(long, value_name = "ID")]
    volume: Option<String>,

    /// Do not wait 35 seconds to see whether a mount still has the volume
    #[arg(long)]
    unwatched: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command.
pub fn run(args: &DestroyArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let destroyed = runtime::block_on(async {
        let store = connect(&url, &args.store.settings()).await?;
        let volume = load_header(&store).await?.header.volume().to_string();
        confirm(&url, &volume, args.volume.as_deref())?;
        let work = async {
            if !args.unwatched {
                tell("looking for half a minute whether a mount still has the volume");
                destroy::check_unused(&store).await?;
            }
            let destroyed = destroy::destroy(&store, &progress).await;
            tell("");
            destroyed
        };
        interruptible(work).await.and_then(|outcome| outcome)
    })?;
    let _ = writeln!(io::stdout(), "{}", summary(&url, &destroyed));
    Ok(())
}

/// # Errors
/// The id that was given is another one, or there is nobody to ask.
fn confirm(url: &S3Url, volume: &str, given: Option<&str>) -> Result<(), Failure> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None => ask(url, volume)?,
    };
    if typed.trim() == volume {
        return Ok(());
    }
    Err(Failure::usage(
        format!("that is not the id of the volume at {url}; nothing was deleted"),
        "'strongroom info' shows the id",
    ))
}

fn ask(url: &S3Url, volume: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask on; nothing was deleted",
            format!("give the id of the volume at {url} with --volume"),
        ));
    }
    let _ = write!(
        io::stderr(),
        "Everything in {url} will be deleted. Type the volume's id ({volume}) to go on: "
    );
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::unexpected(format!("the answer cannot be read: {error}")))?;
    Ok(line)
}

/// A line for whoever watches a terminal; the next one takes its place.
fn tell(line: &str) {
    if io::stderr().is_terminal() {
        // It may be closed; there is nobody left to tell then.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }
}

fn progress(destroyed: &Destroyed) {
    tell(&format!(
        "{} objects ({}) are deleted",
        destroyed.objects,
        human_size(destroyed.bytes)
    ));
}

fn summary(url: &S3Url, destroyed: &Destroyed) -> String {
    let mut text = format!(
        "{url} is destroyed: {} objects ({})",
        destroyed.objects,
        human_size(destroyed.bytes)
    );
    if destroyed.uploads > 0 {
        text += &format!(", {} uploads under way", destroyed.uploads);
    }
    if destroyed.foreign > 0 {
        text += "; something that Strongroom did not make is still there";
    }
    text
}
