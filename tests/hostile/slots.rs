//! The notes on key slots, where the store loses an answer, is late, or does a request twice: each
//! request about them meets each of these once.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output, time::Duration};

use serde_json::Value;

use crate::{
    support::{
        commands::{said, succeed, text},
        lying::{Form, Lie, Rule, request::ALL},
        random::noise,
    },
    world::World,
};

/// How late an answer is that comes late.
const LATE: Duration = Duration::from_millis(700);

/// The treatments of one request.
fn lies() -> [(&'static str, Lie); 6] {
    [
        ("not done, and lost", Lie::ResetBefore),
        ("answer lost", Lie::ResetAfter),
        ("late", Lie::Hang(LATE)),
        ("done twice", Lie::LateDuplicate),
        ("overtaken", Lie::Overtaken),
        (
            "done, and refused",
            Lie::RefuseAfter(500, Form::Code("InternalError")),
        ),
    ]
}

/// A store without a volume, and key files for one: they cost no derivation.
struct Place {
    world: World,
    keys_made: u64,
}

impl Place {
    fn start() -> Place {
        let world = World::without_volume();
        world.site.bucket().create();
        Place {
            world,
            keys_made: 0,
        }
    }

    fn key_file(&mut self) -> PathBuf {
        self.keys_made += 1;
        let path = self
            .world
            .site
            .path()
            .join(format!("key{}", self.keys_made));
        fs::write(&path, noise(self.keys_made, 64)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        self.world.site.strongroom(args).output()
    }

    /// Runs a command while request number `skip` about the notes is treated so. False if there was
    /// no such request.
    fn run_under(&self, what: &str, lie: &Lie, skip: u64, args: &[&str]) -> bool {
        let notes = Rule::on(ALL).keys(|key| key.ends_with("/slots"));
        let fired = self.world.store.lie(notes.skip(skip).once(lie.clone()));
        let output = self.run(args);
        let told = said(&output);
        assert!(output.status.success(), "{what}, request {skip}: {told}");
        assert!(output.stderr.is_empty(), "{what}, request {skip}: {told}");
        let fired = fired.count() > 0;
        self.world.store.heal();
        fired
    }

    /// The slots with their notes, as `key list` shows them to the key.
    fn slots(&self, url: &str, key: &str) -> Vec<Value> {
        let list = ["key", "list", url, "--json", "--key-file", key];
        serde_json::from_str(&succeed(&self.run(&list))).unwrap()
    }
}

/// The labels of all slots that have a note from this machine.
fn labels(slots: &[Value]) -> Vec<(u64, String)> {
    let label = |slot: &Value| {
        assert!(slot["host"].is_string(), "no note: {slot}");
        assert!(slot["made_unix_seconds"].is_i64(), "no note: {slot}");
        let label = slot["label"].as_str().unwrap_or_default().to_owned();
        (slot["slot"].as_u64().unwrap(), label)
    };
    slots.iter().map(label).collect()
}

#[test]
fn a_label_and_a_slot_that_is_added_or_changed_keep_their_notes_whatever_befalls_a_request() {
    let mut place = Place::start();
    let url = place.world.site.url();
    let first = place.key_file();
    let first = text(&first);
    succeed(&place.run(&["init", &url, "--key-file", first]));
    let mut expected = vec![(1, String::new())];
    let with_key = ["--key-file", first];
    for (what, lie) in lies() {
        let mut met = 0;
        for skip in 0.. {
            let label = format!("{what} {skip}");
            let add = ["key", "label", &url, "1", &label, "--key-file", first];
            let fired = place.run_under(what, &lie, skip, &add);
            expected[0].1 = label;
            assert_eq!(labels(&place.slots(&url, first)), expected, "{what} {skip}");
            if !fired {
                break;
            }
            met += 1;
        }
        // It is read and written.
        assert!(met >= 2, "{what}: {met} requests");

        // The last of them is the PUT.
        let new = place.key_file();
        let number = expected.len() as u64 + 1;
        let add = [
            "key",
            "add",
            &url,
            "--label",
            what,
            "--new-key-file",
            text(&new),
        ];
        let add = [&add[..], &with_key].concat();
        assert!(place.run_under(what, &lie, 1, &add), "{what}: no PUT");
        expected.push((number, what.to_owned()));
        assert_eq!(labels(&place.slots(&url, first)), expected, "add, {what}");

        let (newer, slot) = (place.key_file(), number.to_string());
        let change = [
            "key",
            "change",
            &url,
            "--slot",
            &slot,
            "--new-key-file",
            text(&newer),
        ];
        let change = [&change[..], &with_key].concat();
        assert!(place.run_under(what, &lie, 2, &change), "{what}: no PUT");
        assert_eq!(
            labels(&place.slots(&url, first)),
            expected,
            "change, {what}"
        );
        let test = ["key", "test", &url, "--key-file", text(&newer)];
        succeed(&place.run(&test));
    }
}

#[test]
fn a_new_volume_has_its_notes_whatever_befalls_the_request_that_writes_them() {
    let mut place = Place::start();
    let key = place.key_file();
    let key = text(&key);
    for (number, (what, lie)) in lies().into_iter().enumerate() {
        let url = format!("{}-{number}", place.world.site.url());
        let init = ["init", &url, "--key-file", key];
        assert!(place.run_under(what, &lie, 0, &init), "{what}: no PUT");
        let slots = place.slots(&url, key);
        assert_eq!(labels(&slots), [(1, String::new())], "{what}");
    }
}
