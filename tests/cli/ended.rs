//! `umount` when there is nothing left to do, and when its user loses patience.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::{
    server::{Faults, Outage},
    session::{Exit, lease::Process},
};

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::{succeed, text},
        site::{Site, Transport},
        wait::{SOON, block_until},
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

fn fusermount(dir: &Path) {
    let status = Command::new("fusermount3").arg("-u").arg(dir).status();
    assert!(status.unwrap().success());
}

fn wait_gone(pid: u64) {
    block_until("the process is gone", PATIENCE, || {
        Process::of(u32::try_from(pid).unwrap()).is_none()
    });
}

fn send(pid: u64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table.contains(&format!(" {} ", text(dir)))
}

/// `strongroom umount` with the state directory of the mount.
fn umount(site: &Site, mount: &BackgroundMount) -> Command {
    let dirs = (text(&mount.dir), text(&mount.state));
    site.strongroom(&["umount", dirs.0, "--state-dir", dirs.1])
        .command
}

#[test]
fn umount_after_a_drain_that_is_over_says_that_everything_is_durable() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "over");
    assert_refused(
        &mut umount(&site, &mount),
        Exit::NotMounted,
        &["not a Strongroom mount"],
    );
    for options in [&[][..], &["--read-only"]] {
        mount.mount(&site, options);
        let _ = fs::write(mount.dir.join("file"), vec![1; 3 << 20]);
        let pid = mount.pid(&site);
        fusermount(&mount.dir);
        wait_gone(pid);
        for _ in 0..2 {
            let said = succeed(&umount(&site, &mount).output().unwrap());
            assert!(
                said.contains("was unmounted and everything is durable"),
                "{said}"
            );
            let fingerprint = said
                .lines()
                .find_map(|line| line.strip_prefix("fingerprint "));
            assert!(
                fingerprint.is_some_and(|text| text.starts_with("sr1-")),
                "{said}"
            );
        }
        let quiet = succeed(&umount(&site, &mount).arg("--quiet").output().unwrap());
        assert_eq!(quiet, "");
    }
    // Nothing is said of an earlier session where something else is mounted by now.
    let tmpfs = ["-t", "tmpfs", "none", text(&mount.dir)];
    assert!(
        Command::new("mount")
            .args(tmpfs)
            .status()
            .unwrap()
            .success()
    );
    assert_refused(
        &mut umount(&site, &mount),
        Exit::NotMounted,
        &["not a Strongroom mount"],
    );
    assert!(
        Command::new("umount")
            .arg(&mount.dir)
            .status()
            .unwrap()
            .success()
    );

    // A session that was killed says nothing, and hides what was said of the one before it.
    mount.mount(&site, &[]);
    let pid = mount.pid(&site);
    send(pid, Signal::SIGKILL);
    wait_gone(pid);
    fusermount(&mount.dir);
    let words = ["died before everything was durable", &site.url()];
    assert_refused(&mut umount(&site, &mount), Exit::NotDurable, &words);
}

#[test]
fn umount_after_a_drain_that_failed_tells_why_and_with_the_same_code() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "given-up");
    mount.mount(&site, &["--upload-delay", "30s"]);
    fs::write(mount.dir.join("file"), vec![7; 1 << 20]).unwrap();
    let pid = mount.pid(&site);
    let outage = Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    };
    site.server().set_faults(outage).unwrap();
    fusermount(&mount.dir);
    block_until("it drains", PATIENCE, || {
        mount.log().contains("are left to be made durable")
    });
    send(pid, Signal::SIGTERM);
    wait_gone(pid);
    let words = [
        "was unmounted at",
        "not everything became durable",
        "check the last writes",
    ];
    assert_refused(&mut umount(&site, &mount), Exit::NotDurable, &words);
}

#[test]
fn a_drain_is_found_though_another_state_directory_was_named() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "elsewhere");
    // The last session that this state directory knows ended well.
    let known = BackgroundMount {
        dir: mount.dir.clone(),
        state: site.scratch("known-state"),
    };
    known.mount(&site, &[]);
    known.umount(&site);

    mount.mount(&site, &[]);
    slow(&site);
    fs::write(mount.dir.join("file"), vec![9; 16 << 20]).unwrap();
    let pid = mount.pid(&site);
    fusermount(&mount.dir);
    let said = succeed(&umount(&site, &known).output().unwrap());
    assert!(!said.contains("was unmounted and"), "{said}");
    assert!(Process::of(u32::try_from(pid).unwrap()).is_none());
}

fn slow(site: &Site) {
    let slow = Faults {
        bandwidth: Some(4_000_000),
        ..Faults::default()
    };
    site.server().set_faults(slow).unwrap();
}

fn interrupt(umount: Child) {
    send(umount.id().into(), Signal::SIGINT);
    let output = umount.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let interrupted = i32::from(Exit::Interrupted.code());
    assert_eq!(output.status.code(), Some(interrupted), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("its process goes on until everything is durable"),
        "{said}"
    );
    assert!(last.contains("strongroom umount "), "{said}");
}

#[test]
fn ctrl_c_on_umount_leaves_the_drain_to_the_mount_and_says_so() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "impatient");
    mount.mount(&site, &[]);
    slow(&site);
    fs::write(mount.dir.join("file"), vec![9; 16 << 20]).unwrap();
    let pid = mount.pid(&site);
    let child = umount(&site, &mount)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    block_until("it is unmounted", PATIENCE, || !is_mounted(&mount.dir));
    interrupt(child);
    assert!(
        Process::of(u32::try_from(pid).unwrap()).is_some(),
        "the drain ended"
    );
    succeed(&umount(&site, &mount).output().unwrap());
    site.server().set_faults(Faults::default()).unwrap();
    let again = site.mount();
    assert_eq!(fs::read(again.dir.join("file")).unwrap(), vec![9; 16 << 20]);
    again.unmount();
}

#[test]
fn ctrl_c_on_a_lazy_umount_takes_nothing_from_a_program_that_still_writes() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "lazy");
    mount.mount(&site, &[]);
    let mut open = fs::File::create(mount.dir.join("open")).unwrap();
    let pid = mount.pid(&site);
    let mut lazy = umount(&site, &mount);
    let child = lazy.arg("--lazy").stderr(Stdio::piped()).spawn().unwrap();
    block_until("it is unmounted", SOON, || !is_mounted(&mount.dir));
    interrupt(child);
    open.write_all(b"written after it").unwrap();
    drop(open);
    wait_gone(pid);
    succeed(&umount(&site, &mount).output().unwrap());
    let again = site.mount();
    assert_eq!(
        fs::read(again.dir.join("open")).unwrap(),
        b"written after it"
    );
    again.unmount();
}
