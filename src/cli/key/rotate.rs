//! `strongroom key rotate`: a new key epoch, and writing everything anew under the newest one.

use std::time::Duration;

use clap::Args;

use super::{open, say};
use crate::{
    cli::{
        progress::ProgressLine,
        runtime, secret,
        visit::{VisitArgs, tell},
    },
    session::{
        self, Exit, Failure, Opening, VisitConfig, connect,
        rewrite::{Left, Report, RewriteProgress, rewrite},
        slots,
        state::Trust,
    },
    telemetry::{human_size, shown},
};

/// How often the display follows the work.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// A longer reason is cut.
const REASON_CHARS_MAX: usize = 500;

/// The beginning of `strongroom key rotate --help`.
pub(super) const LONG_ABOUT: &str = "\
Makes a new key (a key epoch), which everything that is written from now on is sealed under. It is a change of the \
volume header alone, takes a moment, and may be made while the volume is mounted: a mount that runs goes on with the \
key that it knows, until it is unmounted and mounted again. Whatever is stored already stays under its old key. No \
passphrase, key file or recovery key changes.

With --rewrite no new key is made: everything that is sealed under an older key is read and written anew under the \
newest, contents and metadata. That needs the lease, so no mount may have the volume for writing. It may be \
interrupted or killed at any moment, and goes on from there when it is started again.";

/// `strongroom key rotate URL`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  strongroom key rotate s3://bucket/laptop --passphrase-file pass
  strongroom key rotate s3://bucket/laptop --passphrase-file pass --rewrite
  strongroom info s3://bucket/laptop")]
pub(super) struct RotateArgs {
    /// Make no new key, but write all that is sealed under older ones anew; goes on where an
    /// earlier run ended
    #[arg(long)]
    rewrite: bool,

    /// Show no progress
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    visit: VisitArgs,
}

pub(super) fn run(args: &RotateArgs) -> Result<(), Failure> {
    if args.rewrite {
        return run_rewrite(args);
    }
    if args.visit.takeover || args.visit.open.expect.is_some() {
        return Err(Failure::usage(
            "a new key is made without opening the volume",
            "use --takeover and --expect with --rewrite only",
        ));
    }
    let url = session::parse_url(&args.visit.url)?;
    let open_args = &args.visit.open;
    secret::with_secret(&open_args.secret, |secret| {
        runtime::block_on(async {
            let store = connect(&url, &open_args.store.settings()).await?;
            let root = open_args.state.root()?;
            let trust = Trust::new(&root, &store, open_args.accept.into());
            let mut opened = open(&store, trust, secret).await?;
            let epoch = slots::rotate(&mut opened).await?;
            let count = opened.loaded.header.epochs().count();
            say(&format!(
                "key epoch {} is made, the volume has {count}: what is written from now on is sealed under it",
                epoch.0
            ));
            for line in NOT_DONE {
                say(line);
            }
            Ok(())
        })
    })
}

/// The limits of a rotation, which its user must not have to look up.
const NOT_DONE: [&str; 3] = [
    "a mount that runs goes on with the key that it knows: unmount and mount again, read-only mounts too",
    "what is stored already stays under its old key, and whoever has that reads it: 'strongroom key rotate --rewrite' writes it anew",
    "passphrases, key files and the recovery key are as before, and open old and new: 'strongroom key change' changes them",
];

fn run_rewrite(args: &RotateArgs) -> Result<(), Failure> {
    let display = ProgressLine::new(args.quiet);
    let report = args.visit.run(|config| {
        runtime::block_on(async {
            let opening = Opening::default();
            let report = rewrite_shown(config, &opening, &display).await;
            display.clear();
            if report.is_err() {
                opening.give_back().await;
            }
            report
        })
    })?;
    for line in as_lines(&report) {
        say(&line);
    }
    match &report.contents.unreadable {
        Some((key, error)) if report.left.contents.objects > 0 => Err(Failure::new(
            Exit::Damaged,
            format!(
                "{} objects cannot be read, and stay under older keys; the first is {key}: {}",
                report.left.contents.objects,
                shown(&error.to_string(), REASON_CHARS_MAX)
            ),
            "see 'strongroom fsck --data' for the files that they hurt",
        )),
        _ if report.left.is_needed() => Err(Failure::new(
            Exit::Unexpected,
            "something that the volume needs is still under older keys",
            "start it again; if it stays so, see 'strongroom fsck'",
        )),
        _ => Ok(()),
    }
}

async fn rewrite_shown(
    config: VisitConfig,
    opening: &Opening,
    display: &ProgressLine,
) -> Result<Report, Failure> {
    let progress = RewriteProgress::default();
    let follow = async {
        loop {
            let (moved, total) = progress.bytes();
            display.show(progress.step(), moved, total);
            tokio::time::sleep(SHOW_EVERY).await;
        }
    };
    let tell = |line: &str| display.beside(|| tell(line));
    let outcome = tokio::select! {
        outcome = rewrite(config, opening, &progress, &tell) => outcome,
        () = follow => Err(Failure::unexpected("the display ended")),
    };
    let (moved, _) = progress.bytes();
    if outcome.is_err() && moved > 0 {
        tell(&format!(
            "strongroom: {} were read to be written anew; what is stored of that counts",
            human_size(moved)
        ));
    }
    outcome
}

fn as_lines(report: &Report) -> Vec<String> {
    let Left {
        contents,
        metadata,
        superfluous,
        fences,
    } = &report.left;
    let mut lines = vec![format!(
        "rewritten under key epoch {}: {} of contents ({} objects), {} tables of metadata",
        report.epoch.0,
        human_size(report.contents.bytes),
        report.contents.objects,
        report.tables
    )];
    for (objects, bytes, what) in [
        (
            contents.objects,
            contents.live_bytes,
            "with contents of files",
        ),
        (metadata.objects, metadata.bytes, "that the metadata needs"),
    ] {
        if objects > 0 {
            lines.push(format!(
                "under older keys: {objects} objects ({}) {what}",
                human_size(bytes)
            ));
        }
    }
    if !report.left.is_needed() {
        lines.push("nothing that the volume needs is under an older key".to_owned());
    }
    let waiting = contents.dead_objects + superfluous.objects;
    if waiting > 0 {
        lines.push(format!(
            "under older keys: {waiting} objects ({}) that nothing needs; the next mount or 'strongroom gc' deletes \
             contents two minutes and metadata a quarter of an hour after they were replaced",
            human_size(contents.dead_bytes + superfluous.bytes)
        ));
    }
    if *fences > 0 {
        lines.push(format!(
            "under older keys: {fences} log objects that hold nothing, and stay"
        ));
    }
    lines.push(
        "older keys stay in the volume header: they open nothing that was written since".to_owned(),
    );
    lines
}
