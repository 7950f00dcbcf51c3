//! `top` in a terminal, over a real mount.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, refused, strongroom},
    support::{
        commands::text,
        site::{Site, Transport},
        terminal::TerminalProgram,
    },
};

const SECTIONS: [&str; 6] = [
    "Throughput",
    "Not stored, caches, errors",
    "Memory",
    "What waits for what",
    "Latency",
    "Busiest files by bytes moved",
];

/// Writes a file over and over, with fsync, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    fn on(dir: &Path) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let file = File::create(dir.join("load.bin")).expect("created");
        let writer = thread::spawn(move || {
            for turn in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let piece = [turn as u8; 64 << 10];
                file.write_all_at(&piece, turn % 64 * 65_536)
                    .expect("written");
                file.sync_all().expect("synced");
            }
        });
        Load {
            stop,
            writer: Some(writer),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.writer.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

fn top(site: &Site, args: &[&str], columns: u16, rows: u16) -> TerminalProgram {
    let mut run = site.strongroom(&[&["top"][..], args].concat());
    TerminalProgram::start(&mut run.command, columns, rows)
}

fn mounted(site: &Site, name: &str) -> BackgroundMount {
    let mount = BackgroundMount::prepare(site, name);
    mount.mount(site, &["--memory", "128MiB"]);
    mount
}

#[test]
fn a_mount_under_load_is_shown_and_keys_do_what_they_say() {
    let site = Site::start(Transport::Plain);
    let mount = mounted(&site, "top");
    let load = Load::on(&mount.dir);
    let mut top = top(&site, &[text(&mount.dir)], 80, 24);
    for section in SECTIONS {
        top.wait_for_text(section);
    }
    assert!(top.has_taken_the_terminal());
    top.wait_for("a rate of writes", |screen| {
        let line = screen.lines().find(|line| line.contains("programs write"));
        line.is_some_and(|line| line.contains("/s"))
    });
    for shown in [
        "load.bin",
        "mounted, writable",
        "of 128 MiB",
        "fs fsync",
        "s3 ",
    ] {
        top.wait_for_text(shown);
    }
    top.press("s");
    top.wait_for_text("Busiest files by bytes read");
    top.press("p");
    top.wait_for_text("PAUSED");
    top.press("p");
    top.wait_for("no pause", |screen| !screen.contains("PAUSED"));
    top.press("?");
    top.wait_for_text("sort the files by another column");
    top.press("x");
    top.wait_for("no help", |screen| !screen.contains("sort the files"));
    top.resize(120, 40);
    top.wait_for("the new size", |screen| {
        SECTIONS[..5].iter().all(|section| screen.contains(section))
            && screen
                .lines()
                .last()
                .is_some_and(|line| line.contains("q quit"))
    });
    top.press("q");
    assert_eq!(top.end().0, 0);
    drop(load);
    mount.umount(&site);
}

#[test]
fn the_end_of_a_mount_is_told_and_how_it_came() {
    let site = Site::start(Transport::Plain);
    let mount = mounted(&site, "ended");
    let args = [text(&mount.dir), "--state-dir", text(&mount.state)];
    let mut watching = top(&site, &args, 120, 24);
    watching.wait_for_text("mounted, writable");
    mount.umount(&site);
    watching
        .wait_for_text("The mount has ended: it was unmounted, and everything is durable since");
    watching.press("q");
    assert_eq!(watching.end().0, 0);

    mount.mount(&site, &["--takeover"]);
    let mut watching = top(&site, &args, 120, 24);
    watching.wait_for_text("mounted, writable");
    let pid = i32::try_from(mount.pid(&site)).expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    watching.wait_for_text("The mount has ended: its process has ended without a note");
    watching.press("q");
    assert_eq!(watching.end().0, 0);
    let cleared = site.strongroom(&["umount", text(&mount.dir)]).output();
    assert_eq!(
        cleared.status.code(),
        Some(i32::from(Exit::NotDurable.code()))
    );
}

#[test]
fn ctrl_c_and_a_signal_give_the_terminal_back() {
    let site = Site::start(Transport::Plain);
    let mount = mounted(&site, "stopped");
    let mut interrupted = top(&site, &[text(&mount.dir)], 80, 24);
    interrupted.wait_for_text("mounted, writable");
    interrupted.press("\u{3}");
    assert_eq!(interrupted.end().0, 0);

    let terminated = top(&site, &[text(&mount.dir)], 80, 24);
    terminated.wait_for_text("mounted, writable");
    terminated.send(Signal::SIGTERM);
    let (code, screen) = terminated.end();
    assert_eq!(code, i32::from(Exit::Interrupted.code()), "{screen}");
    assert!(screen.contains("strongroom: interrupted"), "{screen}");
    mount.umount(&site);
}

#[test]
fn of_several_mounts_one_is_chosen_and_tab_goes_to_the_next() {
    let site = Site::start(Transport::Plain);
    let mount = mounted(&site, "first");
    let second = BackgroundMount::prepare(&site, "second");
    second.mount(&site, &["--read-only"]);
    let mut top = top(&site, &[], 160, 60);
    top.wait_for_text("which mount?");
    top.wait_for_text(text(&second.dir));
    // Other mounts of this user may be in the list.
    let chosen = |screen: &str| {
        let line = screen.lines().find(|line| line.contains('>'));
        line.is_some_and(|line| line.contains(text(&mount.dir)))
    };
    let mut screen = top.text();
    while !chosen(&screen) {
        top.press("\u{1b}[B");
        screen = top.wait_for("another line", |now| now != screen);
    }
    top.press("\r");
    top.wait_for_text("mounted, writable");
    assert!(top.text().contains(text(&mount.dir)));
    // They are in the order of their directories, and these are beside each other.
    top.press("\t");
    top.wait_for("the second mount", |screen| {
        screen.contains(text(&second.dir)) && screen.contains("mounted, read-only")
    });
    top.press("q");
    assert_eq!(top.end().0, 0);
    second.umount(&site);
    mount.umount(&site);
}

#[test]
fn without_a_terminal_or_a_mount_there_is_an_error_and_no_screen() {
    let dir = tempfile::tempdir().expect("a directory");
    let words = ["terminal", "status --watch"];
    refused(
        &mut strongroom(&["top", text(dir.path())]),
        Exit::Usage,
        &words,
    );
    let mut command = strongroom(&["top", text(dir.path())]);
    let nowhere = TerminalProgram::start(&mut command, 80, 24);
    // The words may still be on their way through the terminal when the program has ended.
    nowhere.wait_for_text("is not a Strongroom mount");
    let (code, screen) = nowhere.end();
    assert_eq!(code, i32::from(Exit::NotMounted.code()), "{screen}");
    fs::remove_dir(dir.path()).expect("still empty");
}
