//! Manual pages and shell completions, made from the definition of the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, fsck::FsckExit};
use crate::session::{Exit, Failure};

/// `strongroom man DIR`
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The directory to write into; made when missing
    dir: PathBuf,
}

/// `strongroom completions SHELL`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Writes `strongroom.1` and one page for each subcommand.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Exit::Unexpected,
            format!(
                "cannot write manual pages to {}: {error}",
                args.dir.display()
            ),
            "choose a directory that can be written",
        )
    };
    fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    pages(&root, &args.dir).map_err(failed)
}

/// Writes the page of the command and those of all below it that are not hidden.
fn pages(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut out = Vec::new();
    page.render(&mut out)?;
    match command.get_name() {
        "strongroom-fsck" | "fsck" => fsck_exit_codes().to_writer(&mut out)?,
        _ => exit_codes().to_writer(&mut out)?,
    }
    fs::write(dir.join(page.get_filename()), out)?;
    let visible = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    visible
        .into_iter()
        .try_for_each(|subcommand| pages(subcommand, dir))
}

fn exit_codes() -> Roff {
    codes(Exit::ALL.map(|exit| (exit.code(), exit.meaning())))
}

/// The codes of e2fsck, and those of the other commands where the numbers mean nothing else.
fn fsck_exit_codes() -> Roff {
    let own = FsckExit::ALL.map(|exit| (exit.code(), exit.meaning()));
    let others = Exit::ALL
        .into_iter()
        .filter(|exit| FsckExit::of(*exit).is_none())
        .map(|exit| (exit.code(), exit.meaning()));
    let mut all: Vec<_> = own.into_iter().chain(others).collect();
    all.sort_unstable();
    codes(all)
}

fn codes(codes: impl IntoIterator<Item = (u8, &'static str)>) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in codes {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    roff
}

/// Prints the completion script.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "strongroom", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)
        .map_err(|error| Failure::unexpected(format!("cannot print the script: {error}")))
}
