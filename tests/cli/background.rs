//! A mount in the background: ready when the command returns, errors on the terminal before.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command, time::Duration};

use strongroom::session::{Exit, lease::Process};

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::{same_environment, succeed, text},
        site::{Site, Transport},
        wait::{SOON, block_until},
    },
};

#[test]
fn mount_returns_when_the_mount_answers_and_umount_when_all_is_durable_and_the_process_gone() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "first");
    mount.mount(&site, &[]);
    fs::write(mount.dir.join("file"), vec![3; 5 << 20]).unwrap();
    let pid = mount.pid(&site);
    mount.umount(&site);
    assert!(Process::of(pid.try_into().unwrap()).is_none());
    assert!(!mount.dir.join("file").exists());

    let again = BackgroundMount::prepare(&site, "second");
    again.mount(&site, &["--read-only"]);
    assert_eq!(fs::read(again.dir.join("file")).unwrap(), vec![3; 5 << 20]);
    again.umount(&site);
    assert!(
        mount.log().contains("everything is durable"),
        "{}",
        mount.log()
    );
}

#[test]
fn a_mount_in_the_background_holds_none_of_its_callers_streams_and_no_directory() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "streams");
    let start = site.scratch("start");
    // `output` returns only at the end of both pipes.
    let output = mount
        .command(&site, &[])
        .current_dir(&start)
        .output()
        .unwrap();
    assert_eq!(succeed(&output), "");
    assert!(output.stderr.is_empty());
    let pid = mount.pid(&site);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        std::path::Path::new("/")
    );
    mount.umount(&site);
}

#[test]
fn a_mount_waits_for_a_store_that_is_busy() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "busy-store");
    let busy = strongroom::server::Faults {
        error_rate: 1.0,
        ..Default::default()
    };
    site.server().set_faults(busy).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_secs(6));
            site.server().set_faults(Default::default()).unwrap();
        });
        mount.mount(&site, &[]);
    });
    mount.umount(&site);
}

#[test]
fn umount_follows_a_drain_that_fusermount_began() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "drain");
    mount.mount(&site, &[]);
    site.server()
        .set_faults(strongroom::server::Faults {
            bandwidth: Some(8_000_000),
            ..Default::default()
        })
        .unwrap();
    fs::write(mount.dir.join("file"), vec![9; 16 << 20]).unwrap();
    let pid = mount.pid(&site);
    assert!(
        Command::new("fusermount3")
            .arg("-u")
            .arg(&mount.dir)
            .status()
            .unwrap()
            .success()
    );
    let mut follow = site.strongroom(&[
        "umount",
        text(&mount.dir),
        "--state-dir",
        text(&mount.state),
    ]);
    succeed(&follow.command.output().unwrap());
    assert!(Process::of(pid.try_into().unwrap()).is_none());
}

#[test]
fn a_signal_unmounts_and_drains() {
    let site = Site::start(Transport::Plain);
    let mut mount = site.mount();
    fs::write(mount.dir.join("file"), vec![5; 2 << 20]).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(mount.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(mount.wait_gone(), 0, "{}", mount.log_text());
    assert!(!mount.is_mounted());
    let again = site.mount();
    assert_eq!(fs::read(again.dir.join("file")).unwrap(), vec![5; 2 << 20]);
    again.unmount();
}

#[test]
fn a_mount_whose_process_was_killed_is_cleared_away_and_not_called_durable() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "killed");
    mount.mount(&site, &[]);
    let pid = i32::try_from(mount.pid(&site)).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    block_until("the mount is dead", SOON, || {
        nix::sys::statvfs::statvfs(&mount.dir).is_err()
    });
    let mut umount = site.strongroom(&["umount", text(&mount.dir)]);
    assert_refused(&mut umount.command, Exit::NotDurable, &["had died"]);
    let parent = fs::metadata(mount.dir.parent().unwrap()).unwrap().dev();
    assert_eq!(fs::metadata(&mount.dir).unwrap().dev(), parent);
}

