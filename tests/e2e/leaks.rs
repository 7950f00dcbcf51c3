//! Nothing leaks: what the bucket, the logs, the state directory and the process table show holds
//! no name, no content, no secret.

use std::{fs, path::Path, process::Command};

use crate::support::{
    commands::shell,
    random::noise,
    site::{PASSPHRASE, Site, Transport},
};

const CANARIES: [&str; 6] = [
    "canary-name",
    "canary-content",
    "canary-xattr-key",
    "canary-xattr-value",
    "canary-target",
    PASSPHRASE,
];

/// The first file of a disk cache.
const CACHED: &str = "00000000.frames";

fn assert_clean(bytes: &[u8], place: &str) {
    for canary in CANARIES {
        for form in [
            canary.as_bytes().to_vec(),
            data_encoding::HEXLOWER
                .encode(canary.as_bytes())
                .into_bytes(),
            data_encoding::BASE64_NOPAD
                .encode(&canary.as_bytes()[..9])
                .into_bytes(),
        ] {
            let found = bytes.windows(form.len()).any(|window| window == form);
            assert!(!found, "{canary} shows in {place}");
        }
    }
}

fn assert_directory_clean(dir: &Path, skip: &[&Path]) {
    for entry in walkdir::WalkDir::new(dir)
        .into_iter()
        .filter_map(Result::ok)
    {
        if skip.iter().any(|skipped| entry.path().starts_with(skipped)) {
            continue;
        }
        assert_clean(entry.path().to_string_lossy().as_bytes(), "a file name");
        if entry.file_type().is_file() {
            assert_clean(
                &fs::read(entry.path()).unwrap_or_default(),
                &entry.path().display().to_string(),
            );
        }
    }
}

#[test]
fn no_name_content_or_secret_shows_anywhere_outside_the_mount() {
    let mut site = Site::start(Transport::Plain);
    site.log_level = "trace";
    site.disk_cache = "1GiB";
    let mount = site.mount();
    let script = "mkdir canary-name-dir; for i in $(seq 1 300); do echo canary-content-$i > canary-name-dir/canary-name-$i; done
        (yes canary-content || true) | head -c 20000000 > canary-name-large; ln -s canary-target canary-name-link
        setfattr -n user.canary-xattr-key -v canary-xattr-value canary-name-large; mv canary-name-dir canary-name-moved
        cat canary-name-moved/* > /dev/null; cat canary-name-absent 2>/dev/null || true; rm canary-name-moved/canary-name-1; sync canary-name-large";
    shell(&mount.dir, script);

    let pid = mount.pid();
    assert_clean(
        &fs::read(format!("/proc/{pid}/cmdline")).unwrap(),
        "the command line",
    );
    assert_clean(
        &fs::read(format!("/proc/{pid}/environ")).unwrap(),
        "the environment",
    );
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert!(
        core.split_whitespace().filter(|word| *word == "0").count() == 2,
        "core dumps are not off: {core}"
    );
    // A process that is not dumpable belongs to root in /proc even for its own user, and leaves no
    // core.
    let cores = site.scratch("cores");
    let _ = &cores;
    mount.unmount();

    let again = site.mount();
    shell(
        &again.dir,
        "cat canary-name-large canary-name-moved/* > /dev/null; getfattr -d canary-name-large > /dev/null",
    );
    let pid = again.pid();
    let status = Command::new("kill")
        .args(["-ABRT", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    again.kill();

    for key in site.bucket().keys() {
        assert_clean(key.as_bytes(), "a key");
        assert_clean(&site.bucket().get(&key), &key);
    }
    let cached = walkdir::WalkDir::new(site.path())
        .into_iter()
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().ends_with(CACHED)));
    assert_eq!(
        cached.count(),
        2,
        "each mount has a disk cache to look into"
    );
    let pass = site.path().join("pass");
    assert_directory_clean(site.path(), &[&pass]);
}

#[test]
fn the_bucket_holds_only_objects_that_the_format_describes() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    for index in 0..50 {
        fs::write(mount.dir.join(format!("f{index}")), noise(index, 100_000)).unwrap();
    }
    fs::write(mount.dir.join("large"), noise(1, 40 << 20)).unwrap();
    mount.unmount();
    for key in site.bucket().keys() {
        let key = key
            .strip_prefix("laptop/")
            .expect("everything is below the prefix");
        let header = matches!(key, "strongroom.json" | "strongroom.copy.json");
        let data = key.strip_prefix("data/").is_some_and(|rest| {
            let (session, number) = rest.split_once('/').expect("session and number");
            session.len() == 32
                && number.len() == 16
                && rest
                    .bytes()
                    .all(|byte| byte == b'/' || byte.is_ascii_hexdigit())
        });
        assert!(
            header || data || matches!(key, "lease" | "slots") || key.starts_with("meta/"),
            "{key} is not in docs/format.md"
        );
        if !header {
            let object = site.bucket().get(&format!("laptop/{key}"));
            assert_eq!(&object[..8], b"STRONGRM", "{key} is not sealed");
        }
    }
}
