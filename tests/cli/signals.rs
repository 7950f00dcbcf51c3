//! Signals to the process that serves a mount: which end it, and that none loses what was written.

use std::{
    fs::{self, File},
    io::Write,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    running::{BackgroundMount, write_secret},
    support::{
        commands::{around, succeed, text},
        site::{Site, Transport},
        wait::block_until,
    },
};

/// Nothing goes out by itself within a test.
const LATE: [&str; 2] = ["--upload-delay", "30s"];

const PATIENCE: Duration = Duration::from_secs(20);

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Whether the process has caught this signal, or taken it: it is no longer pending.
fn nothing_pending(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
        .all(|line| line.ends_with("0000000000000000"))
}

fn kept_in_the_store(site: &Site, names: &[String]) {
    let again = site.mount();
    for name in names {
        assert_eq!(fs::read(again.dir.join(name)).unwrap(), name.as_bytes());
    }
    again.unmount();
}

#[test]
fn hup_usr1_usr2_and_quit_neither_end_a_mount_nor_lose_what_was_written() {
    let site = Site::start(Transport::Plain);
    let foreground = site.mount_with(&LATE);
    let signals = [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
    ];
    let mut names = Vec::new();
    let mut check = |dir: &std::path::Path, pid: u32, prefix: &str| {
        for signal in signals {
            let name = format!("{prefix}-{signal}");
            fs::write(dir.join(&name), &name).unwrap();
            send(pid, signal);
            block_until("the signal is taken", PATIENCE, || nothing_pending(pid));
            assert_eq!(fs::read_to_string(dir.join(&name)).unwrap(), name);
            names.push(name);
        }
    };
    check(&foreground.dir, foreground.pid(), "foreground");
    foreground.unmount();
    let background = BackgroundMount::prepare(&site, "background");
    background.mount(&site, &LATE);
    let pid = u32::try_from(background.pid(&site)).unwrap();
    check(&background.dir, pid, "background");
    background.umount(&site);
    kept_in_the_store(&site, &names);
}

#[test]
fn after_hup_the_log_goes_to_a_new_file_of_the_same_name() {
    let site = Site::start(Transport::Plain);
    let log = site.path().join("a.log");
    let rotated = site.path().join("a.log.1");
    let background = BackgroundMount::prepare(&site, "rotated");
    background.mount(&site, &["--log-file", text(&log)]);
    let pid = u32::try_from(background.pid(&site)).unwrap();
    for _ in 0..3 {
        fs::rename(&log, &rotated).unwrap();
        let before = fs::read_to_string(&rotated).unwrap();
        send(pid, Signal::SIGHUP);
        block_until("the new file is there", PATIENCE, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("opened anew"))
        });
        assert_eq!(fs::read_to_string(&rotated).unwrap(), before);
    }
    background.umount(&site);
    assert!(
        fs::read_to_string(&log)
            .unwrap()
            .contains("everything is durable")
    );
}

/// Runs its arguments on a terminal of its own until its standard input ends, then closes that
/// terminal; exits as the program did. `shell`: the terminal belongs to what stands between the
/// two, which hands SIGHUP on to its jobs as shells do.
const ON_A_TERMINAL: &str = "
import os, pty, sys
shell, program = sys.argv[1] == 'shell', sys.argv[2:]
out, told = os.pipe()
pid, master = pty.fork()
if pid == 0:
    if not shell: os.execvp(program[0], program)
    os.close(out)
    import signal, subprocess
    child = subprocess.Popen(program)
    signal.signal(signal.SIGHUP, lambda *_: child.send_signal(signal.SIGHUP))
    os.write(told, b'%d' % child.wait())
    os._exit(0)
os.close(told)
import select
while 0 not in select.select([0, master], [], [])[0]:
    try: os.read(master, 4096)
    except OSError: break
os.close(master)
if shell: sys.exit(int(os.read(out, 20)) & 127)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 127)
";

