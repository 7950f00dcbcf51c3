//! `doctor --bundle`: what goes in, what never does, and where it may be written.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use strongroom::{server::Faults, session::Exit};

use crate::{
    dead::kill_process,
    running::{BackgroundMount, assert_refused, write_secret},
    support::{
        bucket::BUCKET,
        canary::assert_none,
        commands::{said, succeed, text, tool},
        credentials::{ACCESS_KEY, SECRET_KEY},
        har,
        site::{PASSPHRASE, Site, Transport},
        terminal::TerminalProgram,
    },
};

use super::{CHECKS, Examined, doctor};

/// `doctor` for people, of a place, for a mount that every machine has room for.
fn bundle(site: &Site, place: &str, file: &str, options: &[&str]) -> Command {
    let small = ["--memory", "128MiB", "--disk-cache", "off"];
    let words = ["doctor", place, "--bundle", file].into_iter();
    let words: Vec<_> = words.chain(small).chain(options.iter().copied()).collect();
    site.strongroom(&words).command
}

/// The files of a bundle by their names, as tar unpacks them.
fn unpacked(site: &Site, bundle: &Path) -> BTreeMap<String, String> {
    let dir = site.scratch("unpacked");
    tool(&dir, "tar", &["-xf", text(bundle)], &[]);
    let root = dir.join("strongroom-report");
    let files = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().is_file());
    let found = files
        .map(|file| {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
            let name = file.path().strip_prefix(&root).unwrap();
            let contents = fs::read_to_string(file.path()).unwrap();
            (text(name).to_owned(), contents)
        })
        .collect();
    fs::remove_dir_all(dir).unwrap();
    found
}

fn json(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap()
}

