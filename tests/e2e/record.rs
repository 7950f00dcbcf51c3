//! A recording of a real mount: what stands in it, what never does, and the same outage once more.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use strongroom::{record::MEMORY_BYTES, session::recording};

use crate::support::{
    bucket::BUCKET,
    canary::assert_none,
    commands::{shell, text, tool},
    credentials::{ACCESS_KEY, SECRET_KEY},
    har::{self, Entry},
    lying::{Form, Kind, Lie, LyingStore, Op, Rule},
    mount::Mount,
    random::noise,
    server_process::ServerProcess,
    site::{PASSPHRASE, Site, Transport},
    wait::block_until,
};

/// How late the answer is that comes late.
const LATE: Duration = Duration::from_millis(1500);
const SOON: Duration = Duration::from_secs(60);
const OLD_BYTES: usize = 3 << 20;

/// Writes a file that the mount under test has to fetch.
fn prepare(site: &Site) {
    let mount = site.mount();
    fs::write(mount.dir.join("canary-name-old"), noise(1, OLD_BYTES)).expect("written");
    mount.unmount();
}

/// One thing after the other, so that requests of a kind come in the same order each time.
fn work(dir: &Path) {
    let mut old = Vec::new();
    let mut file = File::open(dir.join("canary-name-old")).expect("there");
    file.read_to_end(&mut old).expect("read");
    assert!(old == noise(1, OLD_BYTES));
    for number in 0..6 {
        let mut file = File::create(dir.join(format!("canary-name-{number}"))).expect("created");
        let line = format!("canary-content-{number}\n");
        file.write_all(line.repeat(1500).as_bytes())
            .expect("written");
        file.sync_all().expect("synced");
    }
    let mut large = File::create(dir.join("canary-name-large")).expect("created");
    for piece in 0..24 {
        large.write_all(&noise(piece, 1 << 20)).expect("written");
    }
    large.sync_all().expect("synced");
    fs::create_dir(dir.join("canary-name-dir")).expect("made");
    shell(dir, "sync canary-name-dir; ls -l > /dev/null");
}

/// The store refuses, hangs up and is late.
fn outage(store: &LyingStore) {
    let slow_down = || Lie::refuse(503, Form::Code("SlowDown"));
    let internal = || Lie::refuse(500, Form::Code("InternalError"));
    store.lie(Rule::on([Op::Get]).of([Kind::Data]).once(internal()));
    store.lie(Rule::on([Op::Get]).of([Kind::Data]).once(Lie::ResetBefore));
    store.lie(Rule::on([Op::Put]).of([Kind::Data]).times(3, slow_down()));
    store.lie(Rule::on([Op::Put]).of([Kind::Log]).once(Lie::Hang(LATE)));
    store.lie(
        Rule::on([Op::Put])
            .of([Kind::Log])
            .times(2, Lie::ResetBefore),
    );
    store.lie(
        Rule::on([Op::UploadPart])
            .of([Kind::Data])
            .once(slow_down()),
    );
    store.lie(
        Rule::on([Op::UploadPart])
            .of([Kind::Data])
            .once(Lie::ResetBefore),
    );
}

/// Mounts, works, unmounts. Returns the retries, and the recording.
fn recorded_work(site: &Site, file: &Path) -> (u64, Vec<Entry>) {
    let mount = site.mount_with(&["--record", text(file)]);
    work(&mount.dir);
    let status = mount.status();
    mount.unmount();
    assert_eq!(status["recording"]["file"], text(file));
    assert_eq!(status["recording"]["dropped"], 0);
    (
        status["counters"]["retries"].as_u64().expect("a count"),
        har::read(file),
    )
}

/// The first log object waited for the store.
fn assert_late(entries: &[Entry]) {
    let is_log = |entry: &&Entry| (&*entry.operation, &*entry.kind) == ("PutObject", "log");
    let first = entries.iter().find(is_log).expect("a log object");
    let is_late = first.wait_ms >= LATE.as_secs_f64() * 1e3;
    assert!(first.status == 200 && is_late, "{first:?}");
}

