//! `strongroom status --watch`: the same again and again.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::values::parse_duration;
use crate::session::Failure;

/// The shortest time between two looks.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// The value of `--watch`: a duration, or the directory that stands behind it on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Every {
    /// So often.
    Duration(Duration),
    /// Not a duration.
    Word(String),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        match parse_duration(text) {
            Ok(every) if every < EVERY_MIN => Err("the shortest is 100ms".to_owned()),
            Ok(every) => Ok(Every::Duration(every)),
            Err(_) => Ok(Every::Word(text.to_owned())),
        }
    }
}

impl Every {
    /// How often, and the directory. In `status --watch DIR` the directory looks like the value.
    ///
    /// # Errors
    /// The value is no duration, and the directory stands elsewhere.
    pub fn or_directory(
        self,
        dir: Option<PathBuf>,
    ) -> Result<(Duration, Option<PathBuf>), Failure> {
        match (self, dir) {
            (Every::Duration(every), dir) => Ok((every, dir)),
            (Every::Word(word), None) => Ok((Duration::from_secs(2), Some(PathBuf::from(word)))),
            (Every::Word(word), Some(_)) => Err(Failure::usage(
                format!("--watch: '{word}' is not a duration such as 5s"),
                "see 'strongroom status --help'",
            )),
        }
    }
}

/// Shows what `text` gives, every so often, until it fails or nobody reads it any more.
pub fn run(every: Duration, text: impl Fn() -> Result<String, Failure>) -> Result<(), Failure> {
    let mut out = io::stdout();
    let is_terminal = out.is_terminal();
    loop {
        let text = text()?;
        let shown = match is_terminal {
            true => screen(&text),
            false => format!("{text}\n"),
        };
        let written = out.write_all(shown.as_bytes());
        if written.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        std::thread::sleep(every);
    }
}

/// The text over what the terminal shows: line by line, so that nothing flickers.
fn screen(text: &str) -> String {
    let mut screen = "\u{1b}[H".to_owned();
    for line in text.lines() {
        screen.push_str(line);
        screen.push_str("\u{1b}[K\n");
    }
    screen.push_str("\u{1b}[J");
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_behind_the_option_is_no_duration() {
        let every = |text: &str| text.parse::<Every>().expect(text);
        let vault = Some(PathBuf::from("/mnt/vault"));
        let seconds = Duration::from_secs;
        assert_eq!(every("5").or_directory(None), Ok((seconds(5), None)));
        assert_eq!(
            every("500ms").or_directory(vault.clone()),
            Ok((Duration::from_millis(500), vault.clone()))
        );
        assert_eq!(
            every("/mnt/vault").or_directory(None),
            Ok((seconds(2), vault.clone()))
        );
        assert!(every("often").or_directory(vault).is_err());
        assert!("0".parse::<Every>().is_err() && "99ms".parse::<Every>().is_err());
    }

    #[test]
    fn a_screen_begins_at_the_top_and_leaves_nothing_of_the_last_one() {
        assert_eq!(screen("a\nb\n"), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
    }
}
