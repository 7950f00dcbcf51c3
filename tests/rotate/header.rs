//! Making a new key: the header, its copies, its bounds, and stores that lose answers.

use std::time::Duration;

use strongroom::{
    seal::volume::{EPOCHS_MAX, Secret, VolumeHeader},
    session::Exit,
};
use zeroize::Zeroizing;

use crate::{
    place::{Place, epoch_of, fill},
    support::{
        commands::{said, succeed, text},
        lying::{Form, Kind, Lie, LyingStore, Op, Rule},
        random::noise,
    },
};

const HEADERS: [&str; 2] = ["laptop/strongroom.json", "laptop/strongroom.copy.json"];

fn header(place: &Place) -> VolumeHeader {
    VolumeHeader::parse(&place.site.bucket().get(HEADERS[0])).unwrap()
}

fn epochs(place: &Place) -> Vec<u32> {
    header(place).epochs().map(|epoch| epoch.0).collect()
}

#[test]
fn a_new_key_is_for_what_is_written_from_then_on_and_the_old_files_stay_readable() {
    let place = Place::new();
    let mount = place.mount(&[]);
    fill(&mount.dir, 1);
    mount.unmount();
    let (tree, before) = (place.tree(), place.epochs("data/"));
    assert!(before.len() > 2 && before.values().all(|epoch| *epoch == 1));

    let told = place.rotate();
    for word in [
        "key epoch 2",
        "has 2",
        "unmount and mount again",
        "stays under its old key",
        "--rewrite",
        "key change",
    ] {
        assert!(told.contains(word), "no '{word}' in: {told}");
    }
    let bucket = place.site.bucket();
    assert!(bucket.get(HEADERS[0]) == bucket.get(HEADERS[1]));
    assert_eq!(place.epochs("data/"), before);
    let info = succeed(&place.site.strongroom(&["info", &place.site.url()]).output());
    assert!(
        info.contains("epochs    2, ") && info.contains("number 2"),
        "{info}"
    );

    let list = succeed(
        &place
            .site
            .strongroom(&["key", "list", &place.site.url()])
            .output(),
    );
    assert!(
        list.ends_with("epochs    2, what is written now is sealed under number 2\n"),
        "{list}"
    );

    assert_eq!(place.tree(), tree);
    let mount = place.mount(&[]);
    std::fs::write(mount.dir.join("new"), noise(5, 400_000)).unwrap();
    std::fs::create_dir(mount.dir.join("new-dir")).unwrap();
    mount.unmount();
    let after = place.epochs("data/");
    let new: Vec<_> = after
        .iter()
        .filter(|(key, _)| !before.contains_key(*key))
        .collect();
    assert!(
        !new.is_empty() && new.iter().all(|(_, epoch)| **epoch == 2),
        "{after:?}"
    );
    // The metadata too: its newest log object and manifest, and the lease.
    for newest in [place.epochs("meta/wal/"), place.epochs("meta/manifest/")] {
        assert_eq!(newest.last_key_value().unwrap().1, &2, "{newest:?}");
    }
    assert_eq!(place.epochs("lease").into_values().collect::<Vec<_>>(), [2]);
    let usage = place.json("usage");
    let (old, new) = (&usage["epochs"][0], &usage["epochs"][1]);
    assert_eq!(old["objects"], before.len(), "{usage}");
    assert_eq!(new["live_bytes"], 400_000, "{usage}");
    let table = succeed(&place.run(&["usage", &place.site.url()]));
    assert!(table.contains("contents under key epoch 1"), "{table}");
    place.is_whole();
    succeed(&place.run(&["gc", &place.site.url()]));

    // A third one, and everything opens still.
    assert!(place.rotate().contains("key epoch 3"));
    let mount = place.mount(&[]);
    assert!(std::fs::read(mount.dir.join("new")).unwrap() == noise(5, 400_000));
    std::fs::remove_file(mount.dir.join("new")).unwrap();
    std::fs::remove_dir(mount.dir.join("new-dir")).unwrap();
    mount.unmount();
    assert_eq!(epochs(&place), [1, 2, 3]);
    let key = place.run(&["key", "test", &place.site.url()]);
    assert!(succeed(&key).contains("opens the volume"));
    place.is_whole();
}

#[test]
fn the_257th_key_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    let secret = Secret::key_file(Zeroizing::new(noise(99, 64))).unwrap();
    let mut header = header(&place);
    let unlocked = header.unlock(&secret).unwrap();
    while header.epochs().count() < EPOCHS_MAX - 1 {
        header.rotate(&unlocked.master).unwrap();
    }
    for key in HEADERS {
        place.site.bucket().put(key, header.encode());
    }
    assert!(place.rotate().contains("key epoch 256"));
    let full = place.site.bucket().get(HEADERS[0]);
    let refused = place.run(&["key", "rotate", &place.site.url()]);
    let told = said(&refused);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Exit::Usage.code())),
        "{told}"
    );
    assert!(
        told.contains("256 key epochs") && told.contains("new volume"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(place.site.bucket().get(HEADERS[0]) == full);
    let mount = place.mount(&[]);
    std::fs::write(mount.dir.join("file"), noise(1, 5000)).unwrap();
    mount.unmount();
    assert!(
        place
            .epochs("data/")
            .into_values()
            .all(|epoch| epoch == 256)
    );
}

#[test]
fn options_for_a_rewrite_are_refused_without_one() {
    let place = Place::new();
    let refused = place.run(&["key", "rotate", &place.site.url(), "--takeover"]);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("--rewrite"), "{told}");
    assert_eq!(epochs(&place), [1]);
}

