//! Outages under real tools: restic, borg, rsync and SQLite work on one mount while the store
//! stands still, dies and comes back, or refuses. All of them end well, and whoever waits meanwhile
//! can be killed.
//!
//! Briefly here, seventy seconds and ten times each in the long run.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    support::{
        commands::{shell, tool},
        lying::{
            Form, Lie, LyingStore, Rule,
            request::{ALL, WRITES},
        },
        mount::Mount,
        random::noise,
        server_process::ServerProcess,
        site::{Site, Transport},
        tree::{assert_same, snapshot},
    },
    world::let_go_lazily,
};

/// After the outage all tools end within this.
const RECOVERY: Duration = Duration::from_secs(120);

/// A program that waits for the store ends this soon after SIGKILL.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// `fusermount3 -uz` takes no longer, whatever the store does. It starts a process on a busy
/// machine.
const LAZILY_WITHIN: Duration = Duration::from_secs(2);

/// A file that no mount has read before the outage.
const COLD: &str = "cold";

/// A kind of outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// The server is stopped by SIGSTOP.
    Stopped,
    /// It is killed, and started again at the end.
    Killed,
    /// Everything is answered with this.
    Refused(u16, &'static str),
    /// Only what writes is answered with this: a full disk, a key that may read only.
    WritesRefused(u16, &'static str),
}

/// A volume in a server of its own process, behind the liar if the outage needs one.
struct Scene {
    store: LyingStore,
    server: ServerProcess,
    site: Site,
}

impl Scene {
    fn set(outage: Outage) -> Scene {
        let mut site = Site::without_volume(Transport::Plain);
        let server = ServerProcess::start(site.scratch("objects"), "127.0.0.1:0");
        let store = LyingStore::before(server.address);
        site.endpoint = match outage {
            Outage::Stopped | Outage::Killed => format!("http://{}", server.address),
            Outage::Refused(..) | Outage::WritesRefused(..) => store.endpoint(),
        };
        site.make_volume();
        Scene {
            store,
            server,
            site,
        }
    }
}

/// The parts of a scene that change while its site is mounted.
struct Borrowed<'a> {
    store: &'a mut LyingStore,
    server: &'a mut ServerProcess,
}

impl Borrowed<'_> {
    fn begin(&mut self, outage: Outage) {
        let refuse = |status, code| Lie::refuse(status, Form::Code(code));
        match outage {
            Outage::Stopped => self.server.signal(Signal::SIGSTOP),
            Outage::Killed => self.server.end(),
            Outage::Refused(status, code) => {
                self.store.lie(Rule::on(ALL).always(refuse(status, code)));
            }
            Outage::WritesRefused(status, code) => {
                self.store
                    .lie(Rule::on(WRITES).always(refuse(status, code)));
            }
        }
    }

    fn end(&mut self, outage: Outage) {
        match outage {
            Outage::Stopped => self.server.signal(Signal::SIGCONT),
            Outage::Killed => self.server.start_again(),
            Outage::Refused(..) | Outage::WritesRefused(..) => self.store.heal(),
        }
    }
}

