//! A real FUSE mount inside this process, as programs and the kernel see it: in order, before a
//! silent store, and beside another mount of the same volume. Needs root and /dev/fuse.

#[path = "../support/mod.rs"]
mod support;

mod caches;
mod contents;
mod ended;
mod fills;
mod followers;
mod killed;
mod late;
mod mount;
mod names;
mod past_cache;
mod requests;
mod rights;
mod shell;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::{
    fs::FsConfig,
    fuse::MountOptions,
    server::{Faults, Outage},
};
use support::{opened::MountedVolume, volume::TestVolume};

pub fn silence(volume: &TestVolume) {
    let hang = Faults {
        outage: Outage::Hang,
        ..Faults::default()
    };
    volume.server.set_faults(hang);
}

pub fn heal(volume: &TestVolume) {
    volume.server.set_faults(Faults::default());
}

pub fn start(program: &str, args: &[&str]) -> Child {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// The command lines of the children that are still there after `within`.
pub async fn survivors(children: &mut Vec<(String, Child)>, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    loop {
        children.retain_mut(|(_, child)| child.try_wait().unwrap().is_none());
        if children.is_empty() || Instant::now() > deadline {
            return children.iter().map(|(line, _)| line.clone()).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Other users may enter, and set-id bits work.
pub fn open_to_others() -> MountOptions {
    MountOptions {
        allow_other: true,
        suid: true,
        ..MountOptions::default()
    }
}

/// A mount that other users may enter, whose root has this mode.
pub async fn mount_for_all(volume: &TestVolume, mode: u32) -> MountedVolume {
    let at = volume
        .mount_with(FsConfig::default(), open_to_others())
        .await;
    fs::set_permissions(at.root(), Permissions::from_mode(mode)).unwrap();
    at
}
