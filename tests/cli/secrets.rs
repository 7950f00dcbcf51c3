//! Where secrets come from, and where they never are.

use std::{fs, process::Command};

use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::{succeed, text},
        site::{PASSPHRASE, Site, Transport},
    },
};

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[test]
fn the_passphrase_is_in_no_command_line_environment_or_core_dump() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "secret");
    mount.mount(&site, &["--log-level", "trace"]);
    let pid = mount.pid(&site);
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!contains(&bytes, PASSPHRASE), "{file}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    mount.umount(&site);
    assert!(!mount.log().contains(PASSPHRASE));
}

#[test]
fn a_passphrase_comes_from_a_command_the_environments_file_or_a_systemd_credential() {
    let site = Site::start(Transport::Plain);
    let pass = site.path().join("pass");
    let credentials = site.scratch("credentials");
    fs::copy(&pass, credentials.join("strongroom.passphrase")).unwrap();
    let list = |change: &dyn Fn(&mut Command)| {
        let recovery = site.path().join("recovery");
        let mut run = site.strongroom(&[
            "key",
            "add",
            &site.url(),
            "--new-recovery-key-file",
            text(&recovery),
        ]);
        change(&mut run.command);
        let output = run.command.output().unwrap();
        let _ = fs::remove_file(recovery);
        succeed(&output)
    };
    list(&|command| {
        command.args(["--passphrase-command", &format!("cat {}", text(&pass))]);
    });
    list(&|command| {
        command.env("STRONGROOM_PASSPHRASE_FILE", &pass);
    });
    list(&|command| {
        command.env("CREDENTIALS_DIRECTORY", &credentials);
    });
    // Without any, and without a terminal, it says what to do.
    let mut none = Command::new("setsid");
    none.args([
        "--wait",
        crate::support::commands::BINARY,
        "key",
        "remove",
        &site.url(),
        "1",
    ]);
    assert_refused(
        &mut none,
        Exit::Usage,
        &["no terminal", "--passphrase-file"],
    );
}

#[test]
fn a_passphrase_command_that_fails_is_not_an_empty_passphrase() {
    let site = Site::start(Transport::Plain);
    let dir = site.scratch("mnt");
    let mut run = site.strongroom(&[
        "mount",
        &site.url(),
        text(&dir),
        "--passphrase-command",
        "printf x; false",
    ]);
    assert_refused(
        &mut run.command,
        Exit::Usage,
        &["passphrase command failed"],
    );
}
