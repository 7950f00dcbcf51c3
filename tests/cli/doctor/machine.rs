//! Machines that lack one thing: the line that fails names it. No store is needed.

use std::process::Command;

use crate::support::{
    commands::{BINARY, around, same_environment, text},
    site::{Site, Transport},
};

use super::{Examined, doctor};

/// The checks of a machine alone.
const LOCAL: [&str; 7] = [
    "fuse",
    "allow other",
    "kernel",
    "memory",
    "open files",
    "state directory",
    "disk cache",
];

#[test]
fn without_a_url_the_machine_alone_is_looked_at() {
    let site = Site::without_volume(Transport::Plain);
    let mut command = doctor(&site, &[]);
    // Nothing is asked of any store.
    command.env_remove("AWS_ENDPOINT_URL_S3");
    let examined = Examined::by(&mut command);
    assert_eq!(examined.checks("ok"), LOCAL, "{}", examined.said);
    assert_eq!(examined.checks("skipped"), ["clock"], "{}", examined.said);
    assert_eq!(examined.code, Some(0), "{}", examined.said);
    assert!(examined.report["url"].is_null());
    assert_eq!(examined.report["verdict"], "ok");
    let state = site.path().join("state");
    assert!(
        !state.exists(),
        "the state directory is looked at, not made"
    );
}

#[test]
fn what_a_machine_lacks_fails_its_line_alone() {
    let site = Site::without_volume(Transport::Plain);
    let elsewhere = site.scratch("cache");
    for (options, failure, words) in [
        (
            &["--memory", "64MiB"][..],
            "memory",
            ["below the floor", "128 MiB"],
        ),
        (
            &[
                "--state-dir",
                "/proc/none",
                "--disk-cache-dir",
                text(&elsewhere),
            ][..],
            "state directory",
            ["/proc/none", "room"],
        ),
    ] {
        let first = ["doctor", "--disk-cache", "off", "--json"].into_iter();
        let all: Vec<_> = first.chain(options.iter().copied()).collect();
        let examined = Examined::by(&mut site.strongroom(&all).command);
        examined.assert_only(failure, &words, &["clock"], &[]);
    }
    let few = in_a_shell(&site, "ulimit -n 70");
    examined_without(few, "open files", &["up to 70", "ulimit -n"]);
}

#[test]
fn a_machine_without_the_fuse_device_fails_its_line_alone() {
    let site = Site::without_volume(Transport::Plain);
    // In a mount namespace of its own, /dev is empty.
    let inner = in_a_shell(&site, "mount -t tmpfs none /dev");
    let mut command = Command::new("unshare");
    around(command.arg("--mount"), &inner);
    examined_without(command, "fuse", &["/dev/fuse", "modprobe"]);
}

fn examined_without(mut command: Command, failure: &str, words: &[&str]) {
    let examined = Examined::by(&mut command);
    examined.assert_only(failure, words, &["clock"], &[]);
}

/// The examination of the machine after a line of shell.
fn in_a_shell(site: &Site, line: &str) -> Command {
    let plain = doctor(site, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{line} && exec {BINARY} \"$@\""), "sh"]);
    command.args(plain.get_args());
    same_environment(&mut command, &plain);
    command
}
