//! Writing a volume anew under its newest key: what is left, what is told, what stops it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::session::Exit;

use crate::{
    place::{Place, fill},
    support::{
        commands::{said, succeed},
        random::noise,
        terminal::TerminalProgram,
        tree::{assert_same, snapshot},
        wait::block_until,
    },
};

/// Two sessions' worth of files, some of them overwritten.
fn filled() -> Place {
    let place = Place::new();
    let mount = place.mount(&[]);
    fill(&mount.dir, 1);
    mount.unmount();
    let mount = place.mount(&[]);
    fs::create_dir(mount.dir.join("second")).unwrap();
    for index in 0..20 {
        let name = format!("second/file{index}");
        fs::write(mount.dir.join(name), noise(500 + index, 300_000)).unwrap();
    }
    fs::write(mount.dir.join("dir/small7"), noise(77, 9_000)).unwrap();
    mount.unmount();
    place
}

/// Everything that files have is under this epoch, and what is under older ones waits for deletion.
fn all_is_under(place: &Place, epoch: u32) {
    let (live, waiting) = place.live_epochs();
    assert_eq!(
        live.keys().collect::<Vec<_>>(),
        [&epoch.to_string()],
        "{live:?}"
    );
    let older = place
        .epochs("data/")
        .into_values()
        .filter(|found| *found < epoch);
    assert!(
        older.count() as u64 <= waiting,
        "old objects that nothing accounts for"
    );
}

#[test]
fn after_a_rewrite_everything_that_is_needed_is_under_the_new_key() {
    let place = filled();
    let tree = place.tree();
    let label = ["key", "label", &place.site.url(), "1", "a label"];
    succeed(&place.run(&label));
    place.rotate();
    let (live, _) = place.live_epochs();
    let bytes = live["1"];
    let follower = place.mount_elsewhere(&["--read-only", "--follow-every", "100ms"]);
    let told = place.rewrite();
    assert_same(&tree, &snapshot(&follower.dir), "beside the rewrite");
    follower.unmount();
    assert!(
        told.contains("under key epoch 2") && told.contains("nothing that the volume needs"),
        "{told}"
    );
    all_is_under(&place, 2);
    let (live, _) = place.live_epochs();
    assert_eq!(live["2"], bytes, "bytes were lost or doubled");
    assert_same(&tree, &place.tree(), "after the rewrite");
    place.is_whole();
    assert_eq!(place.epochs("slots").into_values().collect::<Vec<_>>(), [2]);
    let list = succeed(&place.run(&["key", "list", &place.site.url()]));
    assert!(list.contains("a label"), "{list}");

    // Another one finds nothing to do, and adds no key.
    let again = place.rewrite();
    assert!(
        again.contains(": 0 B of contents (0 objects), 0 tables"),
        "{again}"
    );
    let info = succeed(&place.site.strongroom(&["info", &place.site.url()]).output());
    assert!(info.contains("epochs    2"), "{info}");
    // Without the old key's objects, as after their deletion, the volume is what it was.
    let bucket = place.site.bucket();
    for prefix in ["data/", "meta/compacted/"] {
        let old = place
            .epochs(prefix)
            .into_iter()
            .filter(|(_, epoch)| *epoch == 1);
        for (key, _) in old {
            bucket.delete(&key);
        }
    }
    assert_same(&tree, &place.tree(), "without what was replaced");
    let fsck = place.run(&["fsck", &place.site.url(), "--data"]);
    assert_eq!(fsck.status.code(), Some(0), "{}", said(&fsck));
    let mount = place.mount(&[]);
    fs::write(mount.dir.join("after"), noise(3, 50_000)).unwrap();
    mount.unmount();
}

#[test]
fn a_volume_with_one_key_has_nothing_to_rewrite() {
    let place = Place::new();
    let mount = place.mount(&[]);
    fill(&mount.dir, 1);
    mount.unmount();
    let before = place.epochs("data/");
    let told = place.rewrite();
    assert!(told.contains("under key epoch 1: 0 B"), "{told}");
    assert_eq!(place.epochs("data/"), before);
}

