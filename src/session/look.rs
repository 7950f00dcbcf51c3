//! The answers of `usage` and `which` about an open volume: of a mount that is asked over its
//! control socket, or of a volume that was opened for this.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    control::{Look, Told},
    errors,
    exit::Exit,
    failure::Failure,
};
use crate::check::{Answer, CheckError, Inventory, Progress, Target};

/// How often the asker hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Parts of an answer that wait to be read.
pub const ANSWERS_WAITING_MAX: usize = 64;

/// Answers `look` part by part, the last one [`Told::Done`] or [`Told::Failed`]. Paths below
/// `mount_point` count from there.
pub async fn answer(
    look: Look,
    inventory: Inventory,
    mount_point: Option<&Path>,
    told: mpsc::Sender<Told>,
) {
    let progress = Arc::clone(&inventory.progress);
    let outcome = tokio::select! {
        outcome = find(look, &inventory, mount_point, &told) => outcome,
        () = tell_progress(&progress, &told) => return,
    };
    let last = match outcome {
        Ok(()) => Told::Done,
        Err(error) => Told::Failed {
            exit: error.exit.code(),
            what: error.what,
            advice: error.advice,
        },
    };
    // The asker may have gone.
    let _ = told.send(last).await;
}

/// Returns when nobody listens any more.
async fn tell_progress(progress: &Progress, told: &mpsc::Sender<Told>) {
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let (done_bytes, total_bytes) = progress.bytes();
        let working = Told::Working {
            step: progress.step().to_owned(),
            done_bytes,
            total_bytes,
        };
        if told.send(working).await.is_err() {
            return;
        }
    }
}

async fn find(
    look: Look,
    inventory: &Inventory,
    mount_point: Option<&Path>,
    told: &mpsc::Sender<Told>,
) -> Result<(), Failure> {
    let url = inventory.store.url();
    let found = match look {
        Look::Usage => match inventory.usage().await {
            Ok(usage) => {
                let answer = Box::new(Answer::Usage(Box::new(usage)));
                let _ = told.send(Told::Answer { answer }).await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        Look::Which(text) => {
            let target = Target::parse(&text, url, mount_point)
                .map_err(|why| Failure::usage(why, "see 'strongroom which --help'"))?;
            let (sender, mut answers) = mpsc::channel(1);
            let pass_on = async {
                while let Some(answer) = answers.recv().await {
                    let answer = Box::new(answer);
                    if told.send(Told::Answer { answer }).await.is_err() {
                        answers.close();
                    }
                }
            };
            let ask = async {
                let found = inventory.which(&target, &sender).await;
                drop(sender);
                found
            };
            tokio::join!(ask, pass_on).0
        }
    };
    found.map_err(|error| match error {
        CheckError::NotThere(what) => Failure::new(
            Exit::NotThere,
            what,
            "write a path with a slash before it, a key as the bucket lists it, or ino:N",
        ),
        CheckError::Meta(error) => errors::meta(&error, "the metadata cannot be read"),
        CheckError::Store(error) => errors::store(&error, url),
        CheckError::Overtaken | CheckError::Internal(_) => Failure::unexpected(error.to_string()),
    })
}
