//! Attributes, rights and locks through the kernel.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::Command,
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};
use strongroom::fs::FsConfig;

use crate::{
    mount_for_all,
    shell::{sh, sh_as_nobody},
    support::{opened::MountedVolume, volume::TestVolume},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_exact_to_the_nanosecond_on_both_sides_of_1970() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
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
    volume.holds_over_a_remount(at, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_attributes_and_access_lists_work_with_their_tools() {
    let volume = TestVolume::new().await;
    let at = mount_for_all(&volume, 0o755).await;
    let dir = at.root().display().to_string();
    sh(&format!(
        "cd {dir}; echo x >f; chmod 600 f; setfattr -n user.color -v blue f; setfattr -n trusted.t -v 1 f"
    ));
    assert!(
        sh(&format!("getfattr -d -m - --absolute-names {dir}/f")).contains("user.color=\"blue\"")
    );
    assert!(!sh_as_nobody(&format!("getfattr -m - --absolute-names {dir}/f")).contains("trusted"));
    assert_eq!(sh_as_nobody(&format!("cat {dir}/f || true")), "");
    sh(&format!("setfacl -m u:nobody:r {dir}/f"));
    assert_eq!(sh_as_nobody(&format!("cat {dir}/f")), "x\n");
    assert_eq!(fs::metadata(at.path("f")).unwrap().mode() & 0o777, 0o640);
    sh(&format!("chmod 600 {dir}/f"));
    assert!(
        sh(&format!("getfacl -c --absolute-names {dir}/f"))
            .contains("user:nobody:r--\t#effective:---")
    );
    assert_eq!(sh_as_nobody(&format!("cat {dir}/f || true")), "");
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
    let at = volume
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
    let volume = TestVolume::new().await;
    let at = mount_for_all(&volume, 0o777).await;
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
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
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
    let at = mount_for_all(&volume, 0o755).await;
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
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
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
