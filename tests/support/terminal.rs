//! A terminal: a program runs in it, keys are pressed, and its screen is read.

use std::{
    fs::File,
    io::{Read, Write},
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command},
    ptr::{null, null_mut},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use libc::{termios, winsize};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait::holds;

/// How long a screen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal of its own.
pub struct TerminalProgram {
    child: Child,
    keys: File,
    /// The program's side stays open, so that its modes can be read when the program has gone.
    slave: OwnedFd,
    before: Modes,
    screen: Arc<Mutex<Screen>>,
    reader: Option<JoinHandle<()>>,
}

impl TerminalProgram {
    pub fn start(command: &mut Command, columns: u16, rows: u16) -> TerminalProgram {
        let (master, slave) = open(columns, rows);
        let before = modes(&slave);
        let side = || slave.try_clone().expect("a descriptor");
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("runs");
        let screen = Arc::new(Mutex::new(Screen::new(columns, rows)));
        let keys = File::from(master);
        let mut shown = keys.try_clone().expect("a descriptor");
        let drawn = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when the last descriptor of the other side is closed.
            while let Ok(count @ 1..) = shown.read(&mut bytes) {
                drawn.lock().expect("no panic").draw(&bytes[..count]);
            }
        });
        TerminalProgram {
            child,
            keys,
            slave,
            before,
            screen,
            reader: Some(reader),
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("pressed");
    }

    /// Makes the terminal another size, as a window that is drawn larger does.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = size(columns, rows);
        *self.screen.lock().expect("no panic") = Screen {
            alternate: true,
            ..Screen::new(columns, rows)
        };
        // SAFETY: the descriptor is open, and the structure is the one that the request takes.
        let done =
            unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0, "resized");
        self.send(Signal::SIGWINCH);
    }

    pub fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a number"));
        kill(pid, signal).expect("sent");
    }

    pub fn text(&self) -> String {
        self.screen.lock().expect("no panic").text()
    }

    /// Waits until the screen is as wanted, and returns it.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        holds(PATIENCE, || wanted(&self.text()));
        let text = self.text();
        assert!(wanted(&text), "{what} is not on the screen:\n{text}");
        text
    }

    pub fn wait_for_text(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Waits for its end; its exit code, and what the main screen shows then.
    pub fn end(mut self) -> (i32, String) {
        holds(PATIENCE, || self.child.try_wait().expect("wait").is_some());
        let status = self.child.try_wait().expect("wait");
        let status = status.unwrap_or_else(|| panic!("it does not end:\n{}", self.text()));
        let screen = Arc::clone(&self.screen);
        // It has ended, but its last words may still be on their way through the terminal.
        holds(PATIENCE, || {
            let screen = screen.lock().expect("no panic");
            !screen.alternate && !screen.cursor_is_hidden
        });
        let text = self.text();
        assert!(!screen.lock().expect("no panic").alternate, "{text}");
        assert!(!screen.lock().expect("no panic").cursor_is_hidden, "{text}");
        let after = modes(&self.slave);
        assert_eq!(
            after, self.before,
            "the terminal has other modes than before"
        );
        (status.code().unwrap_or(-1), text)
    }

    /// Whether the program has changed the modes of the terminal.
    pub fn has_taken_the_terminal(&self) -> bool {
        modes(&self.slave) != self.before
    }
}

impl Drop for TerminalProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader ends when this side is closed, with the fields; nobody waits for it.
        drop(self.reader.take());
    }
}

/// The four sets of flags, and the control characters.
type Modes = ([u32; 4], [u8; 32]);

fn modes(terminal: &OwnedFd) -> Modes {
    let mut read = MaybeUninit::<termios>::zeroed();
    // SAFETY: the descriptor is open, and the structure is the one that is filled in.
    let done = unsafe { libc::tcgetattr(terminal.as_raw_fd(), read.as_mut_ptr()) };
    assert_eq!(done, 0, "modes");
    // SAFETY: all of it was zeroed, and any bytes are such a structure.
    let read = unsafe { read.assume_init() };
    let flags = [read.c_iflag, read.c_oflag, read.c_cflag, read.c_lflag];
    (flags, read.c_cc)
}

/// Both sides of a new terminal.
fn open(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let size = size(columns, rows);
    // SAFETY: two numbers are filled in, the size is read, and the rest may be null.
    let done = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            null_mut(),
            null(),
            &raw const size,
        )
    };
    assert_eq!(done, 0, "a terminal");
    // SAFETY: these descriptors are new, and nobody else has them.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

fn size(columns: u16, rows: u16) -> winsize {
    winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// As much of a terminal as the program uses.
struct Screen {
    columns: usize,
    cells: Vec<Vec<char>>,
    main: Vec<Vec<char>>,
    at: (usize, usize),
    pending: Vec<u8>,
    alternate: bool,
    cursor_is_hidden: bool,
}

impl Screen {
    fn new(columns: u16, rows: u16) -> Screen {
        let cells = vec![vec![' '; usize::from(columns)]; usize::from(rows)];
        Screen {
            columns: usize::from(columns),
            main: cells.clone(),
            cells,
            at: (0, 0),
            pending: Vec::new(),
            alternate: false,
            cursor_is_hidden: false,
        }
    }

    fn text(&self) -> String {
        let rows = self.cells.iter().map(|row| row.iter().collect::<String>());
        rows.collect::<Vec<_>>().join("\n")
    }

    fn draw(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        // A character, or a sequence, may come in two pieces.
        let whole = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&pending[..whole]).into_owned();
        let mut rest = text.as_str();
        while let Some(character) = rest.chars().next() {
            let taken = match character {
                '\u{1b}' => match self.escape(rest) {
                    Some(taken) => taken,
                    None => break,
                },
                '\r' => {
                    self.at.1 = 0;
                    1
                }
                '\n' => {
                    self.line_feed();
                    1
                }
                _ => {
                    let (row, column) = self.at;
                    if let Some(cell) = self.cells.get_mut(row).and_then(|row| row.get_mut(column))
                    {
                        *cell = character;
                    }
                    self.at.1 += 1;
                    character.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
        self.pending = rest.as_bytes().to_vec();
        self.pending.extend_from_slice(&pending[whole..]);
    }

    fn line_feed(&mut self) {
        if self.at.0 + 1 < self.cells.len() {
            self.at.0 += 1;
        } else {
            self.cells.remove(0);
            self.cells.push(vec![' '; self.columns]);
        }
    }

    /// One sequence; its length, or nothing if it is not whole.
    fn escape(&mut self, text: &str) -> Option<usize> {
        if text.len() < 2 {
            return None;
        }
        if !text.starts_with("\u{1b}[") {
            return Some(2);
        }
        let end = text[2..].find(|character: char| ('@'..='~').contains(&character))? + 2;
        let arguments = &text[2..end];
        let number = |index: usize| {
            let part = arguments.split(';').nth(index).unwrap_or_default();
            part.parse::<usize>().unwrap_or(1).max(1)
        };
        match (&text[end..=end], arguments) {
            ("H" | "f", _) => self.at = (number(0) - 1, number(1) - 1),
            ("J", _) => self.cells = vec![vec![' '; self.columns]; self.cells.len()],
            ("h", "?1049") => {
                self.main = self.cells.clone();
                self.alternate = true;
            }
            ("l", "?1049") => {
                self.cells = self.main.clone();
                self.alternate = false;
            }
            ("l", "?25") => self.cursor_is_hidden = true,
            ("h", "?25") => self.cursor_is_hidden = false,
            _ => {}
        }
        Some(end + 1)
    }
}
