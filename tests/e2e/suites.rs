//! Suites that others wrote to find out whether a filesystem is one, run on a mount: pjdfstest,
//! fsx, stress-ng.
//!
//! `mount-scripts/test.sh --long` installs them. docs/reliability.md has what came out.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::support::{commands::fsx_configuration, site::Site};

/// A site whose directories every user may enter: some tests run as others than root.
fn open_site() -> Site {
    let site = Site::start(crate::support::site::Transport::Plain);
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    site
}

fn run(command: &mut Command) -> (Output, String) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: see test.sh --long"));
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

/// The configuration of pjdfstest for a Linux filesystem, with users that Debian has.
const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// The outcomes of the cases of pjdfstest.
#[derive(Debug, Default)]
struct Cases {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

fn pjdfstest(site: &Site, dir: &Path, elsewhere: &Path) -> (Cases, String) {
    let config = site.path().join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST).expect("configuration");
    let (_, text) = run(Command::new("pjdfstest")
        .arg("-c")
        .arg(&config)
        .arg("-p")
        .arg(dir)
        .arg("-s")
        .arg(elsewhere));
    let mut cases = Cases::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(outcome), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let set = match outcome {
            "ok" => &mut cases.passed,
            "FAILED" => &mut cases.failed,
            "skipped" => &mut cases.skipped,
            _ => continue,
        };
        set.insert(name.to_owned());
    }
    assert!(text.contains("Summary: "), "{text}");
    (cases, text)
}

/// As many operations of fsx on a file as asked for; it checks each read.
fn fsx(config: &Path, file: &Path, seed: u32, operations: u32) {
    let (output, text) = run(Command::new("fsx")
        .arg("-q")
        .arg("-f")
        .arg(config)
        .args(["-S", &seed.to_string(), "-N", &operations.to_string()])
        .arg(file));
    assert!(output.status.success(), "seed {seed}: {text}");
    assert!(text.contains("All operations completed"), "{text}");
}

/// Each file of `dir` must have the bytes that it had.
fn compare(dir: &Path, left: &[(String, Vec<u8>)]) {
    for (name, contents) in left {
        let found = fs::read(dir.join(name)).expect("read");
        assert!(found == *contents, "{name} changed over a remount");
    }
}

/// fsx leaves the mappings that it makes behind, and all slows down with their number: so it runs
/// often and not for long.
const FSX_OPERATIONS: u32 = 5_000;

/// fsx with `seeds` seeds on each of `mounts` mounts of one volume; each mount begins with a look
/// at all files of those before it, which must have the bytes that they had. Mounts end by an
/// unmount and by SIGKILL in turn, the latter once each file was synced.
fn fsx_over_remounts(mounts: u32, seeds: u32) {
    let site = open_site();
    let config = site.path().join("fsx.toml");
    fs::write(&config, fsx_configuration("0.05")).expect("configuration");
    let mut left: Vec<(String, Vec<u8>)> = Vec::new();
    for number in 0..mounts {
        let mount = site.mount();
        compare(&mount.dir, &left);
        for seed in number * seeds + 1..=(number + 1) * seeds {
            let name = format!("fsx-{seed}");
            let file = mount.dir.join(&name);
            fsx(&config, &file, seed, FSX_OPERATIONS);
            left.push((name, fs::read(&file).expect("read")));
        }
        if number % 2 == 0 {
            mount.unmount();
        } else {
            for (name, _) in &left {
                let file = fs::File::open(mount.dir.join(name)).expect("open");
                file.sync_all().expect("fsync");
            }
            mount.kill();
        }
        println!(
            "fsx: {} seeds of {FSX_OPERATIONS} operations over {} mounts",
            left.len(),
            number + 1
        );
    }
    let mount = site.mount();
    compare(&mount.dir, &left);
    mount.unmount();
}

/// The filesystem class of stress-ng 0.15, but for those that go elsewhere than into the directory
/// that they are given (bind-mount, binderfs, procfs) or use no files in it (dup, eventfd).
const STRESSORS: [&str; 43] = [
    "access",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "fallocate",
    "fanotify",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "io",
    "iomix",
    "ioprio",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "rename",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "verity",
    "xattr",
];

/// So that no stressor needs more of the store's disk than it is worth.
const STRESS_SIZES: [&str; 10] = [
    "--fallocate-bytes",
    "32M",
    "--hdd-bytes",
    "32M",
    "--iomix-bytes",
    "32M",
    "--copy-file-bytes",
    "128M",
    "--sync-file-bytes",
    "32M",
];

mod long {
    use super::*;

    /// Cases that fail here and not on the filesystem below; docs/reliability.md explains each.
    const KNOWN: [&str; 0] = [];

    #[test]
    #[ignore = "needs pjdfstest, as root: test.sh --long"]
    fn pjdfstest_fails_no_case_that_a_local_filesystem_passes() {
        let site = open_site();
        let mount = site.mount_with(&["--allow-other", "-o", "suid,dev"]);
        let local = site.scratch("local");
        let elsewhere = site.scratch("elsewhere");
        for dir in [&local, &elsewhere] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let (there, _) = pjdfstest(&site, &local, &mount.dir);
        let (here, text) = pjdfstest(&site, &mount.dir, &elsewhere);
        for (name, cases) in [("mount", &here), ("local", &there)] {
            println!(
                "{name}: {} passed, {} failed, {} skipped",
                cases.passed.len(),
                cases.failed.len(),
                cases.skipped.len()
            );
        }
        assert!(here.passed.len() > 350, "{text}");
        let failed: Vec<&String> = here.failed.difference(&there.failed).collect();
        assert_eq!(failed, KNOWN, "{text}");
        println!(
            "skipped only here: {:?}",
            here.skipped.difference(&there.skipped)
        );
        mount.unmount();
    }

    #[test]
    #[ignore = "needs fsx, and takes some ten minutes: test.sh --long"]
    fn a_million_operations_of_fsx_find_nothing() {
        fsx_over_remounts(10, 20);
    }

    #[test]
    #[ignore = "needs stress-ng: test.sh --long"]
    fn stress_ng_finds_nothing() {
        let site = open_site();
        let mount = site.mount();
        let work = mount.dir.join("stress");
        fs::create_dir(&work).expect("mkdir");
        let mut failures = Vec::new();
        for stressor in STRESSORS {
            let (output, text) = run(Command::new("stress-ng")
                .args([&format!("--{stressor}"), "1", "--verify", "--timeout", "4"])
                .arg("--temp-path")
                .arg(&work)
                .args(STRESS_SIZES)
                .arg("--no-rand-seed"));
            match output.status.code() {
                Some(0) => {}
                // Not for this machine or this filesystem, by stress-ng's own judgement.
                Some(3 | 4) => println!("{stressor}: not possible here"),
                _ => failures.push(format!("{stressor}: {text}")),
            }
        }
        println!("stress-ng: {} stressors", STRESSORS.len());
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        mount.unmount();
    }
}
