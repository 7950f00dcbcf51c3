//! The demo: everything in one process, gone on Ctrl-C.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use strongroom::session::Exit;

use crate::{
    running::{assert_refused, strongroom},
    support::commands::text,
};

#[test]
fn the_demo_mounts_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("demo");
    let mut child = strongroom(&["demo", text(&dir)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(
        first,
        format!("A volume is mounted on {}", text(&dir.join("mnt")))
    );
    fs::write(dir.join("mnt/file"), vec![4; 1 << 20]).unwrap();
    assert_eq!(fs::read(dir.join("mnt/file")).unwrap(), vec![4; 1 << 20]);

    let mut other = strongroom(&["demo", text(&dir)]);
    assert_refused(&mut other, Exit::NotEmpty, &["not empty"]);

    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!dir.exists());
}
