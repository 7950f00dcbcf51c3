//! A volume that opens with a key file, commands about it, and the epochs of what is stored.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{
    commands::{said, succeed, text, write_secret},
    mount::Mount,
    random::noise,
    site::{Site, Transport},
    tree::{Snapshot, snapshot},
};

/// A server with one volume, which opens with a key file: that costs no derivation.
pub struct Place {
    pub site: Site,
}

impl Place {
    pub fn new() -> Place {
        let site = Site::without_volume(Transport::Plain);
        write_secret(&site.path().join("key"), noise(99, 64));
        let place = Place { site };
        let url = place.site.url();
        succeed(&place.run(&["init", &url, "--create-bucket"]));
        place
    }

    /// The key file.
    pub fn key(&self) -> String {
        text(&self.site.path().join("key")).to_owned()
    }

    /// A command with the key file, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.site.strongroom(args).command;
        command.args(["--key-file", &self.key()]);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Makes a new key; what it said.
    pub fn rotate(&self) -> String {
        succeed(&self.run(&["key", "rotate", &self.site.url()]))
    }

    /// `key rotate --rewrite`, not yet run.
    pub fn rewriting(&self) -> Command {
        let url = self.site.url();
        let mut command = self.command(&["key", "rotate", &url, "--rewrite"]);
        command.args(["--memory", "128MiB"]);
        command
    }

    /// Writes everything anew; what it said.
    pub fn rewrite(&self) -> String {
        succeed(&self.rewriting().output().unwrap())
    }

    /// As the machine that made the volume.
    pub fn mount(&self, options: &[&str]) -> Mount<'_> {
        let (key, state) = (self.key(), self.site.scratch("state"));
        let mut all = vec!["--key-file", &key, "--state-dir", text(&state)];
        all.extend(options);
        let mount = self.site.begin_mount_of(&self.site.url(), &all);
        mount.wait_ready();
        mount
    }

    /// As a machine that never met it.
    pub fn mount_elsewhere(&self, options: &[&str]) -> Mount<'_> {
        let key = self.key();
        let mut all = vec!["--key-file", &key];
        all.extend(options);
        let mount = self.site.begin_mount_of(&self.site.url(), &all);
        mount.wait_ready();
        mount
    }

    /// The tree that a fresh read-only mount shows.
    pub fn tree(&self) -> Snapshot {
        let mount = self.mount(&["--read-only"]);
        let tree = snapshot(&mount.dir);
        mount.unmount();
        tree
    }

    /// `COMMAND --json`.
    pub fn json(&self, command: &str) -> Value {
        let url = self.site.url();
        let answer = self.run(&[command, &url, "--json"]);
        serde_json::from_str(&succeed(&answer)).unwrap()
    }

    /// Wants `fsck --data` to find nothing, and nothing that the metadata does not name.
    pub fn is_whole(&self) {
        let url = self.site.url();
        let output = self.run(&["fsck", &url, "--data", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        let summary: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(summary["unnamed_objects"], 0, "{summary}");
    }

    /// The epoch of each sealed object whose key below the volume begins so, as its provider reads
    /// it.
    pub fn epochs(&self, begin: &str) -> BTreeMap<String, u32> {
        let bucket = self.site.bucket();
        let begin = format!("laptop/{begin}");
        let keys = bucket.keys().into_iter();
        keys.filter(|key| key.starts_with(&begin))
            .map(|key| {
                let epoch = epoch_of(&bucket.get(&key));
                (key, epoch)
            })
            .collect()
    }

    /// The bytes of files that are under each epoch, and how many objects wait to be deleted, by
    /// `usage`.
    pub fn live_epochs(&self) -> (BTreeMap<String, u64>, u64) {
        let usage = self.json("usage");
        let epochs = usage["epochs"].as_array().unwrap().iter();
        let live = epochs.map(|of| (of["epoch"].to_string(), of["live_bytes"].as_u64().unwrap()));
        let waiting = usage["kinds"]["waiting"]["objects"].as_u64();
        (
            live.filter(|(_, bytes)| *bytes > 0).collect(),
            waiting.unwrap_or(0),
        )
    }
}

/// The epoch in the header of a sealed object.
pub fn epoch_of(stored: &[u8]) -> u32 {
    assert_eq!(&stored[..8], b"STRONGRM");
    u32::from_be_bytes(stored[32..36].try_into().unwrap())
}

/// Small files, a large one, one in many pieces, one that is in the metadata alone.
pub fn fill(dir: &Path, seed: u64) {
    fs::create_dir_all(dir.join("dir")).unwrap();
    for index in 0..30 {
        let name = format!("dir/small{index}");
        fs::write(dir.join(name), noise(seed + index, 20_000)).unwrap();
    }
    fs::hard_link(dir.join("dir/small0"), dir.join("hard")).unwrap();
    fs::write(dir.join("big"), noise(seed + 50, 12 << 20)).unwrap();
    let pieces = fs::File::create(dir.join("pieces")).unwrap();
    for round in 0..3u64 {
        for index in 0..40u64 {
            let at = (index * 7 + round * 13) % 97 * 50_000;
            std::os::unix::fs::FileExt::write_all_at(&pieces, &noise(seed + index, 9000), at)
                .unwrap();
        }
        pieces.sync_all().unwrap();
    }
    let inline = fs::File::create(dir.join("inline")).unwrap();
    std::io::Write::write_all(&mut &inline, b"a line that was synced\n").unwrap();
    inline.sync_all().unwrap();
}
