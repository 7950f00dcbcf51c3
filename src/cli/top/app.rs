//! The state of the view, and what each key does to it. No I/O.

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    poll::Told,
    watched::{Sort, Watched},
};
use crate::session::mounts::ListedMount;

/// A mount that can be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub dir: PathBuf,
    pub url: String,
    pub state: String,
}

impl From<&ListedMount> for Choice {
    fn from(mount: &ListedMount) -> Choice {
        Choice {
            dir: mount.mount_point.clone(),
            url: mount.url.clone(),
            state: mount.state.clone(),
        }
    }
}

/// The answer of a key to the loop around this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    Stay,
    Quit,
    /// Watch the mount that is selected now.
    Watch,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct App {
    pub mounts: Vec<Choice>,
    /// The number of the mount that is watched, or that the list's cursor is on.
    pub selected: usize,
    /// The list is shown instead of a mount.
    pub choosing: bool,
    pub paused: bool,
    pub help: bool,
    pub sort: Sort,
    pub watched: Watched,
}

impl App {
    /// A list to choose from, if there are several.
    pub fn new(mounts: Vec<Choice>) -> App {
        App {
            choosing: mounts.len() > 1,
            mounts,
            selected: 0,
            paused: false,
            help: false,
            sort: Sort::default(),
            watched: Watched::default(),
        }
    }

    /// The mount that is selected.
    pub fn choice(&self) -> Option<&Choice> {
        self.mounts.get(self.selected)
    }

    /// Takes in what was told. While it is paused nothing changes, but for the end of the mount.
    pub fn told(&mut self, told: Told) {
        match told {
            Told::Activity(..) | Told::Problem(_) if self.paused => {}
            Told::Activity(at, activity) => self.watched.answered(at, *activity),
            Told::Problem(why) => self.watched.problem = Some(why),
            Told::Ended(how) => {
                self.watched.problem = None;
                self.watched.ended = Some(how);
            }
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Reaction {
        if key.kind == KeyEventKind::Release {
            return Reaction::Stay;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Reaction::Quit,
            _ if control => return Reaction::Stay,
            KeyCode::Char('q') => return Reaction::Quit,
            // Any other key takes the help away.
            _ if self.help => self.help = false,
            KeyCode::Char('?' | 'h') => self.help = true,
            _ if self.choosing => return self.key_in_list(key.code),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Tab | KeyCode::Right | KeyCode::Down => return self.turn(1),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Up => {
                return self.turn(self.mounts.len().saturating_sub(1));
            }
            KeyCode::Esc if self.mounts.len() > 1 => self.choosing = true,
            _ => {}
        }
        Reaction::Stay
    }

    fn key_in_list(&mut self, code: KeyCode) -> Reaction {
        let last = self.mounts.len().saturating_sub(1);
        match code {
            KeyCode::Down | KeyCode::Tab | KeyCode::Right => {
                self.selected = if self.selected >= last {
                    0
                } else {
                    self.selected + 1
                };
            }
            KeyCode::Up | KeyCode::BackTab | KeyCode::Left => {
                self.selected = self.selected.checked_sub(1).unwrap_or(last);
            }
            KeyCode::Enter | KeyCode::Char(' ') => {
                self.choosing = false;
                self.begin();
                return Reaction::Watch;
            }
            _ => {}
        }
        Reaction::Stay
    }

    /// Goes so many mounts on, in a circle.
    fn turn(&mut self, by: usize) -> Reaction {
        if self.mounts.len() < 2 {
            return Reaction::Stay;
        }
        self.selected = (self.selected + by) % self.mounts.len();
        self.begin();
        Reaction::Watch
    }

    fn begin(&mut self) {
        self.watched = Watched::default();
        self.paused = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn app(mounts: usize) -> App {
        let choice = |number: usize| Choice {
            dir: PathBuf::from(format!("/mnt/{number}")),
            url: "s3://bucket".to_owned(),
            state: "mounted".to_owned(),
        };
        App::new((0..mounts).map(choice).collect())
    }

    fn press(app: &mut App, code: KeyCode) -> Reaction {
        app.key(KeyEvent::from(code))
    }

    #[test]
    fn one_mount_is_shown_and_of_several_one_is_chosen() {
        assert!(!app(1).choosing);
        let mut several = app(3);
        assert!(several.choosing);
        press(&mut several, KeyCode::Up);
        assert_eq!(several.selected, 2);
        press(&mut several, KeyCode::Down);
        press(&mut several, KeyCode::Down);
        assert_eq!(press(&mut several, KeyCode::Enter), Reaction::Watch);
        assert_eq!((several.selected, several.choosing), (1, false));
        assert_eq!(press(&mut several, KeyCode::Tab), Reaction::Watch);
        assert_eq!(press(&mut several, KeyCode::Tab), Reaction::Watch);
        assert_eq!(several.selected, 0);
        press(&mut several, KeyCode::BackTab);
        assert_eq!(several.selected, 2);
        press(&mut several, KeyCode::Esc);
        assert!(several.choosing);
        assert_eq!(press(&mut app(1), KeyCode::Tab), Reaction::Stay);
    }

    #[test]
    fn a_paused_view_does_not_change_until_the_mount_ends() {
        let mut app = app(1);
        press(&mut app, KeyCode::Char('p'));
        app.told(Told::Activity(Instant::now(), Box::default()));
        assert!(app.watched.last.is_none());
        press(&mut app, KeyCode::Char('p'));
        app.told(Told::Activity(Instant::now(), Box::default()));
        assert!(app.watched.last.is_some());
        press(&mut app, KeyCode::Char('p'));
        app.told(Told::Ended("so".to_owned()));
        assert_eq!(app.watched.ended.as_deref(), Some("so"));
    }

    #[test]
    fn help_goes_with_any_key_and_q_and_ctrl_c_always_quit() {
        let mut app = app(1);
        press(&mut app, KeyCode::Char('?'));
        assert!(app.help);
        press(&mut app, KeyCode::Char('s'));
        assert_eq!((app.help, app.sort), (false, Sort::default()));
        press(&mut app, KeyCode::Char('s'));
        assert_eq!(app.sort, Sort::Read);
        press(&mut app, KeyCode::Char('?'));
        assert_eq!(press(&mut app, KeyCode::Char('q')), Reaction::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(interrupt), Reaction::Quit);
        assert_eq!(press(&mut app, KeyCode::Char('c')), Reaction::Stay);
    }
}