/// Writes things with telling names and contents, also while the store refuses requests.
fn work(site: &Site, dir: &Path) {
    let faults = |error_rate| {
        let faults = Faults {
            error_rate,
            ..Faults::default()
        };
        site.server().set_faults(faults).unwrap();
    };
    faults(0.4);
    for number in 0..8 {
        let path = dir.join(format!("canary-name-{number}"));
        fs::write(&path, format!("canary-content-{number}\n").repeat(9000)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    faults(0.0);
}

/// Nothing that is to stay on this machine is in these files.
fn assert_clean(site: &Site, files: &BTreeMap<String, String>, others: &[&str]) {
    let endpoint = site.endpoint.trim_start_matches("http://");
    let (address, _) = endpoint.rsplit_once(':').unwrap();
    let host = nix::unistd::gethostname().unwrap();
    let host = host.to_str().unwrap();
    let mut canaries = vec![
        "canary-",
        PASSPHRASE,
        ACCESS_KEY,
        SECRET_KEY,
        BUCKET,
        "laptop",
        endpoint,
        address,
        text(site.path()),
        site.path().file_name().unwrap().to_str().unwrap(),
    ];
    // A short name is in any text, by chance.
    canaries.extend(Some(host).filter(|host| host.len() > 5));
    canaries.extend(others);
    for (name, contents) in files {
        assert_none(contents.as_bytes(), &canaries, name);
    }
}

#[test]
fn a_bundle_has_all_that_a_mount_says_and_none_of_its_names() {
    let site = Site::start(Transport::Plain);
    let key = site.path().join("key");
    write_secret(&key, (1..=64).collect::<Vec<u8>>());
    let label = ["--new-key-file", text(&key), "--label", "canary-label"];
    let url = site.url();
    let add = [&["key", "add", &url][..], &label].concat();
    succeed(&site.strongroom(&add).with_passphrase(&site).output());
    let mount = BackgroundMount::prepare(&site, "canary-mount");
    let recording = site.path().join("canary-recording.har");
    mount.mount(&site, &["--record", text(&recording)]);
    work(&site, &mount.dir);
    let status = mount.status(&site);
    let volume = status["mount"]["volume"].as_str().unwrap();
    let fingerprint = status["mount"]["fingerprint"].as_str().unwrap();

    let file = site.path().join("report.tar");
    let output = bundle(&site, text(&mount.dir), text(&file), &[]).output();
    let printed = succeed(&output.unwrap());
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = unpacked(&site, &file);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [
        "README.txt",
        "doctor.json",
        "doctor.txt",
        "machine.json",
        "mount-1/log.txt",
        "mount-1/metrics.txt",
        "mount-1/requests.har",
        "mount-1/status.json",
    ];
    assert_eq!(names, expected, "{printed}");
    for name in names {
        assert!(
            printed.contains(&format!("\npacked   {name} ")),
            "{printed}"
        );
        let told = files["README.txt"].contains(&format!("  {name} "));
        assert!(told || name == "README.txt", "{name}");
    }
    assert!(printed.contains("read what is in it before you send it"));
    assert_clean(&site, &files, &[volume, fingerprint]);

    // It is of use all the same.
    let packed = json(&files, "mount-1/status.json");
    assert_eq!(packed["mount"]["url"], "s3://<bucket>/<prefix>");
    assert_eq!(packed["mount"]["pid"], status["mount"]["pid"]);
    assert!(packed["counters"]["retries"].as_u64() > Some(0), "{packed}");
    let metrics = &files["mount-1/metrics.txt"];
    assert!(metrics.ends_with("# EOF\n") && metrics.contains("strongroom_store_retries_total"));
    let log = &files["mount-1/log.txt"];
    assert!(
        log.contains("is mounted on <mount point> (writable"),
        "{log}"
    );
    assert!(log.contains("trying again: "), "{log}");
    assert!(har::parse(files["mount-1/requests.har"].as_bytes()).len() > 20);
    let report = json(&files, "doctor.json");
    assert_eq!(report["checks"].as_array().unwrap().len(), CHECKS.len());
    assert_eq!(report["url"], "s3://<bucket>/<prefix>");
    assert!(files["doctor.txt"].contains("<endpoint> answers as an S3 store does"));
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap();
    assert_eq!(json(&files, "machine.json")["kernel"]["release"], release);
    mount.umount(&site);
}

#[test]
fn the_report_of_a_place_names_no_other_objects_and_no_mount_is_needed() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    site.bucket().put("photos/canary cat.jpg", b"meow".to_vec());
    let file = site.path().join("report.tar");
    let url = format!("s3://{BUCKET}/photos");
    let printed = succeed(&bundle(&site, &url, text(&file), &[]).output().unwrap());
    assert!(printed.contains("canary cat.jpg"), "{printed}");
    assert!(printed.contains("left out status and metrics"), "{printed}");
    let files = unpacked(&site, &file);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = ["README.txt", "doctor.json", "doctor.txt", "machine.json"];
    assert_eq!(names, expected, "{printed}");
    assert!(files["doctor.txt"].contains("such as <name>: 'init' would refuse"));
    assert!(files["README.txt"].contains("there is no such mount"));
    assert_clean(&site, &files, &["cat.jpg", "photos"]);
}

#[test]
fn a_mount_that_has_died_leaves_its_log_and_its_recording() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "canary-mount");
    let recording = site.path().join("canary-recording.har");
    mount.mount(&site, &["--record", text(&recording)]);
    work(&site, &mount.dir);
    kill_process(&mount, mount.pid(&site));
    let file = site.path().join("report.tar");
    let state = ["--state-dir", text(&mount.state)];
    let output = bundle(&site, text(&mount.dir), text(&file), &state).output();
    let printed = succeed(&output.unwrap());
    assert!(
        printed.contains("mount-1: a mount that is dead says nothing"),
        "{printed}"
    );
    let files = unpacked(&site, &file);
    assert!(files["ended-1/log.txt"].contains("is mounted on <mount point>"));
    assert!(har::parse(files["ended-1/requests.har"].as_bytes()).len() > 20);
    assert_clean(&site, &files, &[]);
}

