//! Manual pages and shell completions, made from the definition of the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, fsck::FsckExit};
use crate::session::{Exit, Failure};

/// Variables that the program heeds.
const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL",
        "the endpoint of the store, unless --endpoint-url is given",
    ),
    (
        "AWS_REGION, AWS_PROFILE, AWS_CA_BUNDLE",
        "as for other S3 clients, unless an option says otherwise",
    ),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
        "credentials for the store; profiles, credential processes, single sign-on and instance roles work too",
    ),
    (
        "STRONGROOM_PASSPHRASE_FILE",
        "the file that the passphrase is read from if no option names a secret",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "systemd's credentials: the file strongroom.passphrase in it is the passphrase if nothing else is given",
    ),
    (
        "STRONGROOM_STATE_DIR",
        "where logs, control sockets, the disk cache and the notes about volumes are, unless --state-dir is given",
    ),
    (
        "XDG_STATE_HOME, HOME",
        "the place of that directory if nothing names it",
    ),
];

/// Files that the program reads or writes.
const FILES: [(&str, &str); 3] = [
    (
        "/var/lib/strongroom",
        "the state directory of root: a directory for each volume with mount.log and control sockets, and cache",
    ),
    (
        "~/.local/state/strongroom",
        "the state directory of other users",
    ),
    (
        "~/.aws/config, ~/.aws/credentials",
        "profiles with regions, endpoints and credentials",
    ),
];

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
    let name = command.get_name();
    let codes = match name.strip_prefix("strongroom-").unwrap_or(name) {
        "fsck" | "check" => fsck_exit_codes(),
        _ => exit_codes(),
    };
    codes.to_writer(&mut out)?;
    section("ENVIRONMENT", &ENVIRONMENT).to_writer(&mut out)?;
    section("FILES", &FILES).to_writer(&mut out)?;
    see_also(command).to_writer(&mut out)?;
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
    let rows: Vec<_> = codes
        .into_iter()
        .map(|(code, meaning)| (code.to_string(), meaning))
        .collect();
    section("EXIT STATUS", &rows)
}

/// A section of terms, each with its meaning.
fn section<T: ToString>(title: &str, rows: &[(T, &str)]) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", [title]);
    for (term, meaning) in rows {
        roff.control("TP", []);
        roff.text([bold(term.to_string())]);
        roff.text([roman(*meaning)]);
    }
    roff
}

/// The page of the program names those of the commands; these name it and the tools beside them.
fn see_also(command: &clap::Command) -> Roff {
    let mut pages: Vec<String> = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .map(|below| {
            format!(
                "{}(1)",
                below.get_display_name().unwrap_or(below.get_name())
            )
        })
        .collect();
    if command.get_name() != "strongroom" {
        pages.insert(0, "strongroom(1)".to_owned());
    }
    pages.extend(["fusermount3(1)", "mount(8)", "systemd.exec(5)"].map(str::to_owned));
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
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
