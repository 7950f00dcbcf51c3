//! Bounds on the memory, time and key derivation that a store can cost before anything of it is
//! authenticated.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest, Sha256};
use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::text,
        raw_store::{Answer, RawStore, Request},
        site::{Site, Transport},
    },
};

/// `--memory` of every mount here.
const MEMORY_BYTES: u64 = 128 << 20;
const HEADERS: [&str; 2] = ["laptop/strongroom.json", "laptop/strongroom.copy.json"];

/// `strongroom mount` in the foreground, with 128 MiB.
struct Attempt {
    child: Child,
    began: Instant,
    peak_bytes: u64,
    log: std::path::PathBuf,
}

impl Attempt {
    fn begin(site: &Site, name: &str) -> Attempt {
        let mount = BackgroundMount::prepare(site, name);
        let log = site.path().join(format!("{name}.log"));
        let mut command: Command = mount.command(site, &["--foreground", "--memory", "128MiB"]);
        command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        Attempt {
            child: command.spawn().unwrap(),
            began: Instant::now(),
            peak_bytes: 0,
            log,
        }
    }

    /// Whether it has ended; notes its peak so far.
    fn ended(&mut self) -> Option<i32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let peak = status.unwrap_or_default().lines().find_map(|line| {
            let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
            kib.parse::<u64>().ok()
        });
        self.peak_bytes = self.peak_bytes.max(peak.unwrap_or(0) * 1024);
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Its exit code, if it ends within `limit`; its peak must be below `--memory` all the time.
    fn watch(&mut self, limit: Duration) -> Option<i32> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let ended = self.ended();
            assert!(
                self.peak_bytes < MEMORY_BYTES,
                "{} MiB resident: {}",
                self.peak_bytes >> 20,
                self.said()
            );
            if ended.is_some() {
                eprintln!(
                    "ended after {:.1} s, peak {} MiB: {}",
                    self.began.elapsed().as_secs_f64(),
                    self.peak_bytes >> 20,
                    self.said().lines().last().unwrap_or_default()
                );
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_get_of(request: &Request, what: &str) -> bool {
    request.line().starts_with("GET ") && request.line().contains(what)
}

#[test]
fn answers_without_end_are_refused_within_memory_and_time() {
    let mut site = Site::start(Transport::Plain);
    let store = RawStore::start(Some(&site.endpoint), |_| Answer::Pass);
    site.endpoint = store.url();
    let x = [b'x'; 256 << 10];
    let list = "<?xml version=\"1.0\"?><ListBucketResult>";
    let entries = "<Contents><Key>laptop/meta/wal/1.sst</Key></Contents>".repeat(4000);
    type Rule = Box<dyn FnMut(&Request) -> Answer + Send>;
    let cases: [(&str, Exit, Rule); 4] = [
        (
            "header",
            Exit::Unreachable,
            Box::new(move |request| match is_get_of(request, "strongroom") {
                true => Answer::endless_chunks("404 Not Found", "", &x),
                false => Answer::Pass,
            }),
        ),
        (
            "page",
            Exit::Damaged,
            Box::new(move |request| match is_get_of(request, "list-type=2") {
                true => Answer::endless_chunks("200 OK", list, &x),
                false => Answer::Pass,
            }),
        ),
        (
            "elements",
            Exit::Damaged,
            Box::new(move |request| match is_get_of(request, "list-type=2") {
                true => Answer::endless_chunks("200 OK", list, entries.as_bytes()),
                false => Answer::Pass,
            }),
        ),
        (
            "pages",
            Exit::Damaged,
            Box::new({
                let mut number = 0;
                move |request| match is_get_of(request, "list-type=2") {
                    true => {
                        number += 1;
                        endless_page(request, number)
                    }
                    false => Answer::Pass,
                }
            }),
        ),
    ];
    for (name, exit, rule) in cases {
        store.set_rule(rule);
        let mut attempt = Attempt::begin(&site, name);
        let code = attempt.watch(Duration::from_secs(90));
        let said = attempt.said();
        assert_eq!(code, Some(i32::from(exit.code())), "{name}: {said}");
    }
    // The store is honest again, and nothing stayed behind.
    store.set_rule(|_| Answer::Pass);
    let mount = BackgroundMount::prepare(&site, "after");
    mount.mount(&site, &["--takeover"]);
    mount.umount(&site);
}

/// A page of 1,000 keys that come after all that were listed before.
fn endless_page(request: &Request, number: u64) -> Answer {
    let prefix = request
        .line()
        .split(['?', '&', ' '])
        .find_map(|field| field.strip_prefix("prefix="))
        .unwrap_or_default()
        .replace("%2F", "/");
    let lines: String = (0..1000)
        .map(|i| {
            format!(
                "<Contents><Key>{prefix}{number:08}{i:012}.sst</Key><Size>400</Size><ETag>\"x\"</ETag>\
                 <LastModified>2026-11-21T15:57:05.000Z</LastModified></Contents>"
            )
        })
        .collect();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>t{number}</NextContinuationToken>{lines}</ListBucketResult>"
    );
    Answer::whole("200 OK", "", body.as_bytes())
}

#[test]
fn the_servers_log_holds_no_signature_at_any_level() {
    let site = Site::start(Transport::Plain);
    let serve = |level: &str| {
        let dir = site.scratch("served");
        let mut command = site
            .strongroom(&["serve", text(&dir), "--listen", "127.0.0.1:0"])
            .command;
        command.args(["--log-level", level]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for level in ["debug", "s3s=trace"] {
        let mut server = serve(level);
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let endpoint = line.strip_prefix("listening on ").unwrap();
        let mut info = site.strongroom(&["info", "s3://vault/laptop"]).command;
        info.env("AWS_ENDPOINT_URL_S3", endpoint)
            .env("AWS_SECRET_ACCESS_KEY", "another secret");
        assert_refused(&mut info, Exit::BadCredentials, &["credentials"]);
        kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
        let output = server.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("SignatureDoesNotMatch"), "it logs: {log}");
        for secret in ["signature=", "authorization", "expected="] {
            assert!(!log.to_lowercase().contains(secret), "{level}: {log}");
        }
    }
}

#[test]
fn a_reader_of_broken_bodies_asks_less_and_less_often() {
    let mut site = Site::start(Transport::Plain);
    let store = RawStore::start(Some(&site.endpoint), |_| Answer::Pass);
    site.endpoint = store.url();
    let contents: Vec<u8> = (0..4_u32 << 20).map(|i| (i / 7) as u8).collect();
    let mount = BackgroundMount::prepare(&site, "reader");
    // Without a local disk, so that each read is a request.
    let options = ["--memory", "128MiB", "--disk-cache", "off"];
    mount.mount(&site, &options);
    fs::write(mount.dir.join("file"), &contents).unwrap();
    mount.umount(&site);

    let stored_len = stored_lens(&site).into_iter().max().unwrap();
    mount.mount(&site, &options);
    for (what, body) in [("empty", &b""[..]), ("a byte", b"x")] {
        store.set_rule(
            move |request| match (is_get_of(request, "/data/"), request.range()) {
                (true, Some((first, last))) => {
                    let head = format!(
                        "HTTP/1.1 206 P\r\nETag: \"x\"\r\nContent-Length: {}\r\n\
                     Content-Range: bytes {first}-{last}/{}\r\n\r\n",
                        last - first + 1,
                        stored_len
                    );
                    Answer::Say([head.as_bytes(), body].concat())
                }
                _ => Answer::Pass,
            },
        );
        let before = store.answered();
        let file = mount.dir.join("file");
        let reader = std::thread::spawn(move || fs::read(file));
        std::thread::sleep(Duration::from_secs(4));
        let asked = store.answered() - before;
        let retries = mount.status(&site)["counters"]["retries"].as_u64().unwrap();
        assert!((4..100).contains(&asked), "{what}: {asked} requests in 4 s");
        assert!(retries >= asked / 2, "{what}: {retries} retries counted");
        store.set_rule(|_| Answer::Pass);
        assert!(reader.join().unwrap().unwrap() == contents, "{what}");
        // The page cache must not answer the next one.
        let _ = fs::write("/proc/sys/vm/drop_caches", "1");
        mount.umount(&site);
        mount.mount(&site, &options);
    }
    mount.umount(&site);
}

/// Lengths of all data objects.
fn stored_lens(site: &Site) -> Vec<usize> {
    let bucket = site.bucket();
    let keys = bucket.keys();
    let data = keys.iter().filter(|key| key.contains("/data/"));
    data.map(|key| bucket.get(key).len()).collect()
}

/// The header with these slots' parameters, each with the id, salt and wrapped key of its own, and
/// with the checksum that belongs to it.
fn forge(site: &Site, slots: u32, passes: u32, memory_kib: u32) {
    let mut json: serde_json::Value =
        serde_json::from_slice(&site.bucket().get(HEADERS[0])).unwrap();
    let hex = |value: &serde_json::Value| {
        let text = value.as_str().unwrap();
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    };
    let first = json["slots"][0].clone();
    let forged = (1..=slots).map(|id| {
        let mut slot = first.clone();
        slot["id"] = id.into();
        slot["salt"] = format!("{id:032x}").into();
        slot["argon2id"] =
            serde_json::json!({"passes": passes, "memory_kib": memory_kib, "lanes": 4});
        slot
    });
    json["slots"] = forged.collect::<Vec<_>>().into();
    let volume = hex(&json["volume"]);
    let mut canonical = b"strongroom/1/header".to_vec();
    canonical.extend(json["format"].as_u64().unwrap().to_be_bytes());
    canonical.extend(&volume);
    canonical.extend(json["revision"].as_u64().unwrap().to_be_bytes());
    let epochs = json["epochs"].as_array().unwrap();
    canonical.extend((epochs.len() as u64).to_be_bytes());
    for epoch in epochs {
        canonical.extend((epoch["epoch"].as_u64().unwrap() as u32).to_be_bytes());
        canonical.extend(hex(&epoch["wrapped"]));
    }
    canonical.extend(u64::from(slots).to_be_bytes());
    for slot in json["slots"].as_array().unwrap() {
        let salt = hex(&slot["salt"]);
        canonical.extend(b"strongroom/1/slot");
        canonical.extend(&volume);
        canonical.extend((slot["id"].as_u64().unwrap() as u32).to_be_bytes());
        canonical.push(1);
        for number in [passes, memory_kib, 4, salt.len() as u32] {
            canonical.extend(number.to_be_bytes());
        }
        canonical.extend(&salt);
        canonical.extend(hex(&slot["wrapped"]));
    }
    let digest = Sha256::new()
        .chain_update(canonical)
        .chain_update(hex(&json["mac"]))
        .finalize();
    json["checksum"] = data_encoding::HEXLOWER.encode(&digest).into();
    for key in HEADERS {
        site.bucket().put(key, serde_json::to_vec(&json).unwrap());
    }
}

#[test]
fn derivation_is_bounded_for_each_slot_and_for_all_together() {
    let site = Site::start(Transport::Plain);
    let refuse = |exit, words: &[&str]| {
        let mount = BackgroundMount::prepare(&site, "refused");
        let began = Instant::now();
        let mut command = mount.command(&site, &["--foreground", "--memory", "128MiB"]);
        assert_refused(&mut command, exit, words);
        assert!(began.elapsed() < Duration::from_secs(20), "{words:?}");
    };
    // Such metadata used to take more than four minutes and 1,050 MiB.
    forge(&site, 1, 64, 1 << 20);
    refuse(
        Exit::DamagedHeader,
        &["passes times memory must be at most 1 GiB"],
    );
    forge(&site, 32, 2, 512 << 10);
    refuse(Exit::DamagedHeader, &["more key derivation than 32 slots"]);
    // Within these bounds, but not within --memory.
    forge(&site, 6, 2, 512 << 10);
    refuse(
        Exit::MemoryTooSmall,
        &["key slot", "takes 512 MiB", "more of --memory"],
    );
}

#[test]
fn deriving_for_many_slots_keeps_to_memory_and_can_be_interrupted() {
    let site = Site::start(Transport::Plain);
    forge(&site, 32, 3, 64 << 10);
    let mut attempt = Attempt::begin(&site, "interrupted");
    // Its 64 MiB show when the derivation has begun.
    while attempt.peak_bytes < 64 << 20 {
        assert_eq!(attempt.watch(Duration::from_millis(50)), None);
    }
    kill(Pid::from_raw(attempt.child.id() as i32), Signal::SIGINT).unwrap();
    let interrupted = Instant::now();
    let code = attempt.watch(Duration::from_secs(30));
    assert_eq!(code, Some(i32::from(Exit::Interrupted.code())));
    assert!(
        interrupted.elapsed() < Duration::from_secs(10),
        "{:?}",
        interrupted.elapsed()
    );
}

#[test]
fn a_volume_with_several_passphrases_opens_in_the_least_memory() {
    let site = Site::start(Transport::Plain);
    for number in 0..3 {
        let file = site.path().join(format!("new{number}"));
        fs::write(&file, format!("another {number}")).unwrap();
        let add = site.strongroom(&[
            "key",
            "add",
            &site.url(),
            "--new-passphrase-file",
            text(&file),
        ]);
        assert!(add.with_passphrase(&site).output().status.success());
    }
    // The last one: all slots are derived before its own.
    fs::copy(site.path().join("new2"), site.path().join("pass")).unwrap();
    let mut attempt = Attempt::begin(&site, "mounted");
    let began = Instant::now();
    while !attempt.said().contains("is mounted on") {
        assert_eq!(
            attempt.watch(Duration::from_millis(20)),
            None,
            "{}",
            attempt.said()
        );
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            attempt.said()
        );
    }
    kill(Pid::from_raw(attempt.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(
        attempt.watch(Duration::from_secs(60)),
        Some(0),
        "{}",
        attempt.said()
    );
}
