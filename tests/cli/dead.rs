//! Mounts that do not answer: their process has died, or they are another user's.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{PermissionsExt, chown},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        statvfs::statvfs,
    },
    unistd::Pid,
};
use strongroom::session::Exit;

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::{BINARY, same_environment, succeed, text},
        site::{Site, Transport},
        wait::{SOON, block_until},
    },
};

const NOBODY: u32 = 65534;

/// Kills the process of a mount, and waits until the kernel knows.
pub fn kill_process(mount: &BackgroundMount, pid: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    block_until("the mount is dead", SOON, || {
        statvfs(&mount.dir) == Err(Errno::ENOTCONN)
    });
}

/// The kinds of what is mounted there, the lowest first.
fn kinds_at(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = table.lines().map(|line| line.split(' '));
    fields
        .filter_map(|mut fields| (fields.nth(1) == dir.to_str()).then(|| fields.next()))
        .map(|kind| kind.unwrap().to_owned())
        .collect()
}

/// Something that is mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(dir: &Path) -> Mounted {
        mount(
            Some("none"),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        Mounted(dir.to_owned())
    }

    /// A FUSE mount whose process has gone.
    fn dead(dir: &Path, kind: &str, user: u32) -> Mounted {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id={user},group_id={user}",
            device.as_raw_fd()
        );
        let options = Some(options.as_str());
        mount(Some("none"), dir, Some(kind), MsFlags::empty(), options).unwrap();
        Mounted(dir.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn the_status_of_a_mount_whose_process_was_killed_says_so_and_how_to_clear_it() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "killed");
    mount.mount(&site, &[]);
    kill_process(&mount, mount.pid(&site));
    let (dir, words) = (text(&mount.dir), "the process that served the mount at");
    for options in [&[][..], &["--json"]] {
        assert_refused(
            &mut site
                .strongroom(&[&["status", dir], options].concat())
                .command,
            Exit::NotDurable,
            &[
                words,
                "has died",
                &format!("strongroom umount {dir}"),
                &format!("fusermount3 -u {dir}"),
            ],
        );
    }
    assert_eq!(kinds_at(&mount.dir), ["fuse.strongroom"]);
}

#[test]
fn a_mount_takes_the_place_of_the_one_whose_process_was_killed() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "again");
    mount.mount(&site, &[]);
    let kept = mount.dir.join("kept");
    fs::write(&kept, b"kept").unwrap();
    File::open(&kept).unwrap().sync_all().unwrap();
    // A program that stands in the dead mount is in nobody's way.
    let mut inside = Command::new("sleep")
        .arg("1000")
        .current_dir(&mount.dir)
        .spawn()
        .unwrap();
    kill_process(&mount, mount.pid(&site));
    let output = mount.command(&site, &[]).output().unwrap();
    inside.kill().unwrap();
    inside.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("has died") && said.contains(text(&mount.dir)),
        "{said}"
    );
    assert_eq!(kinds_at(&mount.dir), ["fuse.strongroom"]);
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    mount.umount(&site);
    assert!(kinds_at(&mount.dir).is_empty());
}