/// One of the helpers of mount(8) and umount(8), with the program on its PATH.
fn helper(site: &Site, name: &str) -> Command {
    let bin = site.scratch("bin");
    let link = bin.join("strongroom");
    if !link.exists() {
        std::os::unix::fs::symlink(crate::support::commands::BINARY, link).unwrap();
    }
    let mut command = Command::new(Path::new("mount-scripts").join(name));
    same_environment(&mut command, &site.strongroom(&[]).command);
    let path = format!("{}:{}", text(&bin), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    command
}

#[test]
fn mount_8_mounts_and_umount_8_drains_through_the_helpers() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "helper");
    let options = format!(
        "rw,noexec,passphrase-file={},state-dir={},memory=256MiB,_netdev,nofail,x-systemd.automount",
        text(&site.path().join("pass")),
        text(&mount.state)
    );
    let mount_helper = |options: &str| {
        helper(&site, "mount.strongroom")
            .args([&site.url(), text(&mount.dir), "-o", options])
            .output()
            .unwrap()
    };
    assert_eq!(mount_helper("frobnicate").status.code(), Some(1));
    assert_eq!(
        mount_helper("passphrase-file=/dev/zero").status.code(),
        Some(1)
    );
    succeed(&mount_helper(&options));
    assert_eq!(mount.status(&site)["memory"]["limit_bytes"], 256 << 20);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(text(&mount.dir)))
        .unwrap();
    assert!(
        line.starts_with(&site.url())
            && line.contains("fuse.strongroom")
            && line.contains("noexec"),
        "{line}"
    );

    let umount_helper = |options: &[&str]| {
        helper(&site, "umount.strongroom")
            .env("STRONGROOM_STATE_DIR", &mount.state)
            .arg(&mount.dir)
            .args(options)
            .output()
            .unwrap()
    };
    assert_eq!(umount_helper(&["-x"]).status.code(), Some(1));
    let held = fs::File::create(mount.dir.join("held")).unwrap();
    assert_eq!(
        umount_helper(&["-n"]).status.code(),
        Some(32),
        "it is in use"
    );
    drop(held);
    let pid = mount.pid(&site);
    fs::write(mount.dir.join("last"), vec![7; 3 << 20]).unwrap();
    succeed(&umount_helper(&["-v", "-t", "fuse.strongroom"]));
    assert!(
        Process::of(pid.try_into().unwrap()).is_none(),
        "it returned before the drain was over"
    );
}

#[test]
fn reading_following_and_writing_again_from_one_machine_is_no_rollback() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "again");
    for (round, options) in [
        (0, &[][..]),
        (1, &["--read-only"]),
        (2, &[]),
        (3, &["--read-only"]),
        (4, &[]),
    ] {
        mount.mount(&site, options);
        if options.is_empty() {
            for file in 0..20 {
                fs::write(mount.dir.join(format!("{round}-{file}")), b"x").unwrap();
            }
        }
        mount.umount(&site);
    }
}

#[test]
fn a_mount_that_is_interrupted_before_it_is_ready_leaves_no_process() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "interrupted");
    let hang = strongroom::server::Faults {
        outage: strongroom::server::Outage::Hang,
        ..Default::default()
    };
    site.server().set_faults(hang).unwrap();
    let mut parent = mount.command(&site, &[]).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let child = loop {
        if let Some(child) = fs::read_to_string(&children)
            .unwrap()
            .split_whitespace()
            .next()
        {
            break child.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let parent_pid = nix::unistd::Pid::from_raw(i32::try_from(parent.id()).unwrap());
    nix::sys::signal::kill(parent_pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(parent.wait().unwrap().code(), None);
    let began = std::time::Instant::now();
    while Process::of(child).is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the child goes on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Commits rows, one transaction each, and notes each number once its commit has returned.
const COMMIT: &str = "
import sqlite3, sys
path, journal, synchronous, noted = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f'PRAGMA journal_mode={journal}'); db.execute(f'PRAGMA synchronous={synchronous}')
db.execute('CREATE TABLE IF NOT EXISTS t(n)')
with open(noted, 'w') as out:
    for n in range(1000000):
        db.execute('INSERT INTO t VALUES(?)', (n,)); print(n, file=out, flush=True)
";

const LAST_ROW: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
print(db.execute('SELECT max(n) FROM t').fetchone()[0])
";

#[test]
fn sqlite_keeps_each_commit_through_a_crash_with_a_log_ahead_or_with_extra_synchrony() {
    let site = Site::start(Transport::Plain);
    for (round, (journal, synchronous)) in [("WAL", "FULL"), ("DELETE", "EXTRA")]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let mount = site.mount_with(&["--upload-delay", "30s"]);
        let name = format!("{round}.db");
        let noted = site.path().join("noted");
        fs::write(&noted, b"").unwrap();
        let mut writer = Command::new("python3")
            .args(["-c", COMMIT])
            .arg(mount.dir.join(&name))
            .args([journal, synchronous])
            .arg(&noted)
            .spawn()
            .unwrap();
        let last = || {
            let noted = fs::read_to_string(&noted).unwrap();
            let last = noted.rsplit_terminator('\n').next();
            last.and_then(|last| last.parse::<u64>().ok())
        };
        while last().is_none_or(|last| last < 10 + round as u64) {
            assert!(writer.try_wait().unwrap().is_none(), "the writer ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(mount.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        writer.wait().unwrap();
        mount.kill();
        let mount = site.mount();
        let output = Command::new("python3")
            .args(["-c", LAST_ROW])
            .arg(mount.dir.join(&name))
            .output()
            .unwrap();
        let found: u64 = succeed(&output).trim().parse().unwrap();
        assert!(found >= last().unwrap(), "{journal} {synchronous}: {found}");
        mount.unmount();
    }
}
