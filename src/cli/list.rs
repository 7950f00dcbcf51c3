//! `strongroom list`: which volumes are in a bucket?

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{args::StoreArgs, info::slot_json, runtime};
use crate::session::{
    self, Exit, Failure, connect,
    volumes::{FoundVolume, find_volumes},
};

/// `strongroom list URL`
#[derive(Args, Debug)]
#[command(
    long_about = "Lists the volumes in a bucket, or below a prefix of it: their URLs, ids and slots. It needs no key. \
                  Eight levels of prefixes are looked through.",
    after_help = "\
Example:
  strongroom list s3://bucket"
)]
pub struct ListArgs {
    /// Where to look: s3://bucket or s3://bucket/prefix
    url: String,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command.
pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let found = runtime::block_on(async {
        let store = connect(&url, &args.store.settings()).await?;
        find_volumes(&store).await
    })?;
    for volume in &found.volumes {
        let line = match args.json {
            true => as_json(volume),
            false => as_line(volume),
        };
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    for (place, why) in &found.skipped {
        let _ = writeln!(
            std::io::stderr(),
            "strongroom: {place} was not looked through to the end: {why}"
        );
    }
    if found.volumes.is_empty() {
        return Err(Failure::new(
            Exit::NoVolume,
            format!("there is no volume at {url} or below it"),
            "make one with 'strongroom init'",
        ));
    }
    Ok(())
}

fn as_line(volume: &FoundVolume) -> String {
    match &volume.header {
        Ok(header) => {
            let slots: Vec<_> = header.slots().map(|slot| slot.kind.name()).collect();
            format!("{}  {}  {}", volume.url, header.volume(), slots.join(", "))
        }
        Err(why) => format!("{}  its header is unusable: {why}", volume.url),
    }
}

fn as_json(volume: &FoundVolume) -> String {
    match &volume.header {
        Ok(header) => json!({
            "url": volume.url,
            "volume": header.volume().to_string(),
            "slots": header.slots().map(|slot| slot_json(&slot, None)).collect::<Vec<_>>(),
        }),
        Err(why) => json!({ "url": volume.url, "unusable": why }),
    }
    .to_string()
}
