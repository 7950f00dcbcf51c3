//! Help, manual pages, completions and the table of exit codes come from one definition.

use std::fs;

use strongroom::{cli::fsck::FsckExit, session::Exit};

use crate::{
    running::strongroom,
    support::commands::{succeed, text},
};

const COMMANDS: [&str; 18] = [
    "init",
    "mount",
    "umount",
    "status",
    "demo",
    "serve",
    "key",
    "fsck",
    "check",
    "usage",
    "which",
    "gc",
    "doctor",
    "list",
    "destroy",
    "info",
    "man",
    "completions",
];

#[test]
fn help_answers_for_every_command() {
    let all = succeed(&strongroom(&["--help"]).output().unwrap());
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command}: {all}");
        let help = succeed(&strongroom(&[command, "--help"]).output().unwrap());
        assert!(help.contains("Usage: strongroom"), "{command}: {help}");
        assert!(!help.contains("todo"), "{command}: {help}");
    }
    assert!(succeed(&strongroom(&["--version"]).output().unwrap()).starts_with("strongroom "));
}

#[test]
fn every_option_is_explained() {
    for command in COMMANDS.into_iter().filter(|command| *command != "key") {
        let help = succeed(&strongroom(&[command, "-h"]).output().unwrap());
        let options = help
            .lines()
            .filter(|line| line.trim_start().starts_with('-'));
        for option in options {
            let explained = option
                .trim()
                .split("  ")
                .filter(|part| !part.is_empty())
                .count()
                > 1;
            // A long option is explained on its next line.
            let next = help
                .lines()
                .skip_while(|line| *line != option)
                .nth(1)
                .unwrap_or_default();
            assert!(
                explained || next.starts_with("          "),
                "{command}: {option}"
            );
        }
    }
}

#[test]
fn manual_pages_are_made_for_every_command_with_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    succeed(&strongroom(&["man", text(dir.path())]).output().unwrap());
    let has = |page: &str, code: u8| page.contains(&format!("\\fB{code}\\fR"));
    for command in COMMANDS {
        let page = format!("strongroom-{command}.1");
        let page = fs::read_to_string(dir.path().join(&page)).expect(&page);
        for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
            assert!(page.contains(section), "{command}: {section}");
        }
        assert!(page.contains("strongroom(1)"), "{command}");
        for exit in Exit::ALL {
            // A check has codes of its own, and of these those that do not look like them.
            let code = match command {
                "fsck" | "check" => FsckExit::code_for(exit),
                _ => exit.code(),
            };
            assert!(has(&page, code), "{command}: {exit:?}");
        }
        if ["fsck", "check"].contains(&command) {
            assert!(FsckExit::ALL.iter().all(|exit| has(&page, exit.code())));
            assert!(!has(&page, Exit::Usage.code()), "2 means nothing there");
        }
    }
    let program = fs::read_to_string(dir.path().join("strongroom.1")).expect("strongroom.1");
    assert!(program.contains("strongroom\\-mount(1)"), "{program}");
    assert!(dir.path().join("strongroom-key-add.1").exists());
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&strongroom(&["completions", shell]).output().unwrap());
        assert!(
            script.contains("--durability") || script.contains("durability"),
            "{shell}"
        );
    }
}

#[test]
fn the_documented_exit_codes_are_those_of_the_program() {
    let page = fs::read_to_string("docs/operations.md").expect("docs/operations.md");
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(page.contains(&row), "docs/operations.md lacks: {row}");
    }
}

#[test]
fn the_documented_exit_codes_of_a_check_are_those_of_the_program() {
    let page = fs::read_to_string("docs/operations.md").expect("docs/operations.md");
    for exit in FsckExit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(page.contains(&row), "docs/operations.md lacks: {row}");
    }
}
