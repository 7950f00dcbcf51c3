//! Asking what is where: a mount over its control socket, which needs no secret, or a volume by its
//! URL, which is opened for reading.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    progress::ProgressLine,
    runtime,
    visit::{OpenArgs, tell},
};
use crate::{
    check::{Answer, Inventory, Progress, Writing},
    session::{
        Exit, Failure, Opening, Visit, VisitConfig,
        control::{self, Look, Told},
        interruptible,
        look::{self, ANSWERS_WAITING_MAX},
        mountpoint,
    },
};

/// A mount says five times a second how far it is.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Asks the volume at a URL, or the mount at a directory; shows each part of the answer.
///
/// # Errors
/// The volume cannot be opened, the mount does not answer, there is no such thing.
pub fn ask(
    place: &str,
    open: &OpenArgs,
    question: Look,
    show: &mut dyn FnMut(Answer),
) -> Result<(), Failure> {
    let display = ProgressLine::new(false);
    let mut show = Showing {
        display: &display,
        show,
    };
    let outcome = match place.contains("://") {
        true => open.run(place, |config| {
            ask_volume(config, question.clone(), &mut show)
        }),
        false => ask_mount(Path::new(place), &question, &mut show),
    };
    display.clear();
    outcome
}

/// The display of an answer and of the way there.
struct Showing<'a> {
    display: &'a ProgressLine,
    show: &'a mut dyn FnMut(Answer),
}

impl Showing<'_> {
    /// The outcome, if this is the end.
    fn take(&mut self, told: Told) -> Option<Result<(), Failure>> {
        match told {
            Told::Working {
                step,
                done_bytes,
                total_bytes,
            } => self.display.show(&step, done_bytes, total_bytes),
            Told::Answer { answer } => self.display.beside(|| (self.show)(*answer)),
            Told::Failed { exit, what, advice } => {
                let exit = Exit::from_code(exit).unwrap_or(Exit::Unexpected);
                return Some(Err(Failure::new(exit, what, advice)));
            }
            Told::Done => return Some(Ok(())),
        }
        None
    }
}

fn ask_mount(dir: &Path, question: &Look, show: &mut Showing<'_>) -> Result<(), Failure> {
    let socket = mountpoint::control_socket(dir)?;
    let silent = |error: io::Error| {
        Failure::new(
            Exit::Unexpected,
            format!("the mount at {} does not answer: {error}", dir.display()),
            "only the user who mounted it and root may ask; an older version answers nothing",
        )
    };
    let mut lines = control::request(&socket, question.request(), SILENCE_MAX).map_err(silent)?;
    loop {
        let line = lines.next_line().map_err(silent)?;
        let line = line.ok_or_else(|| silent(io::ErrorKind::UnexpectedEof.into()))?;
        let told = serde_json::from_str(&line).map_err(|error| silent(error.into()))?;
        if let Some(outcome) = show.take(told) {
            return outcome;
        }
    }
}

fn ask_volume(config: VisitConfig, question: Look, show: &mut Showing<'_>) -> Result<(), Failure> {
    show.display.step("opening the volume");
    let work = async {
        let visit = Visit::open(config, false, &Opening::default(), &tell).await?;
        let inventory = Inventory {
            store: visit.store.clone(),
            meta: visit.meta.clone(),
            writing: match visit.has_living_writer {
                true => Writing::Somebody,
                false => Writing::Nobody,
            },
            progress: Arc::new(Progress::default()),
        };
        let (sender, mut told) = mpsc::channel(ANSWERS_WAITING_MAX);
        let hear = async {
            let mut outcome = None;
            while let Some(told) = told.recv().await {
                outcome = show.take(told).or(outcome);
            }
            outcome.unwrap_or_else(|| Err(Failure::unexpected("the answer broke off")))
        };
        let answer = look::answer(question, inventory, None, sender);
        let (outcome, ()) = tokio::join!(hear, answer);
        visit.close().await?;
        outcome
    };
    runtime::block_on(async { interruptible(work).await.and_then(|outcome| outcome) })
}
