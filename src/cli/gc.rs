//! `strongroom gc`: deletes the objects in the bucket that nothing names.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{
    runtime,
    visit::{VisitArgs, tell},
};
use crate::{
    data::{DataError, Sweep, Swept},
    meta::MetaError,
    session::{Failure, Opening, Visit, VisitConfig, errors, interruptible},
    telemetry::human_size,
};

/// `strongroom gc URL`
#[derive(Args, Debug)]
#[command(
    long_about = "Deletes the objects below the volume's prefixes that nothing names: leftovers of mounts that died, \
                  uploads that no mount continues, contents that no file has any more, notes of read-only mounts \
                  that are gone. A mount deletes most of these by itself; in doubt both keep them. It needs the \
                  lease, so no other mount may have the volume for writing. With --dry-run it only lists them, and \
                  may run beside a mount.",
    after_help = "\
Examples:
  strongroom gc s3://bucket/laptop --passphrase-file pass --dry-run
  strongroom gc s3://bucket/laptop --passphrase-file pass"
)]
pub struct GcArgs {
    #[command(flatten)]
    visit: VisitArgs,

    /// List the objects that would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: GcArgs) -> Result<(), Failure> {
    let swept = args.visit.run(|config| {
        runtime::block_on(async {
            let opening = Opening::default();
            let swept = interruptible(sweep(&args, config, &opening)).await;
            let swept = swept.and_then(|swept| swept);
            if swept.is_err() {
                opening.give_back().await;
            }
            swept
        })
    })?;
    let text = match args.json {
        true => format!("{:#}", as_json(&swept, args.dry_run)),
        false => as_lines(&swept, args.dry_run),
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

async fn sweep(args: &GcArgs, config: VisitConfig, opening: &Opening) -> Result<Swept, Failure> {
    let url = config.url.clone();
    let visit = Visit::open(config, !args.dry_run, opening, &tell).await?;
    let sweep = Sweep {
        store: visit.store.clone(),
        keys: visit.opened.unlocked.keys.clone(),
        meta: visit.meta.clone(),
        delete: !args.dry_run,
        has_living_writer: visit.has_living_writer,
        keep_unknown_sessions: args.visit.open.accept.allow_rollback,
        garbage_grace: visit.plan.data.garbage_grace,
    };
    let swept = tokio::select! {
        swept = sweep.run() => swept,
        () = visit.lost() => Err(MetaError::Fenced.into()),
    };
    let closed = visit.close().await;
    let swept = swept.map_err(|error| match error {
        DataError::Store(error) => errors::store(&error, &url),
        DataError::Meta(error) => errors::meta(&error, "the metadata cannot be read"),
        error => Failure::unexpected(error.to_string()),
    })?;
    closed?;
    Ok(swept)
}

fn as_lines(swept: &Swept, dry_run: bool) -> String {
    let mut lines = Vec::new();
    let mut add = |count: u64, bytes: u64, what: &str| {
        if count > 0 {
            lines.push(format!("{count:>8}  {:>10}  {what}", human_size(bytes)));
        }
    };
    add(
        swept.objects,
        swept.bytes,
        "objects that mounts left when they died",
    );
    add(
        swept.garbage,
        swept.garbage_bytes,
        "objects of which no file has a byte",
    );
    add(
        swept.meta_objects,
        swept.meta_bytes,
        "objects of the metadata store that it does not need",
    );
    add(swept.uploads, 0, "uploads that no mount continues");
    add(swept.notes, 0, "notes of read-only mounts that are gone");
    add(
        swept.orphans,
        0,
        "removed files; their objects can go in two minutes",
    );
    let freed = human_size(swept.freed_bytes());
    lines.push(match (swept.freed_bytes(), dry_run) {
        (0, true) => "nothing would be freed".to_owned(),
        (0, false) => "nothing was freed".to_owned(),
        (_, true) => format!("{freed} would be freed"),
        (_, false) => format!("{freed} were freed"),
    });
    if swept.garbage_kept > 0 {
        lines.push(format!(
            "{} objects ({}) of which no file has a byte stay for now: read-only mounts may still read them",
            swept.garbage_kept,
            human_size(swept.garbage_kept_bytes)
        ));
    }
    if swept.living_sessions > 0 {
        lines.push(format!(
            "{} prefixes were passed over: a mount may still write below them, or a newer state name them",
            swept.living_sessions
        ));
    }
    if swept.foreign > 0 {
        lines.push(format!(
            "{} objects are not made by this program, and stay",
            swept.foreign
        ));
    }
    lines.join("\n")
}

fn as_json(swept: &Swept, dry_run: bool) -> serde_json::Value {
    json!({
        "format": 1,
        "dry_run": dry_run,
        "freed_bytes": swept.freed_bytes(),
        "left_objects": swept.objects,
        "left_bytes": swept.bytes,
        "uploads": swept.uploads,
        "garbage_objects": swept.garbage,
        "garbage_bytes": swept.garbage_bytes,
        "garbage_kept_objects": swept.garbage_kept,
        "garbage_kept_bytes": swept.garbage_kept_bytes,
        "metadata_objects": swept.meta_objects,
        "metadata_bytes": swept.meta_bytes,
        "reader_notes": swept.notes,
        "orphans": swept.orphans,
        "living_sessions": swept.living_sessions,
        "foreign": swept.foreign,
    })
}
