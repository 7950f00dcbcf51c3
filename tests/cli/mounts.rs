//! `status` without a directory, `--watch` and `--check`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use strongroom::server::{Faults, Outage};

use crate::{
    running::{BackgroundMount, strongroom},
    support::{
        commands::{BINARY, succeed, text},
        site::{Site, Transport},
        wait::{SOON, block_until, holds},
    },
};

/// The mount at this directory, as the list has it. Other tests have mounts at the same time.
fn listed(dir: &Path) -> Option<Value> {
    let list = succeed(&strongroom(&["status", "--json"]).output().unwrap());
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["format"], 1);
    let mounts = list["mounts"].as_array().unwrap();
    let mut here = mounts
        .iter()
        .filter(|mount| mount["mount_point"] == text(dir));
    let mount = here.next().cloned();
    assert!(here.next().is_none(), "{} twice: {list}", dir.display());
    mount
}

fn check(args: &[&str]) -> (i32, String) {
    let mut command = strongroom(&["status", "--check"]);
    let Output { status, stdout, .. } = command.args(args).output().unwrap();
    let line = String::from_utf8(stdout).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    (status.code().unwrap(), line)
}

#[test]
fn the_list_has_what_is_mounted_what_drains_what_hangs_and_what_has_died() {
    let site = Site::start(Transport::Plain);
    let living = BackgroundMount::prepare(&site, "living");
    living.mount(&site, &["--read-only"]);
    assert_eq!(listed(&site.path().join("elsewhere")), None);
    let mut mount = site.mount();
    let entry = listed(&living.dir).expect("listed");
    assert_eq!(
        (&entry["state"], &entry["url"]),
        (&"mounted".into(), &site.url().into())
    );
    assert_eq!(entry["pid"], living.pid(&site));
    assert_eq!(entry["user"], 0);
    assert_eq!(entry["dirty_bytes"], 0);
    let table = succeed(&strongroom(&["status"]).output().unwrap());
    let line = |table: &str, dir: &Path| {
        let mut lines = table.lines();
        let line = lines.find(|line| line.starts_with(&format!("{} ", text(dir))));
        line.unwrap_or_else(|| panic!("{table}")).to_owned()
    };
    assert!(line(&table, &living.dir).contains("  mounted "), "{table}");
    assert!(line(&table, &living.dir).ends_with(&site.url()), "{table}");

    let pid = Pid::from_raw(mount.pid() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    assert_eq!(listed(&mount.dir).expect("listed")["state"], "silent");
    let (code, said) = check(&[text(&mount.dir)]);
    assert_eq!(
        (code, said.contains("does not answer")),
        (2, true),
        "{said}"
    );
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(listed(&mount.dir).expect("listed")["state"], "mounted");

    mount.kill_process();
    let entry = listed(&mount.dir).expect("listed");
    assert_eq!(
        (&entry["state"], &entry["url"]),
        (&"dead".into(), &site.url().into())
    );
    assert_eq!(entry["pid"], Value::Null);
    let table = succeed(&strongroom(&["status"]).output().unwrap());
    assert!(
        line(&table, &mount.dir).contains("its process has died"),
        "{table}"
    );
    drop(mount);

    let mut mount = site.mount_with(&["--takeover"]);
    let refuse = Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    };
    fs::write(mount.dir.join("file"), vec![1; 1 << 20]).unwrap();
    site.server().set_faults(refuse).unwrap();
    mount.let_go();
    block_until("it drains", SOON, || {
        listed(&mount.dir).is_some_and(|entry| entry["state"] == "draining")
    });
    let (code, said) = check(&[text(&mount.dir)]);
    assert_eq!(code, 1, "{said}");
    site.server().set_faults(Faults::default()).unwrap();
    assert_eq!(mount.wait_gone(), 0);
    assert_eq!(listed(&mount.dir), None);
    living.umount(&site);
}

#[test]
fn a_user_sees_her_own_mounts_and_root_sees_all() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    let binary = site.path().join("strongroom");
    // Others may be kept out of the directory that it was built in.
    fs::hard_link(BINARY, &binary)
        .or_else(|_| fs::copy(BINARY, &binary).map(drop))
        .unwrap();
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut theirs = Command::new(&binary);
    theirs.arg("status").uid(12345).gid(12345).current_dir("/");
    let theirs = succeed(&theirs.output().unwrap());
    assert!(!theirs.contains(text(&mount.dir)), "{theirs}");
    assert!(listed(&mount.dir).is_some());
    mount.unmount();
}

