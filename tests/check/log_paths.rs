//! Log lines name files by inode, which `which` takes; paths only under `--log-paths`; contents
//! never. And `check` reads what `fsck` does not.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{
    copies::{command, mount, site},
    support::{
        commands::{said, succeed},
        site::Site,
    },
};

const DIRECTORY: &str = "canary-directory";
const NAME: &str = "canary-name";
const CONTENT: &str = "canary-content";

/// A file whose object does not authenticate.
fn damaged_volume() -> Site {
    let mut site = site();
    site.log_level = "trace";
    let mounted = mount(&site, &site.url(), &[]);
    fs::create_dir(mounted.dir.join(DIRECTORY)).unwrap();
    let contents = CONTENT.repeat(50_000);
    fs::write(mounted.dir.join(DIRECTORY).join(NAME), contents).unwrap();
    mounted.unmount();
    let keys = site.bucket().keys();
    let key = keys.iter().find(|key| key.contains("/data/")).unwrap();
    let mut object = site.bucket().get(key);
    let middle = object.len() / 2;
    object[middle] ^= 1;
    site.bucket().put(key, object);
    site
}

/// Reads the file in vain; returns its inode number, the log, and the path that `which` gives.
fn log_of_a_failed_read(site: &Site, options: &[&str]) -> (u64, String, String) {
    let mounted = mount(site, &site.url(), options);
    let path = mounted.dir.join(DIRECTORY).join(NAME);
    let ino = fs::metadata(&path).unwrap().ino();
    let error = fs::read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    let target = format!("ino:{ino}");
    let dir = mounted.dir.to_str().unwrap();
    let output = site.strongroom(&["which", dir, &target]).output();
    let found = succeed(&output);
    let log = mounted.log.clone();
    mounted.unmount();
    (ino, fs::read_to_string(log).unwrap(), found)
}

/// The lines about failures: the log has everything.
fn errors(log: &str) -> String {
    let lines = log.lines().filter(|line| line.contains("ERROR"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_log_line_names_the_inode_and_the_path_only_if_that_was_asked_for() {
    let site = damaged_volume();
    let (ino, log, found) = log_of_a_failed_read(&site, &[]);
    let line = format!("read{{ino:{ino} fh=");
    assert!(log.contains(&line), "{}", errors(&log));
    for canary in [DIRECTORY, NAME, CONTENT] {
        assert!(!log.contains(canary), "{canary} shows in the log");
    }
    assert!(
        found.contains(&format!("/{DIRECTORY}/{NAME}: file, ino:{ino}")),
        "{found}"
    );

    for option in [&["--log-paths"][..], &["-o", "log-paths"]] {
        let (ino, log, _) = log_of_a_failed_read(&site, option);
        let named = format!("read{{ino:{ino} \"/{DIRECTORY}/{NAME}\" fh=");
        assert!(log.contains(&named), "{}", errors(&log));
        assert!(!log.contains(CONTENT), "contents show in the log");
    }
}

#[test]
fn check_opens_each_frame_and_fsck_alone_does_not() {
    let site = damaged_volume();
    for (name, options, code) in [
        ("fsck", &[][..], 0),
        ("check", &[], 4),
        ("check", &["--json", "--quiet"], 4),
        ("fsck", &["--data"], 4),
    ] {
        let output = command(&site, name, &site.url(), options);
        let said = said(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{name} {options:?}: {said}"
        );
        let is_named = said.contains(&format!("/{DIRECTORY}/{NAME}"));
        assert_eq!(is_named, code == 4, "{said}");
    }
    let wrong = command(&site, "check", &site.url(), &["--no-such-option"]);
    assert_eq!(wrong.status.code(), Some(16), "{}", said(&wrong));
}