#[test]
fn a_log_that_names_paths_stays_here() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "canary-mount");
    mount.mount(&site, &["--log-paths"]);
    let file = site.path().join("report.tar");
    let output = bundle(&site, text(&mount.dir), text(&file), &[]).output();
    let printed = succeed(&output.unwrap());
    let why = "left out mount-1/log.txt: its lines name paths (--log-paths)";
    assert!(printed.contains(why), "{printed}");
    let files = unpacked(&site, &file);
    assert!(!files.contains_key("mount-1/log.txt"), "{printed}");
    assert!(files["README.txt"].contains("--log-paths"));
    mount.umount(&site);
}

#[test]
fn a_mount_leads_to_its_store() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "leads");
    mount.mount(&site, &[]);
    let mut command = doctor(&site, &[text(&mount.dir)]);
    let examined = Examined::by(command.env_remove("AWS_ENDPOINT_URL_S3"));
    assert_eq!(examined.checks("ok"), CHECKS, "{}", examined.said);
    assert_eq!(examined.report["url"], site.url());
    let told = examined.text("endpoint");
    assert!(told.contains(&site.endpoint), "{told}");
    mount.umount(&site);
}

#[test]
fn a_bundle_goes_to_a_new_file_or_to_standard_output_and_the_code_is_that_of_the_checks() {
    let site = Site::start(Transport::Plain);
    let requests = site.stats().total_requests();
    let (old, lost) = (site.path().join("old.tar"), site.path().join("no/such.tar"));
    fs::write(&old, "dear").unwrap();
    let url = site.url();
    for (file, options, words) in [
        (text(&old), &[][..], ["exists", "does not exist yet"]),
        (text(&lost), &[], ["no/such.tar", "a directory"]),
        ("-", &["--json"], ["--json", "standard output"]),
    ] {
        assert_refused(&mut bundle(&site, &url, file, options), Exit::Usage, &words);
    }
    let mut elsewhere = bundle(&site, text(site.path()), "x.tar", &[]);
    assert_refused(
        &mut elsewhere,
        Exit::NotMounted,
        &["not a Strongroom mount", "s3://"],
    );
    assert_eq!(fs::read_to_string(&old).unwrap(), "dear");
    assert_eq!(site.stats().total_requests(), requests, "nothing was asked");

    let on_terminal = TerminalProgram::start(&mut bundle(&site, &url, "-", &[]), 120, 10);
    on_terminal.wait_for_text("nothing for a terminal");
    let (code, screen) = on_terminal.end();
    assert_eq!(code, 2, "{screen}");

    let mut failing = bundle(&site, &url, "-", &["--timeout", "20s"]);
    failing
        .args(["--state-dir", "/proc/none"])
        .stdin(Stdio::null());
    let Output {
        status,
        stdout,
        stderr,
    } = failing.output().unwrap();
    let lines = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(37), "{lines}");
    assert!(lines.contains("failure  state directory"), "{lines}");
    assert!(lines.contains("bundle   standard output, "), "{lines}");
    let file = site.path().join("new.tar");
    fs::write(&file, stdout).unwrap();
    assert!(unpacked(&site, &file).contains_key("doctor.txt"));
}

#[test]
fn with_json_standard_output_is_one_document() {
    let site = Site::without_volume(Transport::Plain);
    let file = site.path().join("report.tar");
    let url = format!("s3://{BUCKET}/x");
    let mut command = bundle(&site, &url, text(&file), &["--json", "--timeout", "5s"]);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // There is no bucket.
    assert_eq!(report["verdict"], "failure", "{}", said(&output));
    assert_eq!(output.status.code(), Some(37));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("packed   doctor.json "), "{told}");
    let packed = json(&unpacked(&site, &file), "doctor.json");
    assert_eq!(packed["verdict"], "failure");
}
