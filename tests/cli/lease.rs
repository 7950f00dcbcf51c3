//! One writer at a time; a drain is waited for; a dead holder is not.

use std::{
    fs,
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use strongroom::{server::Faults, session::Exit};

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::elsewhere,
        mount::Mount,
        site::{Site, Transport},
        wait::block_until,
    },
};

#[test]
fn a_second_writer_is_refused_and_told_who_has_it_while_readers_are_let_in() {
    let site = Site::start(Transport::Plain);
    let first = BackgroundMount::prepare(&site, "first");
    first.mount(&site, &[]);
    let pid = first.pid(&site);
    let second = BackgroundMount::prepare(&site, "second");
    let words = [&*format!("process {pid} on "), "--takeover", "--read-only"];
    assert_refused(&mut second.command(&site, &[]), Exit::Held, &words);
    second.mount(&site, &["--read-only"]);
    second.umount(&site);
    first.umount(&site);
}

#[test]
fn the_lease_of_a_process_that_was_killed_here_is_taken_at_once() {
    let site = Site::start(Transport::Plain);
    site.mount().kill();
    let began = Instant::now();
    let next = BackgroundMount::prepare(&site, "next");
    next.mount(&site, &[]);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    next.umount(&site);
}

#[test]
fn a_mount_started_while_another_drains_waits_and_says_so() {
    let site = Site::start(Transport::Plain);
    let first = BackgroundMount::prepare(&site, "first");
    first.mount(&site, &[]);
    let slow = Faults {
        bandwidth: Some(6_000_000),
        ..Faults::default()
    };
    site.server().set_faults(slow).unwrap();
    fs::write(first.dir.join("file"), vec![1; 24 << 20]).unwrap();
    assert!(
        Command::new("fusermount3")
            .arg("-u")
            .arg(&first.dir)
            .status()
            .unwrap()
            .success()
    );
    let second = BackgroundMount::prepare(&site, "second");
    let output = second.command(&site, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("waiting until process"), "{said}");
    site.server().set_faults(Faults::default()).unwrap();
    assert_eq!(
        fs::read(second.dir.join("file")).unwrap(),
        vec![1; 24 << 20]
    );
    second.umount(&site);
}

#[test]
fn a_holder_that_lost_its_volume_stays_in_the_way_and_answers_eio_until_it_is_unmounted() {
    let site = Site::start(Transport::Plain);
    type Ending<'a> = &'a dyn Fn(&Mount, &Site);
    let fusermount: Ending = &|mount, _| mount.let_go();
    let umount: Ending = &|mount, site| {
        let dir = mount.dir.to_str().unwrap();
        let output = site.strongroom(&["umount", dir]).output();
        let said = String::from_utf8_lossy(&output.stderr);
        let taken_over = i32::from(Exit::TakenOver.code());
        assert_eq!(output.status.code(), Some(taken_over), "{said}");
    };
    let terminate: Ending = &|mount, _| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(mount.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    };
    for (round, end) in [fusermount, umount, terminate].into_iter().enumerate() {
        let kept = format!("kept{round}");
        let mut first = site.mount();
        let mut open = fs::File::create_new(first.dir.join(&kept)).unwrap();
        open.write_all(b"kept").unwrap();
        open.sync_all().unwrap();
        let second = BackgroundMount::prepare(&site, &format!("second{round}"));
        second.mount(&site, &["--takeover"]);
        assert_eq!(fs::read(second.dir.join(&kept)).unwrap(), b"kept");
        // It notices with its next change at the latest, and at its next renewal of the lease
        // without one, 30 s.
        let _ = fs::write(first.dir.join("too-late"), b"x");
        block_until("the first notices", Duration::from_secs(40), || {
            first.status()["mount"]["state"] == "lost"
        });
        assert!(first.status()["durability"]["trouble"].is_string());
        // Now nothing gets through, least of all to what lies under the mount.
        let eio = |outcome: std::io::Result<()>| {
            assert_eq!(outcome.unwrap_err().raw_os_error(), Some(nix::libc::EIO));
        };
        eio(fs::write(first.dir.join("lost"), b"lost"));
        eio(fs::read(first.dir.join(&kept)).map(drop));
        eio(fs::read_dir(&first.dir).map(drop));
        eio(fs::metadata(first.dir.join(&kept)).map(drop));
        eio(fs::create_dir(first.dir.join("d")));
        eio(fs::remove_file(first.dir.join(&kept)));
        eio(open.write_all(b"more"));
        eio(open.sync_all());
        drop(open);
        assert!(!first.has_ended());
        end(&first, &site);
        assert_eq!(
            first.wait_gone(),
            i32::from(Exit::TakenOver.code()),
            "{}",
            first.log_text()
        );
        assert!(!first.is_mounted());
        assert_eq!(fs::read_dir(&first.dir).unwrap().count(), 0);
        fs::write(second.dir.join("new"), b"new").unwrap();
        second.umount(&site);
    }
}

#[test]
fn a_mount_from_elsewhere_gives_the_holder_ten_seconds_and_is_refused() {
    let site = Site::start(Transport::Plain);
    let first = BackgroundMount::prepare(&site, "first");
    first.mount(&site, &[]);
    let second = BackgroundMount::prepare(&site, "second");
    let began = Instant::now();
    let output = elsewhere(&second.command(&site, &["--foreground"]))
        .args(["--log-level", "error"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(i32::from(Exit::Held.code())),
        "{said}"
    );
    assert!(said.contains("--takeover"), "{said}");
    assert!(
        began.elapsed() >= Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    first.umount(&site);
}

mod long {
    use super::*;

    #[test]
    #[ignore = "waits for a lease to expire, two minutes"]
    fn the_lease_of_a_machine_that_died_expires() {
        let site = Site::start(Transport::Plain);
        site.mount().kill();
        // Until the last renewal is overdue by the store's clock, a mount from elsewhere gives up
        // after ten seconds.
        std::thread::sleep(Duration::from_secs(50));
        let second = BackgroundMount::prepare(&site, "second");
        let log = site.path().join("second.log");
        let began = Instant::now();
        let mut child = elsewhere(&second.command(&site, &["--foreground"]))
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        // Its mount is in a mount namespace of its own: only its log shows it here.
        while !fs::read_to_string(&log).unwrap().contains("is mounted on") {
            assert!(
                child.try_wait().unwrap().is_none(),
                "it gave up: {}",
                fs::read_to_string(&log).unwrap()
            );
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{}",
                fs::read_to_string(&log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(
            began.elapsed() >= Duration::from_secs(85),
            "{:?}",
            began.elapsed()
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