/// The kernel shows the mount a moment before the process calls itself ready.
#[test]
fn what_is_written_the_moment_the_mount_is_there_survives_a_signal_at_that_moment() {
    let site = Site::start(Transport::Plain);
    let mut names = Vec::new();
    for round in 0..12 {
        let name = format!("round-{round}");
        let (dir, state) = (site.scratch(&name), site.scratch("moment-state"));
        let arguments = ["--foreground", "--state-dir", text(&state)];
        let mount =
            site.strongroom(&[&["mount", &site.url(), text(&dir)], &arguments[..]].concat());
        let mut mount = mount.with_passphrase(&site).command;
        let mut process = mount.args(LATE).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let is_mounted = || {
            let table = fs::read_to_string("/proc/self/mounts").unwrap();
            table.contains(&format!(" {} ", text(&dir)))
        };
        while !is_mounted() {
            assert!(began.elapsed() < Duration::from_secs(20), "not mounted");
            std::hint::spin_loop();
        }
        fs::write(dir.join(&name), &name).unwrap();
        send(process.id(), Signal::SIGTERM);
        let code = process.wait().unwrap().code();
        assert_eq!(code, Some(0), "round {round}");
        assert!(!is_mounted());
        names.push(name);
    }
    kept_in_the_store(&site, &names);
}

/// Writes a file into a mount as soon as the kernel has it, and says what became of it.
struct EagerWriter {
    gives_up: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    /// The mount was never seen, or went away before the file was made.
    Not,
    /// It was begun, and an operation on it failed.
    InPart,
    Whole,
    Synced,
}

impl EagerWriter {
    fn start(dir: PathBuf, name: String, synced: bool) -> EagerWriter {
        let gives_up = Arc::new(AtomicBool::new(false));
        let told = gives_up.clone();
        let thread = std::thread::spawn(move || {
            let below = fs::metadata(&dir).unwrap().dev();
            let root = loop {
                // Held, so that nothing is written into the directory below the mount.
                if let Ok(root) = File::open(&dir)
                    && root.metadata().is_ok_and(|root| root.dev() != below)
                {
                    break root;
                }
                if told.load(Ordering::Relaxed) {
                    return Written::Not;
                }
                std::thread::yield_now();
            };
            let path = format!("/proc/self/fd/{}/{name}", root.as_raw_fd());
            let Ok(mut file) = File::create(path) else {
                return Written::Not;
            };
            match file.write_all(name.as_bytes()) {
                Ok(()) if synced && file.sync_all().is_ok() => Written::Synced,
                Ok(()) => Written::Whole,
                Err(_) => Written::InPart,
            }
        });
        EagerWriter { gives_up, thread }
    }

    fn end(self) -> Written {
        self.gives_up.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A moment in the life of a mount that is being made.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// It listens to `status` already, and is about to ask the kernel for the mount.
    Attaching,
    /// The kernel has it.
    Mounted,
}

/// A mount that is being made.
struct Making {
    dir: PathBuf,
    process: Child,
}

impl Making {
    fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        table.contains(&format!(" {} ", text(&self.dir)))
    }

