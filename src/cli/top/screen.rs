//! The terminal: taken, drawn on, and given back as it was, however it ends.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent},
};

use super::{app::App, draw::draw};
use crate::session::Failure;

/// How long a key is waited for before other things are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The terminal of this process. Dropping it gives it back; so does a panic, before its message is
/// printed.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::session::Exit::Usage): there is none.
    pub fn take() -> Result<Screen, Failure> {
        check_terminal()?;
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                // Part of it may have been done.
                let _ = ratatui::try_restore();
                Err(failed(&error))
            }
        }
    }

    /// Draws.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, app: &App) -> Result<(), Failure> {
        let drawn = self.terminal.draw(|frame| draw(frame, app));
        drawn.map(|_| ()).map_err(|error| failed(&error))
    }

    /// The next key, within `patience` or until `stop` is set. Another size of the terminal counts
    /// as no key.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn key(
        &mut self,
        patience: Duration,
        stop: &AtomicBool,
    ) -> Result<Option<KeyEvent>, Failure> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let came = event::poll(left.min(LOOK_EVERY)).map_err(|error| failed(&error))?;
            if came {
                return match event::read().map_err(|error| failed(&error))? {
                    Event::Key(key) => Ok(Some(key)),
                    _ => Ok(None),
                };
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = ratatui::try_restore();
    }
}

/// Keys are read from standard input, and the screen goes to standard output.
///
/// # Errors
/// [`Exit::Usage`](crate::session::Exit::Usage): one of them is no terminal.
pub fn check_terminal() -> Result<(), Failure> {
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(
        "top needs a terminal to draw on and to read keys from",
        "use 'strongroom status --watch' here",
    ))
}

fn failed(error: &io::Error) -> Failure {
    Failure::unexpected(format!("the terminal fails: {error}"))
}
