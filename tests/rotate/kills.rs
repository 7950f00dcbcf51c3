//! `kill -9` in the middle of a rewrite, again and again, while the store loses and delays answers.

use std::{fs, process::Stdio, time::Duration};

use crate::{
    place::{Place, fill},
    support::{
        commands::{said, succeed, text},
        lying::{Lie, LyingStore, Op, Rule},
        random::{Random, noise},
        tree::assert_same,
    },
};

/// Kills in the ordinary run.
const KILLS: u64 = 12;

/// More follow until one has met a rewrite between two of its commits, up to so many.
const KILLS_MAX: u64 = 60;

#[test]
fn a_rewrite_that_is_killed_again_and_again_comes_to_its_end() {
    let mut place = Place::new();
    for (name, seed) in [("one", 1), ("two", 1000)] {
        let mount = place.mount(&[]);
        fill(&mount.dir.join(name), seed);
        for index in 0..5 {
            let file = mount.dir.join(format!("{name}-{index}"));
            fs::write(file, noise(seed + index, 12 << 20)).unwrap();
        }
        mount.unmount();
    }
    let tree = place.tree();
    let (before, _) = place.live_epochs();
    let all_bytes = before["1"];
    let direct = place.site.endpoint.clone();
    let mut random = Random::of_this_run();
    let state = place.site.scratch("rewriter");
    let (mut newest, mut killed, mut between) = (1, 0, 0);
    // The requests of the first rewrite, which is not killed.
    let mut requests = None;
    while killed < KILLS || (between == 0 && killed < KILLS_MAX) {
        // Each time that a rewrite came to its end there is a new key, so that all of it is killed.
        if place
            .live_epochs()
            .0
            .keys()
            .all(|epoch| *epoch == newest.to_string())
        {
            place.rotate();
            newest += 1;
        }
        let store = LyingStore::before(place.site.server().local_addr());
        for (ops, lie) in [
            (vec![Op::Put], Lie::ResetAfter),
            (
                vec![Op::Put, Op::UploadPart],
                Lie::Hang(Duration::from_millis(200)),
            ),
            (vec![Op::Put], Lie::LateDuplicate),
            (vec![Op::Get], Lie::ResetBefore),
            (vec![Op::Complete], Lie::ResetAfter),
        ] {
            let skip = random.below(12);
            // Twice: a command gives up when it is refused three times in a row as it opens.
            store.lie(Rule::on(ops).skip(skip).times(2, lie));
        }
        place.site.endpoint = store.endpoint();
        let mut command = place.rewriting();
        command.args(["--state-dir", text(&state)]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let kill_at = requests.map_or(u64::MAX, |requests| 1 + random.below(requests));
        // The process may come to its end before.
        while store.requests() < kill_at && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        requests.get_or_insert(store.requests());
        place.site.endpoint = direct.clone();
        match output.status.code() {
            None => killed += 1,
            Some(0) => {}
            Some(_) => panic!("after {killed} kills: {}", said(&output)),
        }
        let (live, _) = place.live_epochs();
        let sent = store.requests();
        eprintln!(
            "epoch {newest}: {live:?}, {:?} after {sent} requests",
            output.status
        );
        between += u64::from(live.len() > 1);
        assert_eq!(
            live.values().sum::<u64>(),
            all_bytes,
            "after {killed} kills"
        );
    }
    assert!(
        newest > 2 && between > 0,
        "no kill met a rewrite in the middle"
    );
    if place
        .live_epochs()
        .0
        .keys()
        .all(|epoch| *epoch == newest.to_string())
    {
        place.rotate();
        newest += 1;
    }
    let told = place.rewrite();
    assert!(told.contains("nothing that the volume needs"), "{told}");
    let (live, waiting) = place.live_epochs();
    assert_eq!(live, [(newest.to_string(), all_bytes)].into());
    // The leftovers of the kills are cleared. Nothing old is there but what waits to be deleted.
    place.json("gc");
    let epochs = place.epochs("data/");
    let old = epochs.values().filter(|epoch| **epoch < newest);
    assert!(old.count() as u64 <= waiting, "{epochs:?}");
    place.is_whole();
    assert!(place.site.bucket().uploads().is_empty());
    assert_same(&tree, &place.tree(), "after the kills");
    succeed(&place.run(&["key", "test", &place.site.url()]));
}