/// Nothing that is to stay on this machine is in a recording, nor where the store is.
fn assert_clean(site: &Site, recording: &Path) {
    let bytes = fs::read(recording).expect("a recording");
    let host = site.endpoint.trim_start_matches("http://");
    let (address, _) = host.rsplit_once(':').expect("a port");
    let canaries = [
        "canary-name",
        "canary-content",
        PASSPHRASE,
        ACCESS_KEY,
        SECRET_KEY,
        BUCKET,
        "laptop",
        host,
        address,
        "us-east-1",
        "AWS4-HMAC",
        "Signature",
    ];
    assert_none(&bytes, &canaries, text(recording));
    let mode = fs::metadata(recording).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_recorded_outage_is_met_again_with_the_same_errors_and_the_same_retries() {
    let mut site = Site::start(Transport::Plain);
    prepare(&site);
    let store = LyingStore::before(site.server().local_addr());
    site.endpoint = store.endpoint();
    outage(&store);
    let file = site.path().join("outage.har");
    let (retries, first) = recorded_work(&site, &file);
    assert_clean(&site, &file);
    let failed = har::failures(&first);
    let told: Vec<&str> = failed.values().flatten().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            // GetObject data
            "0 broken",
            "500 InternalError",
            // PutObject data
            "503 SlowDown",
            "503 SlowDown",
            "503 SlowDown",
            // PutObject log
            "0 broken",
            "0 broken",
            // UploadPart data
            "0 broken",
            "503 SlowDown",
        ]
    );
    assert_eq!(retries, told.len() as u64);
    assert_late(&first);
    for entry in &first {
        assert!(entry.url.starts_with("https://store.invalid/"), "{entry:?}");
    }

    // Another volume, in a server that replays; it knows nothing of the first one. Compared are:
    // all failures by operation and kind of object, with status, code and kind of broken
    // connection, as many of each; the number of retries by the mount's own count; and that the
    // late answer is late. Requests that succeed are not compared: how many there are depends on
    // time.
    let mut again = Site::start(Transport::Plain);
    prepare(&again);
    let copied = again.path().join("replayed");
    let (from, to) = (again.path().join("server"), text(&copied));
    tool(again.path(), "cp", &["-a", text(&from), to], &[]);
    let server =
        ServerProcess::start_with(copied.clone(), "127.0.0.1:0", &["--replay", text(&file)]);
    again.endpoint = format!("http://{}", server.address);
    let second_file = again.path().join("again.har");
    let (retries_again, second) = recorded_work(&again, &second_file);
    assert_eq!(har::failures(&second), failed);
    assert_eq!(retries_again, retries);
    assert_late(&second);
    assert_clean(&again, &second_file);
}

#[test]
fn a_recording_of_a_mount_that_was_killed_is_whole_and_is_found() {
    let site = Site::start(Transport::Plain);
    prepare(&site);
    let file = site.path().join("killed.har");
    let options = ["--record", text(&file), "--record-size", "64KiB"];
    let mut mount = site.mount_with(&options);
    work(&mount.dir);
    let status = mount.status();
    let recorded = status["recording"]["recorded"].as_u64().expect("a count");
    assert!(recorded > 20, "{status}");
    let share = &status["memory"]["shares"]["recording"];
    assert_eq!(share["current_bytes"], MEMORY_BYTES);
    mount.kill_process();
    assert!(fs::metadata(&file).expect("there").len() <= 64 << 10);
    let entries = har::read(&file);
    assert!(entries.len() > 20, "{} entries", entries.len());
    assert!(entries.iter().any(|entry| entry.operation == "UploadPart"));
    assert_clean(&site, &file);

    let found = recording::find(&mount.state);
    assert_eq!(found, std::slice::from_ref(&file));
    let mut copy = Vec::new();
    let copied = recording::close(&found[0], &mut copy).expect("copied");
    assert_eq!((copied.entries, copied.torn), (entries.len() as u64, 0));
    assert_eq!(har::parse(&copy).len(), entries.len());
    drop(mount);

    // The next mount keeps it.
    let next = site.mount_with(&options);
    next.unmount();
    let old = PathBuf::from(format!("{}.old", file.display()));
    assert_eq!(har::read(&old).len(), entries.len());
    assert!(!har::read(&file).is_empty());
}

/// A small filesystem in memory, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: PathBuf) -> SmallDisk {
        let disk = SmallDisk(dir);
        tool(
            &disk.0,
            "mount",
            &["-t", "tmpfs", "-o", "size=256k", "none", text(&disk.0)],
            &[],
        );
        disk
    }

    fn grow(&self) {
        tool(
            &self.0,
            "mount",
            &["-o", "remount,size=8m", text(&self.0)],
            &[],
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn synced(mount: &Mount<'_>, name: &str) {
    let mut file = File::create(mount.dir.join(name)).expect("created");
    file.write_all(name.as_bytes()).expect("written");
    file.sync_all().expect("synced");
}

#[test]
fn a_full_disk_costs_entries_which_are_counted_and_nothing_else() {
    let site = Site::start(Transport::Plain);
    let disk = SmallDisk::mount(site.scratch("disk"));
    let file = disk.0.join("full.har");
    let mount = site.mount_with(&["--record", text(&file), "--record-size", "1MiB"]);
    synced(&mount, "while-it-is-full");
    let status = mount.status();
    let recording = &status["recording"];
    assert_eq!(recording["recorded"], 0, "{recording}");
    assert!(
        recording["dropped"].as_u64().expect("a count") > 5,
        "{recording}"
    );
    let trouble = recording["trouble"].as_str().expect("trouble");
    assert!(trouble.contains("no room"), "{trouble}");
    assert!(status["durability"]["trouble"].is_null(), "{status}");
    disk.grow();
    block_until("there is room again", SOON, || {
        synced(&mount, "later");
        let recording = &mount.status()["recording"];
        recording["recorded"].as_u64() > Some(0) && recording["trouble"].is_null()
    });
    mount.unmount();
    assert!(!har::read(&file).is_empty());
    assert_eq!(fs::read_dir(&disk.0).expect("listed").count(), 1);
}