#[test]
fn an_object_that_cannot_be_read_is_named_and_the_others_are_rewritten() {
    let place = filled();
    place.rotate();
    let bucket = place.site.bucket();
    let url = place.site.url();
    let which = succeed(&place.run(&["which", &url, "/second/file3", "--json"]));
    let lines = which
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let objects: Vec<_> = lines.filter(|line| line["kind"] == "object").collect();
    let key = objects[0]["object"]
        .as_str()
        .unwrap_or_else(|| panic!("{objects:?}"));
    assert!(key.starts_with("laptop/data/"), "{key}");
    let mut damaged = bucket.get(key);
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    bucket.put(key, damaged.clone());

    let refused = place.rewriting().output().unwrap();
    let told = said(&refused);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Exit::Damaged.code())),
        "{told}"
    );
    assert!(
        told.contains("1 objects cannot be read") && told.contains(&key["laptop/".len()..]),
        "{told}"
    );
    let (live, _) = place.live_epochs();
    assert!(live["1"] < live["2"], "{live:?}");
    // Once it is restored, the next run takes the rest.
    damaged[at] ^= 1;
    bucket.put(key, damaged);
    place.rewrite();
    all_is_under(&place, 2);
    place.is_whole();
}

#[test]
fn ctrl_c_ends_a_rewrite_with_what_was_done_kept() {
    let place = filled();
    let tree = place.tree();
    place.rotate();
    let mut command = place.rewriting();
    // So slow that it is in the middle when the signal comes.
    command.args(["--max-download-rate", "8MiB"]);
    let child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let data = || {
        place
            .epochs("data/")
            .into_values()
            .filter(|epoch| *epoch == 2)
            .count()
    };
    block_until("something is rewritten", Duration::from_secs(60), || {
        data() > 0
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = said(&output);
    assert_eq!(
        output.status.code(),
        Some(i32::from(Exit::Interrupted.code())),
        "{told}"
    );
    assert!(
        told.contains("finishing what is on its way") && told.contains("start it again"),
        "{told}"
    );
    let (live, _) = place.live_epochs();
    assert!(live["1"] > 0 && live["2"] > 0, "{live:?}");
    // Nothing was left on its way, and the lease was given back: a mount begins at once.
    place.is_whole();
    assert_same(&tree, &place.tree(), "after the interruption");
    let told = place.rewrite();
    assert!(told.contains("nothing that the volume needs"), "{told}");
    all_is_under(&place, 2);
    assert_same(&tree, &place.tree(), "after the second run");
}

#[test]
fn a_second_ctrl_c_gives_up_what_is_on_its_way_and_the_next_run_clears_up() {
    let place = filled();
    let tree = place.tree();
    place.rotate();
    let mut command = place.rewriting();
    // It takes half a minute to send what is on its way.
    command.args(["--max-upload-rate", "500KiB"]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said_first = BufReader::new(child.stderr.take().unwrap());
    let interrupt = || kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let parts = place.site.stats().count("CreateMultipartUpload");
    block_until("an upload is begun", Duration::from_secs(60), || {
        place.site.stats().count("CreateMultipartUpload") > parts
    });
    interrupt();
    let mut line = String::new();
    while !line.contains("Ctrl-C again") {
        assert!(said_first.read_line(&mut line).unwrap() > 0, "{line}");
    }
    interrupt();
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(i32::from(Exit::Interrupted.code())),
        "{}",
        said(&output)
    );
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    place.rewrite();
    all_is_under(&place, 2);
    place.is_whole();
    assert!(
        place.site.bucket().uploads().is_empty(),
        "an upload was left"
    );
    assert_same(&tree, &place.tree(), "after both runs");
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let place = filled();
    place.rotate();
    let mut command = place.rewriting();
    command.args(["--max-download-rate", "8MiB"]);
    let program = TerminalProgram::start(&mut command, 120, 24);
    program.wait_for("a bar with bytes, rate and time left", |screen| {
        let bar = screen
            .lines()
            .find(|line| line.contains("rewriting contents ["));
        bar.is_some_and(|bar| bar.contains(" of ") && bar.contains("/s, "))
    });
    let (code, screen) = program.end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("rewritten under key epoch 2"), "{screen}");
}

#[test]
fn a_rewrite_stays_below_its_memory() {
    let place = Place::new();
    let mount = place.mount(&[]);
    for index in 0..6 {
        fs::write(
            mount.dir.join(format!("big{index}")),
            noise(index, 24 << 20),
        )
        .unwrap();
    }
    mount.unmount();
    place.rotate();
    let mut command = place.rewriting();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let ended = loop {
        if let Ok(status) = fs::read_to_string(&status)
            && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:"))
        {
            let kib = line
                .split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap();
            peak_kib = peak_kib.max(kib);
        }
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(ended.success());
    eprintln!(
        "144 MiB were rewritten with a peak of {} MiB",
        peak_kib >> 10
    );
    assert!(peak_kib > 0 && peak_kib < 128 << 10, "{peak_kib} KiB");
    all_is_under(&place, 2);
}