/// A tool at work on the mount.
struct Job {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Job {
    /// A shell line in the mount.
    fn start(name: &'static str, mount: &Path, scratch: &Path, line: &str) -> Job {
        let log = scratch.join(format!("{name}.log"));
        let out = fs::File::create(&log).expect("log");
        let child = Command::new("bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(mount)
            .env("HOME", scratch)
            .env("SOURCE", scratch.join("source"))
            .env("RESTIC_PASSWORD", "x")
            .env("RESTIC_CACHE_DIR", scratch.join("restic-cache"))
            .env("BORG_PASSPHRASE", "x")
            .env("BORG_BASE_DIR", scratch.join("borg"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log"))
            .stderr(out)
            .process_group(0)
            .spawn()
            .expect("bash");
        Job { name, child, log }
    }

    fn assert_ends_well(mut self, until: Instant) {
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                assert!(status.success(), "{}: {status}\n{log}", self.name);
                return;
            }
            assert!(
                Instant::now() < until,
                "{} does not go on after the outage",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Job {
    /// Ends the shell and what it started. Not waited for: until the mount is gone too, that may
    /// take for ever.
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// A tree like a home directory's, about as large as the work that a short outage interrupts.
fn make_source(dir: &Path, mib: usize) {
    for index in 0..200usize {
        let sub = dir.join(format!("d{}", index % 10));
        fs::create_dir_all(&sub).expect("directory");
        fs::write(
            sub.join(format!("f{index}")),
            noise(index as u64 + 1, 200 + index * 97 % 20_000),
        )
        .expect("file");
    }
    for index in 0..mib / 4 {
        fs::write(
            dir.join(format!("large{index}")),
            noise(1000 + index as u64, 4 << 20),
        )
        .expect("file");
    }
}

const SQLITE: &str = "for i in $(seq 1 60); do echo \"insert into t select abs(random()), hex(randomblob(500));\"; done | sqlite3 -bail db.sqlite";

fn start_tools(mount: &Path, scratch: &Path) -> Vec<Job> {
    let job = |name, line: &str| Job::start(name, mount, scratch, line);
    vec![
        job("restic", "restic -q -r restic backup \"$SOURCE\""),
        job("borg", "borg create borg::one \"$SOURCE\""),
        job("rsync", "rsync -a --fsync \"$SOURCE\"/ copy/"),
        job("sqlite", SQLITE),
    ]
}

/// Processes that wait for the store, one for a write and one for a read, die when they are killed.
fn assert_waiting_callers_can_be_killed(mount: &Path, outage: Outage) {
    let write = "exec dd if=/dev/zero of=killed bs=1M count=2 conv=fsync status=none";
    let read = format!("exec cat {COLD} > /dev/null");
    let mut callers = [write, &read].map(|line| {
        let caller = Command::new("bash")
            .args(["-c", line])
            .current_dir(mount)
            .spawn();
        caller.expect("bash")
    });
    // Until they wait, and for longer than the mount lets a request wait without looking at who
    // made it.
    std::thread::sleep(Duration::from_millis(1500));
    let mut waited = 0;
    for caller in &mut callers {
        if caller.try_wait().expect("wait").is_some() {
            continue;
        }
        waited += 1;
        kill(Pid::from_raw(caller.id() as i32), Signal::SIGKILL).expect("kill");
        let began = Instant::now();
        while caller.try_wait().expect("wait").is_none() {
            let state = process_state(caller.id());
            assert!(
                began.elapsed() < KILLED_WITHIN,
                "a killed caller is still there, in state {state}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("a killed caller was gone after {:?}", began.elapsed());
    }
    // A refusal may be reported at once; a store that says nothing makes both wait.
    let silent = matches!(outage, Outage::Stopped | Outage::Killed);
    assert!(
        waited == 2 || !silent,
        "only {waited} waited for a store that says nothing"
    );
}

fn process_state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or("gone")
        .to_owned()
}

fn survives(outage: Outage, length: Duration, rounds: u32, mib: usize) {
    let mut scene = Scene::set(outage);
    let scratch = scene.site.scratch("scratch");
    make_source(&scene.site.scratch("scratch/source"), mib);
    let mount = scene.site.mount();
    fs::write(mount.dir.join(COLD), noise(77, 4 << 20)).expect("write");
    mount.unmount();
    for round in 0..rounds {
        let began = Instant::now();
        one_round(&mut scene, outage, length, &scratch, round);
        eprintln!(
            "{outage:?} round {round}: {:.1} s",
            began.elapsed().as_secs_f32()
        );
    }
}

fn one_round(scene: &mut Scene, outage: Outage, length: Duration, scratch: &Path, round: u32) {
    // The site is lent to the mount while the scene goes on: both by reference.
    let Scene {
        store,
        server,
        site,
    } = scene;
    let mount = site.mount_with(&["--takeover"]);
    let work = mount.dir.join(format!("round{round}"));
    fs::create_dir(&work).expect("mkdir");
    let prepare = "restic -q init -r restic && borg init -e none borg && mkdir copy && sqlite3 db.sqlite 'create table t(a, b)'";
    let until = Instant::now() + RECOVERY;
    Job::start("prepare", &work, scratch, prepare).assert_ends_well(until);
    let tools = start_tools(&work, scratch);
    // Part of the way.
    std::thread::sleep(Duration::from_millis(700 + u64::from(round) * 300));
    let mut scene = Borrowed { store, server };
    scene.begin(outage);
    let ends = Instant::now() + length;
    assert_waiting_callers_can_be_killed(&mount.dir, outage);
    std::thread::sleep(ends.saturating_duration_since(Instant::now()));
    scene.end(outage);
    let until = Instant::now() + RECOVERY;
    for tool in tools {
        tool.assert_ends_well(until);
    }
    check(&work, scratch);
    assert_left_lazily_in_an_outage(&mut scene, outage, mount, &work);
    let mount = site.mount_with(&["--takeover"]);
    check(&mount.dir.join(format!("round{round}")), scratch);
    shell(
        &mount.dir,
        "find . -type f -print0 | xargs -0 cat > /dev/null",
    );
    shell(&mount.dir, &format!("rm -rf round{round}"));
    mount.unmount();
}

/// Something is dirty, the store is away: the unmount returns at once, and the process ends well
/// when the store is back.
fn assert_left_lazily_in_an_outage(
    scene: &mut Borrowed<'_>,
    outage: Outage,
    mut mount: Mount<'_>,
    work: &Path,
) {
    scene.begin(outage);
    fs::write(work.join("last"), noise(5, 300 << 10)).expect("write");
    let took = let_go_lazily(&mount.dir);
    scene.end(outage);
    assert!(took < LAZILY_WITHIN, "fusermount3 -uz took {took:?}");
    let code = mount.wait_gone();
    assert_eq!(code, 0, "{}", mount.log_text());
}

fn check(work: &Path, scratch: &Path) {
    let home = scratch.to_str().expect("path");
    let cache = scratch.join("restic-cache");
    let base = scratch.join("borg");
    let env = [
        ("HOME", home),
        ("RESTIC_PASSWORD", "x"),
        ("RESTIC_CACHE_DIR", cache.to_str().expect("path")),
        ("BORG_BASE_DIR", base.to_str().expect("path")),
        ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes"),
        ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes"),
    ];
    tool(
        work,
        "restic",
        &["-q", "-r", "restic", "check", "--read-data"],
        &env,
    );
    tool(work, "borg", &["check", "--verify-data", "borg"], &env);
    assert_same(
        &snapshot(&scratch.join("source")),
        &snapshot(&work.join("copy")),
        "rsync's copy",
    );
    let rows = tool(
        work,
        "sqlite3",
        &[
            "db.sqlite",
            "pragma integrity_check; select count(*) from t;",
        ],
        &[],
    );
    assert_eq!(rows, "ok\n60\n", "SQLite");
}

const BRIEFLY: Duration = Duration::from_secs(8);

#[test]
fn tools_survive_a_store_that_stands_still() {
    survives(Outage::Stopped, BRIEFLY, 1, 16);
}

#[test]
fn tools_survive_a_store_that_dies_and_comes_back() {
    survives(Outage::Killed, BRIEFLY, 1, 16);
}

#[test]
fn tools_survive_a_store_that_is_overloaded() {
    survives(Outage::Refused(503, "SlowDown"), BRIEFLY, 1, 16);
}

#[test]
fn tools_survive_credentials_that_are_refused_for_a_while() {
    survives(Outage::Refused(403, "AccessDenied"), BRIEFLY, 1, 16);
}

#[test]
fn tools_survive_a_store_that_is_full_for_a_while() {
    survives(
        Outage::WritesRefused(507, "InsufficientStorage"),
        BRIEFLY,
        1,
        16,
    );
}

mod long {
    use super::{Duration, Outage, survives};

    fn survives_long_ones(outage: Outage) {
        survives(outage, Duration::from_secs(70), 10, 60);
    }

    #[test]
    #[ignore = "half an hour: run by mount-scripts/test.sh --long"]
    fn tools_survive_a_store_that_stands_still_for_long_ten_times() {
        survives_long_ones(Outage::Stopped);
    }

    #[test]
    #[ignore = "half an hour: run by mount-scripts/test.sh --long"]
    fn tools_survive_a_store_that_is_dead_for_long_ten_times() {
        survives_long_ones(Outage::Killed);
    }

    #[test]
    #[ignore = "half an hour: run by mount-scripts/test.sh --long"]
    fn tools_survive_a_store_that_is_overloaded_for_long_ten_times() {
        survives_long_ones(Outage::Refused(503, "SlowDown"));
    }

    #[test]
    #[ignore = "half an hour: run by mount-scripts/test.sh --long"]
    fn tools_survive_credentials_that_are_refused_for_long_ten_times() {
        survives_long_ones(Outage::Refused(403, "AccessDenied"));
    }

    #[test]
    #[ignore = "half an hour: run by mount-scripts/test.sh --long"]
    fn tools_survive_a_store_that_is_full_for_long_ten_times() {
        survives_long_ones(Outage::WritesRefused(507, "InsufficientStorage"));
    }
}