    fn wait_until(&mut self, moment: Moment, state: &Path) {
        let socket = format!("{}.sock", self.process.id());
        let began = Instant::now();
        loop {
            let is_there = match moment {
                Moment::Attaching => fs::read_dir(state)
                    .unwrap()
                    .any(|volume| volume.unwrap().path().join(&socket).exists()),
                Moment::Mounted => self.is_mounted(),
            };
            if is_there {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended by itself");
            assert!(began.elapsed() < Duration::from_secs(20), "{moment:?}");
            std::hint::spin_loop();
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if self.is_mounted() {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

/// However two signals fall while a mount is being made: it ends, nothing stays in the way, and
/// what was written is there, unless the second one said to give that up, which the exit code says
/// then.
#[test]
fn a_second_signal_while_the_mount_is_being_made_leaves_nothing_behind_and_loses_nothing_unsaid() {
    let site = Site::start(Transport::Plain);
    let (state, key) = (site.scratch("second-state"), site.path().join("key"));
    // It takes no time to unlock with.
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    let add_key = ["key", "add", &site.url(), "--new-key-file", text(&key)];
    succeed(&site.strongroom(&add_key).with_passphrase(&site).output());
    let mut kept = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let pairs = [
        [Signal::SIGTERM, Signal::SIGINT],
        [Signal::SIGTERM, Signal::SIGTERM],
        [Signal::SIGINT, Signal::SIGTERM],
        [Signal::SIGTERM, Signal::SIGHUP],
        [Signal::SIGHUP, Signal::SIGTERM],
    ];
    for round in 0..50usize {
        let name = format!("round-{round}");
        let dir = site.scratch(&name);
        let [first, second] = pairs[round % pairs.len()];
        let moment = [Moment::Attaching, Moment::Mounted][round % 2];
        let mut mount = site.strongroom(&["mount", &site.url(), text(&dir), "--foreground"]);
        let mount = &mut mount.command;
        mount.args(["--state-dir", text(&state), "--key-file", text(&key)]);
        mount.args(LATE).stdout(Stdio::null()).stderr(Stdio::null());
        let writer = EagerWriter::start(dir.clone(), name.clone(), round % 3 == 0);
        let mut making = Making {
            dir: dir.clone(),
            process: mount.spawn().unwrap(),
        };
        let pid = making.process.id();
        making.wait_until(moment, &state);
        if below(2) == 0 {
            // Both are there when it goes on.
            send(pid, Signal::SIGSTOP);
            send(pid, first);
            send(pid, second);
            send(pid, Signal::SIGCONT);
        } else {
            std::thread::sleep(Duration::from_micros(below(2000)));
            send(pid, first);
            std::thread::sleep(Duration::from_micros(below(8000)));
            send(pid, second);
        }
        let began = Instant::now();
        let code = loop {
            if let Some(status) = making.process.try_wait().unwrap() {
                break status.code();
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let written = writer.end();
        eprintln!("round {round}: {moment:?}, {first}, {second}: {code:?}, {written:?}");
        // A dead mount would be there too, and answer nothing.
        assert!(!making.is_mounted(), "round {round}: a mount stays behind");
        let durable = match code {
            Some(0) => written >= Written::Whole,
            // A hangup is never an impatient one.
            Some(7) if first != Signal::SIGHUP && second != Signal::SIGHUP => {
                written == Written::Synced
            }
            Some(16) => {
                assert_eq!(written, Written::Not, "round {round}: it was mounted");
                false
            }
            _ => panic!("round {round}: exit code {code:?}"),
        };
        kept.extend(durable.then_some(name));
    }
    assert!(kept.len() > 10, "hardly anybody came to write");
    kept_in_the_store(&site, &kept);
}

#[test]
fn closing_the_terminal_of_a_mount_in_the_foreground_drains_it() {
    let site = Site::start(Transport::Plain);
    let mut names = Vec::new();
    for owner in ["alone", "shell"] {
        let (dir, state) = (site.scratch(owner), site.scratch("terminal-state"));
        let mount = site.strongroom(&[
            "mount",
            &site.url(),
            text(&dir),
            "--foreground",
            "--state-dir",
            text(&state),
        ]);
        let mut mount = mount.with_passphrase(&site).command;
        mount.args(LATE);
        let mut on_terminal = Command::new("python3");
        on_terminal
            .args(["-c", ON_A_TERMINAL, owner])
            .stdin(Stdio::piped());
        around(&mut on_terminal, &mount);
        let mut terminal = on_terminal.spawn().unwrap();
        let mounted = || {
            let table = fs::read_to_string("/proc/self/mounts").unwrap();
            table
                .lines()
                .any(|line| line.split(' ').nth(1) == dir.to_str())
        };
        block_until("it is mounted", PATIENCE, mounted);
        fs::write(dir.join(owner), owner).unwrap();
        names.push(owner.to_owned());
        drop(terminal.stdin.take());
        let code = terminal.wait().unwrap().code();
        assert_eq!(code, Some(0), "{owner}");
        assert!(!mounted());
    }
    kept_in_the_store(&site, &names);
}

#[test]
fn a_hangup_without_a_terminal_ends_no_mount_in_the_foreground() {
    let mut site = Site::start(Transport::Plain);
    // As a service manager starts it: a session of its own, no terminal.
    site.wrapper = vec!["setsid".to_owned(), "--wait".to_owned()];
    let mount = site.mount_with(&LATE);
    let pid = mount.status()["mount"]["pid"].as_u64().unwrap();
    fs::write(mount.dir.join("file"), b"file").unwrap();
    let pid = u32::try_from(pid).unwrap();
    for _ in 0..3 {
        send(pid, Signal::SIGHUP);
        block_until("the signal is taken", PATIENCE, || nothing_pending(pid));
    }
    assert_eq!(fs::read(mount.dir.join("file")).unwrap(), b"file");
    mount.unmount();
    kept_in_the_store(&site, &["file".to_owned()]);
}
