//! The same through the kernel: a real FUSE mount inside this process. Needs root and /dev/fuse.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    mount_for_all,
    support::{opened::MountedVolume, volume::TestVolume, wait::eventually},
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, FallocateFlags, RenameFlags, fallocate, renameat2},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat},
        time::TimeSpec,
    },
    unistd::{Whence, linkat, lseek64},
};
use strongroom::{
    fs::{Durability, FsConfig},
    fuse::{MountError, MountOptions, mount},
};

/// Runs a shell command; its output, if it succeeded.
fn sh(script: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(script).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The same as another user, who may enter only a mount with `allow_other`.
fn sh_as_nobody(script: &str) -> String {
    let output = Command::new("sh")
        .arg("-ec")
        .arg(script)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_keeps_what_was_written_for_the_next_mount() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let contents: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    fs::create_dir_all(at.path("a/b/c")).unwrap();
    fs::write(at.path("a/b/c/file"), &contents).unwrap();
    symlink("b/c/file", at.path("a/link")).unwrap();
    assert!(fs::read(at.path("a/link")).unwrap() == contents);
    at.unmount().await;
    let at = world.mount().await;
    assert!(fs::read(at.path("a/link")).unwrap() == contents);
    assert_eq!(
        fs::read_link(at.path("a/link")).unwrap(),
        Path::new("b/c/file")
    );
    fs::remove_dir_all(at.path("a")).unwrap();
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_exact_to_the_nanosecond_on_both_sides_of_1970() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let times = [
        (-2, 123_456_789),
        (-1, 999_999_999),
        (-2_208_988_800, 1),
        (0, 0),
        (0, 1),
        (1_700_000_000, 987_654_321),
        (1 << 33, 5),
    ];
    for (number, (seconds, nanos)) in times.into_iter().enumerate() {
        let path = at.path(&format!("f{number}"));
        fs::write(&path, b"x").unwrap();
        let (atime, mtime) = (TimeSpec::new(seconds, nanos), TimeSpec::new(seconds, nanos));
        utimensat(
            AT_FDCWD,
            &path,
            &atime,
            &mtime,
            UtimensatFlags::FollowSymlink,
        )
        .unwrap();
    }
    sh(&format!(
        "touch -d '1969-12-31 23:59:58.123456789Z' {}",
        at.path("touched").display()
    ));
    let check = |at: &MountedVolume| {
        for (number, (seconds, nanos)) in times.into_iter().enumerate() {
            let found = fs::metadata(at.path(&format!("f{number}"))).unwrap();
            assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanos));
            assert_eq!((found.atime(), found.atime_nsec()), (seconds, nanos));
        }
        let touched = fs::metadata(at.path("touched")).unwrap();
        assert_eq!((touched.mtime(), touched.mtime_nsec()), (-2, 123_456_789));
    };
    world.holds_over_a_remount(at, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_open_file_and_a_removed_working_directory_go_on() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(at.path("f"))
        .unwrap();
    file.write_all(b"still ").unwrap();
    fs::remove_file(at.path("f")).unwrap();
    file.write_all(b"here").unwrap();
    let ino = file.metadata().unwrap().ino();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut contents = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut contents).unwrap();
    assert_eq!(contents, "still here");
    drop(file);
    eventually("the removed file is deleted", async || {
        at.opened
            .meta
            .inode(strongroom::meta::Ino(ino))
            .await
            .unwrap()
            .is_none()
    })
    .await;
    let said = sh(&format!(
        "mkdir {0}/d && cd {0}/d && rmdir {0}/d && ls -a && stat -c %h .",
        at.root().display()
    ));
    assert_eq!(said.lines().last(), Some("0"));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_stay_holes() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let file = File::create_new(at.path("sparse")).unwrap();
    file.write_at(b"end", 100 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(file.metadata().unwrap().blocks() < 1024);
    assert_eq!(lseek64(&file, 0, Whence::SeekData).unwrap() % 4096, 0);
    assert_eq!(lseek64(&file, 0, Whence::SeekHole).unwrap(), 0);
    file.write_at(&[1; 65_536], 0).unwrap();
    fallocate(
        &file,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        4096,
        8192,
    )
    .unwrap();
    let contents = fs::read(at.path("sparse")).unwrap();
    assert_eq!(contents.len(), (100 << 20) + 3);
    assert!(
        contents[4096..12_288].iter().all(|byte| *byte == 0)
            && contents[12_288] == 1
            && contents.ends_with(b"end")
    );
    fallocate(&file, FallocateFlags::empty(), 0, 101 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 101 << 20);
    assert_eq!(
        fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
        Err(Errno::EOPNOTSUPP)
    );
    drop(file);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mapped_files_are_written_and_read() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let path = at.path("mapped");
    fs::write(&path, vec![b'a'; 10_000]).unwrap();
    let script = "
import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[5000:5003] = b'xyz'
    m.flush()
    m[0:1] = b'Z'
    m.close()
";
    let status = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    drop(file);
    at.unmount().await;
    let at = world.mount().await;
    let contents = fs::read(at.path("mapped")).unwrap();
    assert_eq!(
        (&contents[5000..5003], contents[0], contents.len()),
        (&b"xyz"[..], b'Z', 10_000)
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_through_two_descriptors_do_not_overwrite_each_other() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(at.path("log"))
            .unwrap()
    };
    let (mut one, mut other) = (open(), open());
    for number in 0..50 {
        one.write_all(format!("one {number}\n").as_bytes()).unwrap();
        other
            .write_all(format!("other {number}\n").as_bytes())
            .unwrap();
    }
    assert_eq!(
        fs::read_to_string(at.path("log")).unwrap().lines().count(),
        100
    );
    drop((one, other));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rename_is_atomic_and_takes_directories_along() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::create_dir(at.path("d")).unwrap();
    for number in 0..2000 {
        File::create_new(at.path(&format!("d/{number}"))).unwrap();
    }
    fs::rename(at.path("d"), at.path("e")).unwrap();
    assert_eq!(fs::read_dir(at.path("e")).unwrap().count(), 2000);
    fs::write(at.path("a"), b"a").unwrap();
    fs::write(at.path("b"), b"b").unwrap();
    let rename = |from: &str, to: &str, flags| {
        renameat2(AT_FDCWD, &at.path(from), AT_FDCWD, &at.path(to), flags)
    };
    assert_eq!(
        rename("a", "b", RenameFlags::RENAME_NOREPLACE),
        Err(Errno::EEXIST)
    );
    rename("a", "b", RenameFlags::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read(at.path("a")).unwrap(), b"b");
    fs::rename(at.path("a"), at.path("b")).unwrap();
    assert_eq!(fs::read(at.path("b")).unwrap(), b"b");
    assert!(!at.path("a").exists());
    assert_eq!(
        fs::rename(at.path("e"), at.path("e/0/x"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOTDIR)
    );
    fs::create_dir(at.path("e/sub")).unwrap();
    assert_eq!(
        fs::rename(at.path("e"), at.path("e/sub/x"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EINVAL)
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_directories_are_listed_whole_with_attributes() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::create_dir(at.path("big")).unwrap();
    let names: BTreeSet<String> = (0..3000)
        .map(|number| format!("entry with a name of some length {number}"))
        .collect();
    for name in &names {
        fs::write(at.path("big").join(name), name.as_bytes()).unwrap();
    }
    at.unmount().await;
    let at = world.mount().await;
    for _ in 0..2 {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(at.path("big")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(entry.metadata().unwrap().len(), name.len() as u64);
            assert!(found.insert(name));
        }
        assert!(found == names);
    }
    fs::remove_dir_all(at.path("big")).unwrap();
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_hard_links_and_special_files_survive_a_mount() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let odd: [&[u8]; 3] = [&[0xff; 255], b"new\nline", b"\xc3\x28"];
    for name in odd {
        fs::write(at.root().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let too_long = at.root().join(OsStr::from_bytes(&[b'x'; 256]));
    assert_eq!(
        fs::write(too_long, b"").unwrap_err().raw_os_error(),
        Some(libc::ENAMETOOLONG)
    );
    fs::write(at.path("a"), b"linked").unwrap();
    fs::hard_link(at.path("a"), at.path("b")).unwrap();
    mknod(
        &at.path("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 300),
    )
    .unwrap();
    nix::unistd::mkfifo(&at.path("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at.path("socket")).unwrap());
    at.unmount().await;
    let at = world.mount().await;
    for name in odd {
        assert_eq!(
            fs::read(at.root().join(OsStr::from_bytes(name))).unwrap(),
            name
        );
    }
    let (a, b) = (
        fs::metadata(at.path("a")).unwrap(),
        fs::metadata(at.path("b")).unwrap(),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(
        fs::metadata(at.path("null")).unwrap().rdev(),
        makedev(1, 300)
    );
    assert!(fs::metadata(at.path("fifo")).unwrap().file_type().is_fifo());
    assert!(
        fs::metadata(at.path("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_attributes_and_access_lists_work_with_their_tools() {
    let world = TestVolume::new().await;
    let at = mount_for_all(&world, 0o755).await;
    let dir = at.root().display().to_string();
    sh(&format!(
        "cd {dir}; echo x >f; chmod 600 f; setfattr -n user.color -v blue f; setfattr -n trusted.t -v 1 f"
    ));
    assert!(
        sh(&format!("getfattr -d -m - --absolute-names {dir}/f")).contains("user.color=\"blue\"")
    );
    assert!(!sh_as_nobody(&format!("getfattr -m - --absolute-names {dir}/f")).contains("trusted"));
    assert!(
        Command::new("cat")
            .arg(at.path("f"))
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
            .stdout
            .is_empty()
    );
    sh(&format!("setfacl -m u:nobody:r {dir}/f"));
    assert_eq!(sh_as_nobody(&format!("cat {dir}/f")), "x\n");
    assert_eq!(fs::metadata(at.path("f")).unwrap().mode() & 0o777, 0o640);
    sh(&format!("chmod 600 {dir}/f"));
    assert!(
        sh(&format!("getfacl -c --absolute-names {dir}/f"))
            .contains("user:nobody:r--\t#effective:---")
    );
    assert!(
        Command::new("cat")
            .arg(at.path("f"))
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
            .stdout
            .is_empty()
    );
    sh(&format!(
        "setfacl -b {dir}/f; mkdir {dir}/d; setfacl -d -m u:nobody:rwx {dir}/d; umask 077; echo y >{dir}/d/g; mkdir {dir}/d/e"
    ));
    assert!(!sh(&format!("getfattr -m - --absolute-names {dir}/f")).contains("posix_acl"));
    assert_eq!(
        sh_as_nobody(&format!("echo z >>{dir}/d/g; cat {dir}/d/g")),
        "y\nz\n"
    );
    assert!(
        sh(&format!("getfacl -c --absolute-names {dir}/d/e")).contains("default:user:nobody:rwx")
    );
    at.unmount().await;
    let at = world
        .mount_with(FsConfig::default(), crate::open_to_others())
        .await;
    let dir = at.root().display().to_string();
    assert!(
        sh(&format!("getfacl -c --absolute-names {dir}/d/e")).contains("default:user:nobody:rwx")
    );
    assert!(sh(&format!("getfattr -d --absolute-names {dir}/f")).contains("user.color=\"blue\""));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_id_bits_and_capabilities_go_when_others_write() {
    let world = TestVolume::new().await;
    let at = mount_for_all(&world, 0o777).await;
    let path = at.path("program");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    let prepare = || {
        fs::write(&path, b"program").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
        sh(&format!("setcap cap_net_raw+ep {}", path.display()));
        assert_eq!(mode(), 0o6777);
    };
    let capabilities = || sh(&format!("getcap {}", path.display()));
    prepare();
    sh_as_nobody(&format!("echo more >>{}", path.display()));
    assert_eq!((mode(), capabilities().as_str()), (0o777, ""));
    prepare();
    sh_as_nobody(&format!("echo other >{}", path.display()));
    assert_eq!((mode(), capabilities().as_str()), (0o777, ""));
    prepare();
    sh_as_nobody(&format!("truncate -s 3 {}", path.display()));
    assert_eq!((mode(), capabilities().as_str()), (0o777, ""));
    prepare();
    sh(&format!("chown nobody {}", path.display()));
    assert_eq!((mode(), capabilities().as_str()), (0o777, ""));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_keeps_others_out_and_checks_permissions() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    assert!(
        !Command::new("ls")
            .arg(at.root())
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
            .status
            .success()
    );
    at.unmount().await;
    let at = mount_for_all(&world, 0o755).await;
    fs::write(at.path("secret"), b"s").unwrap();
    fs::set_permissions(at.path("secret"), Permissions::from_mode(0o600)).unwrap();
    let dir = at.root().display();
    assert_eq!(
        sh_as_nobody(&format!(
            "ls {dir}; cat {dir}/secret 2>/dev/null || echo refused; touch {dir}/x 2>/dev/null || echo refused"
        )),
        "secret\nrefused\nrefused\n"
    );
    // Group and umask of whoever creates.
    fs::create_dir(at.path("shared")).unwrap();
    sh(&format!("chgrp 50 {dir}/shared; chmod 2777 {dir}/shared"));
    sh_as_nobody(&format!(
        "umask 027; touch {dir}/shared/f; mkdir {dir}/shared/d"
    ));
    let (file, below) = (
        fs::metadata(at.path("shared/f")).unwrap(),
        fs::metadata(at.path("shared/d")).unwrap(),
    );
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (65534, 50, 0o640)
    );
    assert_eq!((below.gid(), below.mode() & 0o7777), (50, 0o2750));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_work_between_processes() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let path = at.path("lock");
    fs::write(&path, b"").unwrap();
    let said = sh(&format!(
        "exec 9>{0}; flock 9; flock -n {0} true && echo free || echo held; python3 -c '
import fcntl, os, sys
f = open(sys.argv[1], \"r+\"); fcntl.lockf(f, fcntl.LOCK_EX)
pid = os.fork()
if pid == 0:
    g = open(sys.argv[1], \"r+\")
    try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB); print(\"free\")
    except OSError: print(\"held\")
    sys.stdout.flush(); os._exit(0)
os.waitpid(pid, 0)' {0}",
        path.display()
    ));
    assert_eq!(said, "held\nheld\n");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_store_if_the_mount_was_made_so() {
    let world = TestVolume::new().await;
    let at = world
        .mount_with(
            FsConfig {
                durability: Durability::Close,
                ..FsConfig::default()
            },
            MountOptions::default(),
        )
        .await;
    fs::write(at.path("f"), vec![1; 100_000]).unwrap();
    assert_eq!(at.opened.data.dirty_bytes(), 0);
    let other = world.open().await;
    assert_eq!(
        other
            .fs
            .lookup(strongroom::meta::Ino::ROOT, b"f")
            .await
            .unwrap()
            .unwrap()
            .size,
        100_000
    );
    at.mounted.unmount(false).await.unwrap();
    at.mounted.wait_unmounted().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_is_reported_by_fsync_and_close_and_nothing_is_lost() {
    let mut world = TestVolume::new().await;
    let at = world.mount().await;
    let file = File::create_new(at.path("f")).unwrap();
    file.sync_all().unwrap();
    world.server.restart(Some("another-secret")).await;
    file.write_all_at(b"refused at first", 0).unwrap();
    // Each descriptor hears of it.
    let other = OpenOptions::new().write(true).open(at.path("f")).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(nix::unistd::close(other).unwrap_err(), Errno::EIO);
    world.server.restart(None).await;
    file.sync_all().unwrap();
    nix::unistd::close(file).unwrap();
    eventually("it is stored", async || at.opened.data.dirty_bytes() == 0).await;
    let file = OpenOptions::new().write(true).open(at.path("f")).unwrap();
    file.sync_all().unwrap();
    nix::unistd::close(file).unwrap();
    at.unmount().await;
    let at = world.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"refused at first");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_write_is_in_the_store_when_it_returns() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    for flags in [libc::O_DSYNC, libc::O_SYNC, libc::O_DSYNC | libc::O_DIRECT] {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flags)
            .open(at.path("f"))
            .unwrap();
        file.write_all(&[5; 4096]).unwrap();
        assert_eq!(at.opened.data.dirty_bytes(), 0, "{flags:o}");
    }
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_asks_itself_for_nothing() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let requests = &at.opened.metrics.kernel_requests;
    assert_eq!(requests.by_name(), Default::default());
    fs::metadata(at.root()).unwrap();
    assert!(requests.total() > 0, "requests are counted");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_answers_repeated_questions_by_itself() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::create_dir(at.path("d")).unwrap();
    fs::write(at.path("d/f"), vec![1; 200_000]).unwrap();
    File::open(at.path("d/f")).unwrap().sync_all().unwrap();
    let look = || {
        fs::metadata(at.path("d/f")).unwrap();
        assert!(fs::metadata(at.path("d/none")).is_err());
        assert_eq!(fs::read_dir(at.path("d")).unwrap().count(), 1);
        assert_eq!(fs::read(at.path("d/f")).unwrap().len(), 200_000);
    };
    look();
    look();
    let before = at.opened.metrics.kernel_requests.total();
    for _ in 0..10 {
        look();
    }
    let requests = at.opened.metrics.kernel_requests.total() - before;
    // Of each round: open and release of the file and of the directory.
    // Releases are not waited for: those of the rounds before may be among them.
    assert!(requests <= 10 * 4 + 4, "{requests} requests for ten rounds");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_was_seen_before_shows_what_changed_since() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let dir = at.path("d");
    fs::create_dir(&dir).unwrap();
    let count = || fs::read_dir(&dir).unwrap().count();
    let changed = || {
        let found = fs::metadata(&dir).unwrap();
        (found.mtime(), found.mtime_nsec(), found.nlink())
    };
    assert_eq!((count(), count()), (0, 0));
    let mut last = changed();
    let mut differs = |links| {
        let now = changed();
        let newer = (now.0, now.1) > (last.0, last.1);
        last = now;
        newer && now.2 == links
    };
    fs::write(dir.join("f"), b"").unwrap();
    assert!(count() == 1 && differs(2));
    fs::create_dir(dir.join("sub")).unwrap();
    assert!(count() == 2 && differs(3));
    fs::rename(dir.join("sub"), at.path("sub")).unwrap();
    assert!(count() == 1 && differs(2));
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    assert!(count() == 2 && differs(2));
    fs::remove_file(dir.join("f")).unwrap();
    assert!(count() == 1 && differs(2));
    assert_eq!(fs::metadata(dir.join("g")).unwrap().nlink(), 1);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_costs_one_request() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let file = File::create_new(at.path("f")).unwrap();
    file.write_at(&[0; 4096], 0).unwrap();
    let before = at.opened.metrics.kernel_requests.total();
    for number in 1..=100 {
        file.write_at(&[1; 4096], number * 4096).unwrap();
    }
    let requests = at.opened.metrics.kernel_requests.total() - before;
    assert!(requests <= 105, "{requests} requests for 100 writes");
    drop(file);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_shows_its_use_and_its_limits() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let before = nix::sys::statvfs::statvfs(at.root()).unwrap();
    fs::write(at.path("f"), vec![1; 10 << 20]).unwrap();
    File::open(at.path("f")).unwrap().sync_all().unwrap();
    let after = nix::sys::statvfs::statvfs(at.root()).unwrap();
    assert_eq!(after.name_max(), 255);
    assert_eq!(after.blocks(), before.blocks());
    assert_eq!(
        before.blocks_free() - after.blocks_free(),
        (10 << 20) / after.fragment_size()
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmount_from_outside_is_noticed_and_nothing_is_lost() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::write(at.path("f"), b"written just before").unwrap();
    sh(&format!("fusermount3 -u {}", at.root().display()));
    tokio::time::timeout(Duration::from_secs(10), at.mounted.wait_unmounted())
        .await
        .unwrap();
    assert!(!at.mounted.is_there());
    // What somebody else mounts there since is left alone.
    sh(&format!("mount -t tmpfs none {}", at.root().display()));
    at.mounted.unmount(true).await.unwrap();
    assert!(sh("cat /proc/self/mountinfo").contains(&at.root().display().to_string()));
    sh(&format!("umount {}", at.root().display()));
    at.opened.close().await;
    let at = world.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"written just before");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_in_use_is_busy_and_can_be_left_lazily() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let mut file = File::create_new(at.path("f")).unwrap();
    assert!(matches!(
        at.mounted.unmount(false).await,
        Err(MountError::Busy(_))
    ));
    at.mounted.unmount(true).await.unwrap();
    assert!(!at.mounted.is_there());
    file.write_all(b"after the tree has gone").unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), at.mounted.wait_unmounted())
            .await
            .is_err()
    );
    drop(file);
    at.mounted.wait_unmounted().await;
    at.opened.close().await;
    let at = world.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"after the tree has gone");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_mount_at_the_same_place_is_refused() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let again = mount(
        at.opened.fs.clone(),
        at.opened.metrics.clone(),
        MountOptions::default(),
        at.root(),
    )
    .await;
    assert!(matches!(again, Err(MountError::AlreadyMounted(_))));
    assert!(at.mounted.is_there());
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_mount_is_not_left_behind() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    let (root, entry) = (at.root().to_owned(), at.mounted.path().to_owned());
    assert_eq!(entry, root.canonicalize().unwrap());
    let MountedVolume {
        mounted, opened, ..
    } = at;
    drop(mounted);
    assert!(!sh("cat /proc/self/mountinfo").contains(&root.display().to_string()));
    opened.fs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_mount_shows_everything_and_changes_nothing() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::write(at.path("f"), b"contents").unwrap();
    at.unmount().await;
    let at = world
        .mount_with(
            FsConfig {
                read_only: true,
                ..FsConfig::default()
            },
            MountOptions::default(),
        )
        .await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"contents");
    assert_eq!(
        fs::write(at.path("g"), b"").unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    assert_eq!(
        fs::remove_file(at.path("f")).unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    at.mounted.unmount(false).await.unwrap();
    at.mounted.wait_unmounted().await;
    at.opened.fs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_store_does_not_answer_ends_at_its_deadline() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::write(at.path("f"), vec![9; 1 << 20]).unwrap();
    at.unmount().await;
    let at = world
        .mount_with(
            FsConfig::default(),
            MountOptions {
                timeout: Duration::from_millis(700),
                ..MountOptions::default()
            },
        )
        .await;
    fs::metadata(at.path("f")).unwrap();
    world.server.set_faults(strongroom::server::Faults {
        latency: Duration::from_secs(3600),
        ..Default::default()
    });
    let path = at.path("f");
    let began = Instant::now();
    let read = tokio::task::spawn_blocking(move || fs::read(path))
        .await
        .unwrap();
    assert!(matches!(
        read.unwrap_err().raw_os_error(),
        Some(libc::EIO | libc::ETIMEDOUT)
    ));
    assert!(began.elapsed() < Duration::from_secs(30));
    world.server.set_faults(Default::default());
    let path = at.path("f");
    eventually("reading works again", async || {
        let path = path.clone();
        tokio::task::spawn_blocking(move || fs::read(path))
            .await
            .unwrap()
            .is_ok_and(|contents| contents == vec![9; 1 << 20])
    })
    .await;
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_name_held_by_a_path_descriptor_can_be_opened_again() {
    let world = TestVolume::new().await;
    let at = world.mount().await;
    fs::write(at.path("f"), b"found again").unwrap();
    let held = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(at.path("f"))
        .unwrap();
    fs::remove_file(at.path("f")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    use std::os::fd::AsRawFd;
    let through = format!("/proc/self/fd/{}", held.as_raw_fd());
    assert_eq!(fs::read(&through).unwrap(), b"found again");
    assert_eq!(
        linkat(
            AT_FDCWD,
            Path::new(&through),
            AT_FDCWD,
            &at.path("g"),
            AtFlags::AT_SYMLINK_FOLLOW
        ),
        Err(Errno::ENOENT)
    );
    drop(held);
    at.unmount().await;
}
