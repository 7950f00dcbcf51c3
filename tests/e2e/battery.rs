//! The battery: each backup tool does its whole round on the mount, then the volume is unmounted,
//! mounted as from another machine, and everything in it must be equal.

use std::{fs, path::Path};

use crate::support::{
    commands::{shell, tool},
    mount::Mount,
    random::noise,
    site::{Site, Transport},
    tree::{assert_same, mixed, odd, snapshot},
};

/// Unmounts, mounts with an empty state directory, and compares all content, modes, owners, times,
/// xattrs and links.
fn remount<'a>(site: &'a Site, mount: Mount<'a>, what: &str) -> Mount<'a> {
    let before = snapshot(&mount.dir);
    let peak = mount.memory_bytes("VmHWM");
    eprintln!("   peak RSS {} MiB", peak >> 20);
    if let Some(limit) = site.rss_limit_bytes() {
        assert!(peak < limit, "{what}: peak RSS {peak}");
    }
    mount.unmount();
    let mount = site.mount();
    assert_same(&before, &snapshot(&mount.dir), what);
    mount
}

fn restic(site: &Site, mnt: &Path, mib: u64) {
    let source = site.scratch("restic-source");
    mixed(&source, mib);
    let pass = site.path().join("pass");
    let repo = mnt.join("restic");
    let run = |args: &[&str]| {
        let mut all = vec![
            "-r",
            repo.to_str().unwrap(),
            "--no-cache",
            "--quiet",
            "--password-file",
            pass.to_str().unwrap(),
        ];
        all.extend(args);
        tool(site.path(), "restic", &all, &[])
    };
    run(&["init"]);
    run(&["backup", "restic-source"]);
    run(&["check", "--read-data"]);
    let out = site.scratch("restic-restore");
    run(&["restore", "latest", "--target", out.to_str().unwrap()]);
    tool(
        site.path(),
        "diff",
        &["-r", "restic-source", "restic-restore/restic-source"],
        &[],
    );
    fs::write(source.join("second"), noise(99, 5 << 20)).unwrap();
    fs::remove_dir_all(source.join("docs/07")).unwrap();
    run(&["backup", "restic-source"]);
    run(&["forget", "--keep-last", "1", "--prune"]);
    run(&["check"]);
    fs::remove_dir_all(&out).unwrap();
}

fn borg(site: &Site, mnt: &Path) {
    let home = site.scratch("borg-home");
    let env = [
        ("BORG_PASSPHRASE", "borg"),
        ("BORG_BASE_DIR", home.to_str().unwrap()),
        ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes"),
    ];
    let repo = mnt.join("borg");
    let repo = repo.to_str().unwrap();
    let archive = format!("{repo}::first");
    tool(
        site.path(),
        "borg",
        &["init", "--encryption=repokey", repo],
        &env,
    );
    tool(
        site.path(),
        "borg",
        &["create", &archive, "restic-source"],
        &env,
    );
    tool(site.path(), "borg", &["check", "--verify-data", repo], &env);
    let out = site.scratch("borg-restore");
    tool(&out, "borg", &["extract", &archive], &env);
    tool(
        site.path(),
        "diff",
        &["-r", "restic-source", "borg-restore/restic-source"],
        &[],
    );
    fs::remove_dir_all(&out).unwrap();
}

fn rsync(site: &Site, mnt: &Path) {
    let source = site.scratch("odd");
    odd(&source);
    let to = mnt.join("rsync");
    fs::create_dir(&to).unwrap();
    tool(
        &source,
        "rsync",
        &["-aHAX", "-S", "./", to.to_str().unwrap()],
        &[],
    );
    let differences = tool(
        &source,
        "rsync",
        &["-aHAXn", "--itemize-changes", "./", to.to_str().unwrap()],
        &[],
    );
    assert_eq!(differences, "", "the second rsync finds differences");
    let used = shell(&to, "du -k sparse | cut -f1");
    assert!(
        used.trim().parse::<u64>().unwrap() < 1024,
        "the sparse file takes {used} KiB"
    );
}

fn tar(site: &Site, mnt: &Path) {
    let archive = mnt.join("archive.tar");
    let archive = archive.to_str().unwrap();
    tool(
        site.path(),
        "tar",
        &[
            "--xattrs",
            "--acls",
            "--sparse",
            "-cf",
            archive,
            "-C",
            "odd",
            "--exclude=./hole-only",
            ".",
        ],
        &[],
    );
    let out = mnt.join("untar");
    fs::create_dir(&out).unwrap();
    tool(
        &out,
        "tar",
        &[
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--same-owner",
            "-xpf",
            archive,
        ],
        &[],
    );
    let differences = tool(&out, "tar", &["-df", archive], &[]);
    assert_eq!(differences, "", "tar d finds differences");
}