#[test]
fn a_mount_takes_nothing_away_but_its_own_dead_one() {
    let site = Site::start(Transport::Plain);
    let living = BackgroundMount::prepare(&site, "living");
    living.mount(&site, &[]);
    fs::write(living.dir.join("file"), b"here").unwrap();
    let in_use = Exit::MountPointInUse;
    assert_refused(&mut living.command(&site, &[]), in_use, &["already"]);
    assert_eq!(fs::read(living.dir.join("file")).unwrap(), b"here");
    living.umount(&site);

    let other = BackgroundMount::prepare(&site, "other");
    type Make = fn(&Path) -> Mounted;
    let makes: [(&str, Make); 4] = [
        ("tmpfs", Mounted::tmpfs),
        ("fuse.other", |dir| Mounted::dead(dir, "fuse.other", 0)),
        ("fuse", |dir| Mounted::dead(dir, "fuse", 0)),
        // Root may not even look whether another user's is dead.
        ("fuse.strongroom", |dir| {
            Mounted::dead(dir, "fuse.strongroom", NOBODY)
        }),
    ];
    for (kind, make) in makes {
        let _mounted = make(&other.dir);
        let output = other.command(&site, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{kind}: {said}");
        assert_eq!(kinds_at(&other.dir), [kind]);
        let umount = site.strongroom(&["umount", text(&other.dir)]).output();
        assert!(!umount.status.success(), "{kind}: {umount:?}");
        assert_eq!(kinds_at(&other.dir), [kind]);
    }
    // A dead one below something that lives is not reached.
    let _dead = Mounted::dead(&other.dir, "fuse.strongroom", 0);
    assert_eq!(statvfs(&other.dir), Err(Errno::ENOTCONN));
    let _above = Mounted::tmpfs(&other.dir);
    assert_refused(&mut other.command(&site, &[]), in_use, &["already"]);
    assert_eq!(kinds_at(&other.dir), ["fuse.strongroom", "tmpfs"]);
}

/// Lets every user open the device, as distributions do, for as long as this lives.
struct OpenDevice(Permissions);

impl OpenDevice {
    fn make() -> OpenDevice {
        let before = fs::metadata("/dev/fuse").unwrap().permissions();
        fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).unwrap();
        OpenDevice(before)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/dev/fuse", self.0.clone());
    }
}

#[test]
fn root_finds_the_process_of_another_users_mount_though_the_kernel_lets_it_not_in() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "theirs");
    // The other user reaches the program and the passphrase.
    fs::set_permissions(site.path(), Permissions::from_mode(0o711)).unwrap();
    let pass = site.path().join("pass");
    let program = site.path().join("strongroom");
    if fs::hard_link(BINARY, &program).is_err() {
        fs::copy(BINARY, &program).unwrap();
    }
    for path in [&pass, &mount.dir, &mount.state] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let as_nobody = |command: &Command| {
        let mut theirs = Command::new(&program);
        theirs.args(command.get_args());
        same_environment(&mut theirs, command);
        theirs.uid(NOBODY).gid(NOBODY);
        theirs
    };
    // The threads of a mount open the device once more, after it is there.
    let _device = OpenDevice::make();
    let mount_as_nobody = || {
        let make = mount.command(&site, &[]);
        succeed(&as_nobody(&make).output().unwrap());
    };
    mount_as_nobody();
    let entered = fs::read_dir(&mount.dir).map(drop).unwrap_err();
    assert_eq!(entered.raw_os_error(), Some(nix::libc::EACCES));
    // Root's own state directory says nothing of it.
    let report = mount.status(&site);
    assert_eq!(report["mount"]["mount_point"], text(&mount.dir));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(text(&mount.dir)));
    let device = line.unwrap().split(' ').nth(2).unwrap();
    assert_eq!(report["mount"]["device"], device);
    // Another user learns whose it is, and nothing else.
    let mut status = site.strongroom(&["status", text(&mount.dir)]).command;
    let mut stranger = Command::new(&program);
    stranger
        .args(status.get_args())
        .uid(NOBODY - 1)
        .gid(NOBODY - 1);
    let theirs = format!("user {NOBODY}'s");
    assert_refused(&mut stranger, Exit::Unexpected, &[&theirs]);

    mount.umount(&site);
    assert!(kinds_at(&mount.dir).is_empty());

    mount_as_nobody();
    let pid = mount.pid(&site);
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    block_until("the process is gone", SOON, || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    let words = [&*format!("user {NOBODY}"), "it has died", "fusermount3 -u"];
    assert_refused(&mut status, Exit::Unexpected, &words);
    // The user whose mount it is gets it out of the way.
    let umount = site.strongroom(&["umount", text(&mount.dir)]).command;
    assert_refused(&mut as_nobody(&umount), Exit::NotDurable, &["had died"]);
}