#[test]
fn a_header_whose_answer_is_lost_late_or_doubled_has_one_key_more_and_two_equal_copies() {
    let mut place = Place::new();
    let direct = place.site.endpoint.clone();
    let lies = || {
        [
            ("lost", Lie::ResetAfter),
            ("late", Lie::Hang(Duration::from_millis(300))),
            ("twice", Lie::LateDuplicate),
            ("overtaken", Lie::Overtaken),
            (
                "refused, done all the same",
                Lie::RefuseAfter(500, Form::Code("InternalError")),
            ),
            ("not taken at first", Lie::ResetBefore),
            (
                "out of order at first",
                Lie::Refuse(503, Form::Code("SlowDown")),
            ),
        ]
    };
    // The first PUT is the header, the second its copy.
    for skip in [0, 1] {
        for (name, lie) in lies() {
            let before = epochs(&place);
            let store = LyingStore::before(place.site.server().local_addr());
            place.site.endpoint = store.endpoint();
            let fired = store.lie(Rule::on([Op::Put]).of([Kind::Header]).skip(skip).once(lie));
            // The machine knows the volume by its endpoint.
            let state = place.site.scratch(&format!("state-{skip}-{}", &name[..4]));
            let url = place.site.url();
            let rotated = place.run(&["key", "rotate", &url, "--state-dir", text(&state)]);
            succeed(&rotated);
            assert_eq!(fired.count(), 1, "{name}");
            place.site.endpoint = direct.clone();
            let after = epochs(&place);
            assert_eq!(after.len(), before.len() + 1, "{name}, PUT {skip}");
            let bucket = place.site.bucket();
            assert!(
                bucket.get(HEADERS[0]) == bucket.get(HEADERS[1]),
                "{name}, PUT {skip}"
            );
        }
    }
    let mount = place.mount(&[]);
    mount.unmount();
}

#[test]
fn a_header_from_before_the_new_key_is_refused_and_where_nobody_knows_better_its_age_shows() {
    let place = Place::new();
    let url = place.site.url();
    let mount = place.mount(&[]);
    fill(&mount.dir, 1);
    mount.unmount();
    let bucket = place.site.bucket();
    let old = HEADERS.map(|key| bucket.get(key));
    place.rotate();
    let new = HEADERS.map(|key| bucket.get(key));
    let show = |headers: &[Vec<u8>; 2]| {
        for (key, header) in HEADERS.iter().zip(headers) {
            bucket.put(key, header.clone());
        }
    };
    show(&old);
    let listed = bucket.sizes();
    let dir = place.site.scratch("nowhere");
    for args in [
        &["key", "rotate", &url][..],
        &["key", "rotate", &url, "--rewrite"],
        &["key", "test", &url],
        &["fsck", &url],
        &["mount", &url, text(&dir), "--foreground"],
    ] {
        let refused = place.run(args);
        let told = said(&refused);
        assert_eq!(
            refused.status.code(),
            Some(i32::from(Exit::RolledBack.code())),
            "{told}"
        );
        assert!(
            told.contains("its header is at 1") && told.contains("has seen 2"),
            "{told}"
        );
    }
    assert_eq!(bucket.sizes(), listed, "a refusal wrote something");

    // A machine that never met the volume cannot know, until something is under the new key.
    show(&new);
    let mount = place.mount(&[]);
    std::fs::write(mount.dir.join("new"), noise(1, 5000)).unwrap();
    mount.unmount();
    show(&old);
    let state = place.site.scratch("another-machine");
    let mount = [
        "mount",
        &url,
        text(&dir),
        "--foreground",
        "--state-dir",
        text(&state),
    ];
    let refused = place.run(&mount);
    let told = said(&refused);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Exit::Damaged.code())),
        "{told}"
    );
    assert!(told.contains("key epoch 2"), "{told}");
    show(&new);
    place.is_whole();
}

#[test]
fn a_command_that_read_the_header_a_moment_before_the_new_key_says_to_start_it_again() {
    let place = Place::new();
    let url = place.site.url();
    let bucket = place.site.bucket();
    let before: Vec<_> = bucket
        .keys()
        .into_iter()
        .map(|key| (bucket.get(&key), key))
        .collect();
    place.rotate();
    place.mount(&[]).unmount();
    // The rest of the volume as it was, beside the lease of a mount with the new key.
    for (object, key) in before
        .into_iter()
        .filter(|(_, key)| !key.ends_with("/lease"))
    {
        bucket.put(&key, object);
    }
    for key in bucket.keys() {
        if epoch_of_sealed(&bucket.get(&key)) == Some(2) && !key.ends_with("/lease") {
            bucket.delete(&key);
        }
    }
    let (dir, state) = (
        place.site.scratch("nowhere"),
        place.site.scratch("another-machine"),
    );
    let mount = [
        "mount",
        &url,
        text(&dir),
        "--foreground",
        "--state-dir",
        text(&state),
    ];
    let refused = place.run(&mount);
    let told = said(&refused);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Exit::Unexpected.code())),
        "{told}"
    );
    assert!(
        told.contains("rotated while this command began: start it again"),
        "{told}"
    );
}

/// The epoch of an object if it is a sealed one.
fn epoch_of_sealed(stored: &[u8]) -> Option<u32> {
    stored.starts_with(b"STRONGRM").then(|| epoch_of(stored))
}
