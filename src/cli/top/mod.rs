//! `strongroom top`: a live view of one mount after the other.
//!
//! | file | what |
//! |---|---|
//! | `poll.rs` | a thread that asks the mount each second |
//! | `rates.rs`, `waits.rs` | what two answers, or one, tell; no I/O |
//! | `watched.rs`, `app.rs` | the state of the view, and what keys do to it; no I/O |
//! | `draw.rs`, `panels.rs`, `style.rs` | the screen |
//! | `screen.rs` | the terminal |
//!
//! Promises: the terminal is given back as it was, however it ends; a mount that hangs does not
//! keep a key waiting.
//! Never: asks for more than `status` does, or needs another right.

mod app;
mod draw;
mod panels;
mod poll;
mod rates;
mod screen;
mod style;
#[cfg(test)]
mod tests;
mod waits;
mod watched;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;

use self::{
    app::{App, Choice, Reaction},
    poll::{Poller, Target},
    screen::{Screen, check_terminal},
};
use super::{args::StateArgs, runtime};
use crate::session::{
    Exit, Failure,
    control::Address,
    interruptible, mountpoint,
    mounts::{self, DEAD},
};

/// The screen is drawn so often even if no key is pressed.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// `strongroom top [DIR]`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  strongroom top
  strongroom top /mnt/vault

Keys: q quit, p pause, s sort, ? help, tab and arrows for other mounts.")]
pub struct TopArgs {
    /// The directory that the volume is mounted on; without it the only mount of this user is
    /// watched, or one of a list
    dir: Option<PathBuf>,

    #[command(flatten)]
    state: StateArgs,
}

/// A mount, and where it answers if that is known.
type Found = (Choice, Option<Address>);

/// Runs the command.
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    check_terminal()?;
    let found = find(args)?;
    let state_root = args.state.root().ok();
    runtime::block_on(async move {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut view = tokio::task::spawn_blocking(move || show(found, state_root, &stopped));
        let shown = match interruptible(&mut view).await {
            Ok(shown) => shown,
            // The terminal is given back before this process ends.
            Err(interrupted) => {
                stop.store(true, Ordering::Relaxed);
                let _ = view.await;
                return Err(Failure {
                    advice: "start it again".to_owned(),
                    ..interrupted
                });
            }
        };
        shown.map_err(|error| Failure::unexpected(format!("cannot show it: {error}")))?
    })
}

/// The mounts that can be watched.
fn find(args: &TopArgs) -> Result<Vec<Found>, Failure> {
    let Some(dir) = &args.dir else {
        let listed = mounts::list()?;
        let living = listed.iter().filter(|mount| mount.state != DEAD);
        let found: Vec<Found> = living
            .map(|mount| (Choice::from(mount), mount.address.clone()))
            .collect();
        return match found.is_empty() {
            false => Ok(found),
            true => Err(Failure::new(
                Exit::NotMounted,
                "no Strongroom volume is mounted",
                "mount one, or see 'strongroom status'",
            )),
        };
    };
    let address = mountpoint::control_socket(dir)?;
    let url = mountpoint::mounted(&mountpoint::resolve(dir)).map(|mount| mount.source);
    let choice = Choice {
        dir: dir.clone(),
        url: url.unwrap_or_default(),
        state: String::new(),
    };
    Ok(vec![(choice, Some(address))])
}

/// Shows them until a key or `stop` ends it.
fn show(found: Vec<Found>, state_root: Option<PathBuf>, stop: &AtomicBool) -> Result<(), Failure> {
    let (choices, addresses): (Vec<Choice>, Vec<Option<Address>>) = found.into_iter().unzip();
    let mut app = App::new(choices);
    let watch = |app: &App| {
        let choice = app.choice()?;
        Some(Poller::start(Target {
            dir: choice.dir.clone(),
            address: addresses.get(app.selected).cloned().flatten(),
            state_root: state_root.clone(),
        }))
    };
    let mut screen = Screen::take()?;
    let mut poller = match app.choosing {
        true => None,
        false => watch(&app),
    };
    while !stop.load(Ordering::Relaxed) {
        poller
            .iter()
            .flat_map(Poller::news)
            .for_each(|told| app.told(told));
        screen.draw(&app)?;
        let Some(key) = screen.key(DRAW_EVERY, stop)? else {
            continue;
        };
        match app.key(key) {
            Reaction::Stay => {}
            Reaction::Quit => break,
            Reaction::Watch => poller = watch(&app),
        }
    }
    Ok(())
}
