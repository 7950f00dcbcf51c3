//! What the kernel and its callers see when the store is silent, and what the kernel may go on
//! believing. Needs root and /dev/fuse.

#[path = "../common/mod.rs"]
mod common;

mod caches;
mod ended;
mod killed;
mod late;
mod past_cache;

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::World;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::server::{Faults, Outage};

pub fn silence(world: &World) {
    let hang = Faults {
        outage: Outage::Hang,
        ..Faults::default()
    };
    world.server.set_faults(hang).unwrap();
}

pub fn heal(world: &World) {
    world.server.set_faults(Faults::default()).unwrap();
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

/// How many of them are still there `within` from now, with the command lines of those.
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
