//! docs/first-backup.md, run: a newcomer who has nothing but README.md gets this transcript.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    commands::{BINARY, shell, text},
    credentials::{ACCESS_KEY, SECRET_KEY},
    site::{Site, Transport},
    terminal::TerminalProgram,
};

const README: &str = include_str!("../../README.md");
const TRANSCRIPT: &str = include_str!("../../docs/first-backup.md");

/// The newcomer's home directory in the transcript.
const HOME: &str = "/home/ann";

/// A command of the transcript, and the lines that it prints.
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The lines between the fences ```KIND and ```.
fn fenced<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("```{kind}");
    let mut inside = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        match inside {
            false => inside = line == fence,
            true if line == "```" => inside = false,
            true => lines.push(line),
        }
    }
    lines
}

fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in fenced(TRANSCRIPT, "console") {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                printed: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("a command comes first");
            step.printed.push(line.to_owned());
        }
    }
    steps
}

/// One space between words, no comment, no `&&` to the next line.
fn bare(command: &str) -> String {
    let command = command.split(" #").next().unwrap_or_default();
    let words = command.split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches("&&").trim_end().to_owned()
}

/// Whether a line is as the transcript has it. A word with a digit stands for any word: numbers,
/// names of snapshots, versions and times differ from run to run.
fn alike(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (expected.split_whitespace(), printed.split_whitespace());
    let (expected, printed) = (expected.collect::<Vec<_>>(), printed.collect::<Vec<_>>());
    let same = |(expected, printed): (&&str, &&str)| {
        expected == printed || expected.contains(|character: char| character.is_ascii_digit())
    };
    expected.len() == printed.len() && expected.iter().zip(&printed).all(same)
}

/// Wants the lines of the transcript; `...` stands for any number of lines.
fn assert_printed(step: &Step, printed: &str) {
    let lines = printed.lines().map(str::trim_end).collect::<Vec<_>>();
    let mut at = 0;
    let mut skipping = false;
    for expected in &step.printed {
        if expected == "..." {
            skipping = true;
            continue;
        }
        let found = lines[at..].iter().position(|line| alike(expected, line));
        let found = found.filter(|found| skipping || *found == 0);
        let Some(found) = found else {
            panic!("$ {}\nno line '{expected}' in\n{printed}", step.command);
        };
        at += found + 1;
        skipping = false;
    }
    assert!(
        skipping || at == lines.len(),
        "$ {}\nprinted more than the transcript has:\n{printed}",
        step.command
    );
}

/// A home directory with photographs, and the store's environment.
struct Newcomer {
    home: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Newcomer {
    fn new(site: &Site) -> Newcomer {
        let home = site.scratch("home");
        let programs = site.scratch("bin");
        symlink(BINARY, programs.join("strongroom")).expect("linked");
        shell(
            &home,
            "mkdir photos; for year in 1996 1997; do head -c 2000000 /dev/urandom > photos/$year.jpg; done",
        );
        let path = std::env::var("PATH").expect("PATH");
        let env = vec![
            ("PATH", format!("{}:{path}", programs.display())),
            ("HOME", home.display().to_string()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL_S3", site.endpoint.clone()),
        ];
        Newcomer { home, env }
    }

    /// A command in the newcomer's shell; `before` was exported there.
    fn command(&self, before: &[String], line: &str) -> Command {
        let mut command = Command::new("bash");
        let exported = before.join("\n");
        command
            .args(["-c", &format!("{exported}\n{line}")])
            .current_dir(&self.home)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    fn vault(&self) -> PathBuf {
        self.home.join("vault")
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        // Only a test that failed leaves a mount; its process ends once nothing is mounted.
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let vault = self.vault();
        if table
            .lines()
            .any(|line| line.split(' ').nth(1) == vault.to_str())
        {
            let _ = Command::new("umount").arg("-l").arg(vault).status();
        }
    }
}

#[test]
fn the_transcript_of_a_first_backup_is_what_a_newcomer_gets() {
    let site = Site::without_volume(Transport::Plain);
    let ann = Newcomer::new(&site);
    let mut exported = Vec::new();
    for step in steps() {
        if step.command.starts_with("export ") {
            assert!(step.printed.is_empty(), "{}", step.command);
            exported.push(step.command);
            continue;
        }
        let mut command = ann.command(&exported, &step.command);
        if step.command.starts_with("strongroom top") {
            let mut top = TerminalProgram::start(&mut command, 80, 24);
            for line in step.printed.iter().filter(|line| *line != "...") {
                top.wait_for(line, |screen| {
                    screen.lines().any(|shown| alike(line, shown))
                });
            }
            top.press("q");
            assert_eq!(top.end().0, 0);
            continue;
        }
        let output = command.output().expect("runs");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).replace(text(&ann.home), HOME);
        assert!(output.status.success(), "$ {}\n{printed}", step.command);
        assert_printed(&step, &printed);
    }
    let restored = ann
        .home
        .join("restored")
        .join(ann.home.strip_prefix("/").expect("absolute"));
    for year in ["1996", "1997"] {
        let photo = |home: &Path| fs::read(home.join(format!("photos/{year}.jpg"))).expect("read");
        assert!(photo(&ann.home) == photo(&restored), "{year}.jpg differs");
    }
}

#[test]
fn each_command_of_the_readme_is_in_the_transcript_in_its_order() {
    let section = README
        .split("\n## ")
        .find(|part| part.starts_with("A first backup"));
    let section = section.expect("the section of README.md");
    let commands = fenced(section, "").into_iter().map(bare);
    // Keys of one's own are no part of a transcript.
    let commands = commands.filter(|line| !line.is_empty() && !line.starts_with("export AWS_"));
    let commands = commands.collect::<Vec<_>>();
    assert!(commands.len() >= 8, "README.md has {commands:?}");
    let mut transcript = steps().into_iter();
    for command in commands {
        assert!(
            transcript.any(|step| bare(&step.command) == command),
            "docs/first-backup.md does not have '{command}', or not in the order of README.md"
        );
    }
}