#[test]
fn a_socket_that_nobody_accepts_from_holds_no_list_up() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("0123456789abcdef0123456789abcdef");
    fs::create_dir(&volume).unwrap();
    let path = volume.join("1.sock");
    let address = UnixAddr::new(&path).unwrap();
    let new = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
    };
    let listener = new();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = new();
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(error) => break assert_eq!(error, nix::errno::Errno::EAGAIN),
        }
    }
    let mut list = strongroom(&["status"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ended = holds(3 * SOON, || list.try_wait().unwrap().is_some());
    let _ = list.kill();
    assert!(ended && list.wait().unwrap().success());
}

#[test]
fn a_check_says_what_is_well_what_is_held_up_and_what_is_dead() {
    let site = Site::start(Transport::Plain);
    let mut mount = site.mount();
    fs::write(mount.dir.join("file"), b"x").unwrap();
    File::open(mount.dir.join("file"))
        .unwrap()
        .sync_all()
        .unwrap();
    let dir = mount.dir.clone();
    let dir = text(&dir);
    let (code, line) = check(&[dir]);
    assert_eq!(code, 0, "{line}");
    assert!(
        line.starts_with(&format!("STRONGROOM OK: {dir} is mounted, ")),
        "{line}"
    );
    assert!(line.contains(" | dirty="), "{line}");

    // The lag alone is enough, before anything has failed.
    let hang = Faults {
        outage: Outage::Hang,
        ..Faults::default()
    };
    site.server().set_faults(hang).unwrap();
    fs::write(mount.dir.join("late"), vec![1; 1 << 20]).unwrap();
    block_until("it lags", SOON, || {
        check(&[dir, "--max-lag", "500ms"]).0 == 1
    });
    let (_, line) = check(&[dir, "--max-lag", "500ms"]);
    assert!(line.starts_with("STRONGROOM WARNING: "), "{line}");
    assert!(
        line.contains("lags behind, 1.0 MiB are not stored") || line.contains("held up"),
        "{line}"
    );

    let refuse = Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    };
    site.server().set_faults(refuse).unwrap();
    block_until("there is trouble", Duration::from_secs(60), || {
        check(&[dir]).0 == 1
    });
    let (_, line) = check(&[dir]);
    assert!(line.contains("is held up, "), "{line}");
    site.server().set_faults(Faults::default()).unwrap();
    block_until("all is well again", Duration::from_secs(60), || {
        check(&[dir]).0 == 0
    });

    mount.kill_process();
    let (code, line) = check(&[dir]);
    assert_eq!(code, 2, "{line}");
    assert!(
        line.starts_with("STRONGROOM CRITICAL: ") && line.contains("has died"),
        "{line}"
    );
    // With others, the worst counts.
    assert_eq!(check(&[]).0, 2);
    drop(mount);
    let (code, line) = check(&[dir]);
    assert_eq!(
        (code, line.contains("not a Strongroom mount")),
        (3, true),
        "{line}"
    );
    let wrong = strongroom(&["status", "--check", "--bogus"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(3), "2 would be an alarm");
}

#[test]
fn a_volume_that_was_taken_over_is_critical() {
    let site = Site::start(Transport::Plain);
    let mut lost = site.mount();
    let other = site.mount_with(&["--takeover"]);
    let dir = lost.dir.clone();
    block_until("the loss is noticed", Duration::from_secs(90), || {
        let _ = fs::write(dir.join("file"), b"x");
        check(&[text(&dir)]).0 == 2
    });
    let (_, line) = check(&[text(&dir)]);
    assert!(line.contains("can store nothing any more"), "{line}");
    other.unmount();
    lost.let_go();
    assert_eq!(lost.wait_gone(), 25);
}

#[test]
fn watching_shows_it_again_and_again_until_the_mount_is_gone() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    let mut watching = strongroom(&["status", text(&mount.dir), "--json", "--watch", "100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut counted = lines.map(|line| {
        let report: Value = serde_json::from_str(&line.unwrap()).expect("a document a line");
        report["counters"]["fuse_requests"].as_u64().unwrap()
    });
    let first = counted.next().unwrap();
    assert!(counted.next().unwrap() > first, "it was asked anew");
    mount.unmount();
    assert!(counted.count() < 1000, "it ends");
    let ended = watching.wait_with_output().unwrap();
    assert_ne!(ended.status.code(), Some(0));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    for args in [
        ["--watch", "0"],
        ["--watch=10ms", "/mnt"],
        ["--max-lag", "soon"],
    ] {
        let wrong = strongroom(&["status"]).args(args).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{args:?}");
    }
}
