//! `strongroom fsck`: is the volume whole?

mod exit;
mod report;

use std::{process::ExitCode, sync::Arc};

use clap::Args;

pub use exit::FsckExit;
use report::Reporter;

use super::{
    runtime,
    visit::{VisitArgs, tell},
};
use crate::{
    check::{Check, CheckError, CheckPlan, Finding, Outcome, Progress},
    meta::{Mended, MetaError},
    session::{Exit, Failure, Opening, Visit, VisitConfig, errors, interruptible},
};

/// `strongroom fsck URL`
#[derive(Args, Debug)]
#[command(
    long_about = "Checks whether a volume is whole: that its metadata holds together, and that the bucket has \
                  every object that it names, in its right length; with --data, that each frame of these \
                  authenticates. It needs no mount, writes nothing without --repair, and may run beside one: then it \
                  checks the state that is durable when it starts.",
    after_help = "\
Examples:
  strongroom fsck s3://bucket/laptop --passphrase-file pass
  strongroom fsck s3://bucket/laptop --passphrase-file pass --data
  strongroom fsck s3://bucket/laptop --passphrase-file pass --data --repair"
)]
pub struct FsckArgs {
    #[command(flatten)]
    visit: VisitArgs,

    /// Read all data objects and open each frame of them
    #[arg(long)]
    data: bool,

    /// Mend the faults that can be mended; needs the lease, so no other mount may have the volume
    /// for writing
    #[arg(long)]
    repair: bool,

    /// Print a JSON object a line: each finding, and a summary at the end
    #[arg(long)]
    json: bool,

    /// Print findings only: no progress, no summary
    #[arg(long, short)]
    quiet: bool,
}

impl FsckArgs {
    /// The same, with `--data`.
    pub fn with_data(self) -> FsckArgs {
        FsckArgs { data: true, ..self }
    }
}

/// Runs the command. Its exit codes are its own.
pub fn run(args: FsckArgs) -> ExitCode {
    let reporter = Reporter::new(args.json, args.quiet);
    let outcome = args.visit.run(|config| {
        runtime::block_on(async {
            let opening = Opening::default();
            let work = check(&args, config, &opening, &reporter);
            let outcome = interruptible(work).await.and_then(|outcome| outcome);
            if outcome.is_err() {
                opening.give_back().await;
            }
            outcome
        })
    });
    match outcome {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            reporter.failed(&error);
            FsckExit::code_for(error.exit).into()
        }
    }
}

async fn check(
    args: &FsckArgs,
    config: VisitConfig,
    opening: &Opening,
    reporter: &Reporter,
) -> Result<FsckExit, Failure> {
    let url = config.url.clone();
    reporter.step("opening the volume");
    let visit = match Visit::open(config, args.repair, opening, &tell).await {
        Ok(visit) => visit,
        // The metadata is damaged, and this command exists to find that out.
        Err(error) if FsckExit::is_verdict(error.exit) => {
            reporter.damaged(&error);
            return Ok(FsckExit::Uncorrected);
        }
        Err(error) => return Err(error),
    };
    if visit.has_living_writer {
        reporter.note(
            "the volume is mounted for writing: this checks the state that was durable just now",
        );
    }
    let store_failed = |error| errors::store(&error, &url);
    let header = check_header(&visit, args.repair)
        .await
        .map_err(store_failed)?;
    if let Some(finding) = &header {
        reporter.finding(finding);
    }
    let progress = Arc::new(Progress::default());
    let check = Check::new(
        CheckPlan {
            frames: args.data,
            repair: args.repair,
            memory_bytes: visit.plan.shares.capacity_bytes,
            connections_max: visit.plan.connections_max,
        },
        visit.store.clone(),
        Arc::clone(&visit.opened.unlocked.keys),
        visit.meta.clone(),
        Arc::clone(&progress),
    );
    let mut report = |finding: &Finding| reporter.finding(finding);
    let checked = tokio::select! {
        checked = check.run(&mut report) => checked,
        () = reporter.follow(&progress) => Err(CheckError::Internal("the display ended".to_owned())),
        () = visit.lost() => Err(MetaError::Fenced.into()),
    };
    reporter.clear();
    let outcome = match checked {
        Ok(outcome) => Ok(outcome),
        Err(CheckError::Meta(error @ MetaError::Store(_))) => {
            // The metadata store does not say whether the bucket or an object in it is at fault.
            let reached = visit.opened.store.check_bucket().await;
            let _ = visit.close().await;
            reached.map_err(|error| errors::store(&error, &url))?;
            let error = errors::meta(&error, "the metadata cannot be read");
            reporter.damaged(&error);
            return Ok(FsckExit::Uncorrected);
        }
        Err(error) => Err(error),
    };
    let closed = visit.close().await;
    let mut outcome = outcome.map_err(|error| match error {
        CheckError::Meta(error) => errors::meta(&error, "the metadata cannot be read"),
        CheckError::Store(error) => errors::store(&error, &url),
        CheckError::Overtaken => Failure::new(
            Exit::Unexpected,
            error.to_string(),
            "check again, or while nobody has it mounted for writing",
        ),
        CheckError::NotThere(why) | CheckError::Internal(why) => Failure::unexpected(why),
    })?;
    closed?;
    add_header(&mut outcome, header.as_ref());
    reporter.summary(&outcome, args.data);
    Ok(FsckExit::verdict(outcome.mended, outcome.left))
}

/// The two copies of the header.
async fn check_header(
    visit: &Visit,
    repair: bool,
) -> Result<Option<Finding>, crate::store::StoreError> {
    let loaded = &visit.opened.loaded;
    let Some((object, why)) = loaded.fault(&visit.store).await? else {
        return Ok(None);
    };
    let mended = match repair {
        true => match loaded.repair(&visit.store, &visit.opened.unlocked).await? {
            true => Some(Mended::Done(
                "it is written anew from the other one".to_owned(),
            )),
            false => Some(Mended::Left("somebody else is changing it".to_owned())),
        },
        false => None,
    };
    Ok(Some(Finding {
        code: "header-copy",
        what: format!("one of the two copies of the volume header is unusable ({why})"),
        object: Some(object.to_owned()),
        paths: Vec::new(),
        ranges: Vec::new(),
        has_more_ranges: false,
        mended,
    }))
}

fn add_header(outcome: &mut Outcome, header: Option<&Finding>) {
    match header.map(|finding| &finding.mended) {
        None => {}
        Some(Some(Mended::Done(_))) => outcome.mended += 1,
        Some(_) => outcome.left += 1,
    }
}
