//! How far a drain is, as its followers are told.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::Value;
use strongroom::{
    server::Faults,
    session::{
        control::{Request, request},
        mountpoint::control_socket,
    },
};

use crate::support::{
    random::noise,
    site::{Site, Transport},
};

const MIB: u64 = 1 << 20;

#[test]
fn a_drain_through_a_slow_link_is_seen_to_go_on() {
    let site = Site::start(Transport::Plain);
    let mut mount = site.mount();
    site.server()
        .set_faults(Faults {
            bandwidth: Some(5 << 20),
            ..Faults::default()
        })
        .unwrap();
    fs::write(mount.dir.join("file"), noise(9, 40 << 20)).unwrap();
    let socket = control_socket(&mount.dir).unwrap();
    let mut answers = request(&socket, Request::FollowDrain, Duration::from_secs(60)).unwrap();
    let umount = site.strongroom(&["umount", mount.dir.to_str().unwrap()]);
    let umount = std::thread::spawn(move || umount.output());

    let mut seen: Vec<(u64, u64)> = Vec::new();
    while let Some(line) = answers.next_line().unwrap() {
        let answer: Value = serde_json::from_str(&line).unwrap();
        if answer["phase"] == "draining" {
            let sent = &answer["sent"];
            let figure = |name: &str| sent[name].as_u64().expect(&line);
            seen.push((figure("sent_bytes"), figure("total_bytes")));
        }
    }
    let output = umount.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mount.wait_gone(), 0);

    let total = seen.first().expect("answers").1;
    assert!((20 * MIB..=40 * MIB).contains(&total), "{total}");
    assert!(seen.iter().all(|(sent, of)| sent <= of), "{seen:?}");
    assert!(seen.is_sorted_by_key(|(sent, _)| *sent), "{seen:?}");
    // Sockets take some MiB at once, so the first answers come in leaps.
    let distinct: BTreeSet<u64> = seen.iter().map(|(sent, _)| *sent).collect();
    assert!(distinct.len() >= 6, "{seen:?}");
    let leap = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    assert!(leap.unwrap() <= total / 3, "{seen:?}");

    let lines = String::from_utf8(output.stderr).unwrap();
    let line = lines.lines().next().expect("a line after five seconds");
    assert!(line.starts_with("draining: "), "{lines}");
    assert!(line.contains(" of 40 MiB sent, "), "{lines}");
}