fn git(site: &Site, mnt: &Path) {
    let origin = site.scratch("git-origin");
    shell(
        &origin,
        "git init -q . && git config user.name t && git config user.email t@t.invalid
         for i in $(seq 1 60); do mkdir -p d$((i % 7)); seq $i $((i + 400)) > d$((i % 7))/f$i; git add -A; git commit -qm \"c$i\"; done",
    );
    let clone = mnt.join("clone");
    tool(
        site.path(),
        "git",
        &[
            "clone",
            "-q",
            "--no-local",
            origin.to_str().unwrap(),
            clone.to_str().unwrap(),
        ],
        &[],
    );
    tool(&clone, "git", &["fsck", "--full", "--strict"], &[]);
    shell(
        &clone,
        "git config user.name t; git config user.email t@t.invalid; git switch -qc side; for i in 1 2 3; do echo $i > n$i; git add -A; git commit -qm n$i; done
         git gc -q --prune=now; git fsck --full; git status --porcelain | wc -l | grep -qx 0",
    );
}

fn sqlite(site: &Site, mnt: &Path) {
    let dir = mnt.join("sqlite");
    fs::create_dir(&dir).unwrap();
    for mode in ["wal", "delete"] {
        let script = format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) INSERT INTO t SELECT i, randomblob(700) FROM n;
             UPDATE t SET v=randomblob(900) WHERE id%7=0; DELETE FROM t WHERE id%11=0; BEGIN; INSERT INTO t(v) VALUES(zeroblob(2000000)); ROLLBACK; VACUUM;"
        );
        tool(&dir, "sqlite3", &[&format!("{mode}.db"), &script], &[]);
        let check = tool(
            &dir,
            "sqlite3",
            &[
                &format!("{mode}.db"),
                "PRAGMA integrity_check; SELECT count(*) FROM t;",
            ],
            &[],
        );
        assert_eq!(check, "ok\n2728\n", "{mode}");
    }
    let _ = site;
}

fn large(site: &Site, mnt: &Path) {
    shell(
        mnt,
        "head -c 1073741824 /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 0 | tee >(sha256sum > ../sum1) | dd of=large bs=1M iflag=fullblock conv=fsync status=none
         dd if=large bs=1M status=none | sha256sum > ../sum2; cmp ../sum1 ../sum2",
    );
    let _ = site;
}

fn copy_and_move(site: &Site, mnt: &Path) {
    shell(
        mnt,
        "mkdir many; for i in $(seq 1 2000); do echo $i > many/f$i; done
         cp -a many copy; diff -r many copy
         mv many moved; test ! -e many; test $(ls moved | wc -l) = 2000
         rm -rf copy; test ! -e copy",
    );
    let _ = site;
}

/// Works on the mount with one tool.
type Step = fn(&Site, &Path);

pub fn whole_battery(site: &Site) {
    let restic_300: Step = |site, mnt| restic(site, mnt, 300);
    let steps: [(&str, Step); 8] = [
        ("restic", restic_300),
        ("borg", borg),
        ("rsync", rsync),
        ("tar", tar),
        ("git", git),
        ("sqlite", sqlite),
        ("dd", large),
        ("cp, mv, rm", copy_and_move),
    ];
    work_through(site, &steps);
}

/// For a store that is slow and keeps everything in memory.
pub fn small_battery(site: &Site) {
    let restic_40: Step = |site, mnt| restic(site, mnt, 40);
    let steps: [(&str, Step); 5] = [
        ("restic", restic_40),
        ("rsync", rsync),
        ("tar", tar),
        ("git", git),
        ("sqlite", sqlite),
    ];
    work_through(site, &steps);
}

fn work_through(site: &Site, steps: &[(&str, Step)]) {
    let mut mount = site.mount();
    for (name, step) in steps {
        eprintln!("== {name}");
        step(site, &mount.dir);
        mount = remount(site, mount, name);
    }
    mount.unmount();
}

#[test]
fn backup_tools_and_a_second_machine_find_everything_equal() {
    whole_battery(&Site::start(Transport::Plain));
}

#[test]
fn backup_tools_and_a_second_machine_find_everything_equal_over_tls() {
    whole_battery(&Site::start(Transport::Tls));
}
