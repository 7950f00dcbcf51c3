//! A mount that fails after it took the lease gives it back.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::{server::Faults, session::Exit};

use crate::{
    machine::{Machine, site},
    provider::Provider,
    support::{
        commands::elsewhere,
        site::Site,
        wait::{SOON, block_until},
    },
};

/// Slow enough to do something between the lease and the mount.
fn slow(site: &Site, by: Duration) {
    let faults = Faults {
        latency: by,
        ..Faults::default()
    };
    site.server().set_faults(faults).unwrap();
}

/// Begins a mount and, once it has the lease, does `then`; its exit code.
fn fail_after_the_lease(
    site: &Site,
    provider: &Provider,
    then: impl FnOnce(&Machine<'_>, u32),
) -> i32 {
    let machine = Machine::new(site, "failing");
    slow(site, Duration::from_millis(60));
    let mut child = machine.mount_command(&[]).spawn().unwrap();
    block_until("the lease is taken", SOON, || {
        provider.keys().contains(&"laptop/lease".to_owned())
    });
    then(&machine, child.id());
    let code = child.wait().unwrap().code().unwrap();
    slow(site, Duration::ZERO);
    code
}

/// A mount in a process namespace of its own: it cannot see that the process in the lease is gone.
fn mounts_elsewhere_at_once(site: &Site) {
    let machine = Machine::new(site, "elsewhere");
    let inner = machine.mount_command(&["--log-level", "info"]);
    let mut command = elsewhere(&inner);
    let log = site.path().join("elsewhere.log");
    let began = Instant::now();
    let mut child = command
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    block_until("the next mount gets the lease", SOON, || {
        fs::read_to_string(&log).unwrap().contains("is mounted on")
    });
    // Whom the lease says to hold the volume is given ten seconds, and ninety to expire.
    assert!(began.elapsed() < Duration::from_secs(9));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_mount_that_the_kernel_refuses_gives_the_lease_back() {
    let site = site();
    let provider = Provider::of(&site);
    let code = fail_after_the_lease(&site, &provider, |_, _| {
        fs::remove_dir(site.path().join("failing-mnt")).unwrap();
    });
    assert_eq!(code, i32::from(Exit::MountPointMissing.code()));
    mounts_elsewhere_at_once(&site);
}

#[test]
fn a_mount_that_is_interrupted_gives_the_lease_back() {
    let site = site();
    let provider = Provider::of(&site);
    let code = fail_after_the_lease(&site, &provider, |_, pid| {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    });
    assert_eq!(code, i32::from(Exit::Interrupted.code()));
    mounts_elsewhere_at_once(&site);
}
