//! A volume with a bit of everything, copies of it, and what is done to them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Output,
};

use tokio::runtime::Runtime;

use crate::{
    metadata_rows::Rows,
    support::{
        bucket::BUCKET,
        commands::{said, shell},
        mount::Mount,
        random::noise,
        site::{Site, Transport},
        tree::{Snapshot, assert_same, snapshot},
    },
};

/// Keys below a volume's prefix, and what is stored there.
pub type Picture = BTreeMap<String, Vec<u8>>;

/// The volume's prefix before it is copied.
const FIRST: &str = "laptop";

/// A server, and copies of one volume on it.
pub struct Original {
    pub site: Site,
    pub runtime: Runtime,
    picture: Picture,
    /// The tree that a mount of the whole volume shows.
    pub tree: Snapshot,
}

/// One copy, below a prefix of its own.
pub struct VolumeCopy<'a> {
    pub original: &'a Original,
    pub prefix: String,
}

/// A site whose volume opens with a key file, which costs no derivation.
pub fn site() -> Site {
    let site = Site::without_volume(Transport::Plain);
    fs::write(site.path().join("key"), noise(99, 64)).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(site.path().join("key"), mode).unwrap();
    init(&site, &site.url());
    site
}

fn init(site: &Site, url: &str) {
    let key = key_of(site);
    let made = site
        .strongroom(&["init", url, "--create-bucket", "--key-file", &key])
        .output();
    assert!(made.status.success(), "{}", said(&made));
}

pub fn key_of(site: &Site) -> String {
    site.path().join("key").to_str().unwrap().to_owned()
}

/// Mounts with the key file.
pub fn mount<'a>(site: &'a Site, url: &str, options: &[&str]) -> Mount<'a> {
    let key = key_of(site);
    let mut all = vec!["--key-file", &key];
    all.extend(options);
    let mount = site.begin_mount_of(url, &all);
    mount.wait_ready();
    mount
}

/// `strongroom COMMAND URL ...` with the key file and a state directory of its own.
pub fn command(site: &Site, name: &str, url: &str, options: &[&str]) -> Output {
    let key = key_of(site);
    // Copies of one volume have histories of their own, which no machine may mix up.
    let state = site.scratch(&format!("state-{}", url.rsplit('/').next().unwrap()));
    let state = state.to_str().unwrap();
    let mut args = vec![name, url, "--key-file", &key, "--memory", "128MiB"];
    args.extend(["--state-dir", state]);
    args.extend(options);
    site.strongroom(&args).output()
}

/// Wants `fsck` to end so; returns what it said.
pub fn fsck(site: &Site, url: &str, options: &[&str], code: i32) -> String {
    let output = command(site, "fsck", url, options);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "fsck {options:?}: {said}");
    said
}

/// The findings of `fsck --json`.
pub fn findings(site: &Site, url: &str, options: &[&str], code: i32) -> Vec<serde_json::Value> {
    let mut all = vec!["--json"];
    all.extend(options);
    let output = command(site, "fsck", url, &all);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &serde_json::Value| line["kind"] == "finding")
        .collect()
}

/// Files of every kind. What is said of sizes: a stream for `big`, packs for the rest, the
/// metadata for what was synced and is small.
pub fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("dir/sub")).unwrap();
    for index in 0..40u64 {
        let name = format!("dir/small{index}");
        fs::write(dir.join(name), noise(index + 1, 3000)).unwrap();
    }
    fs::hard_link(dir.join("dir/small0"), dir.join("dir/sub/hard")).unwrap();
    fs::write(dir.join("big"), noise(70, 12 << 20)).unwrap();
    let inline = fs::File::create(dir.join("inline")).unwrap();
    inline.write_all_at(b"a line that was synced\n", 0).unwrap();
    inline.sync_all().unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 20_000_000).unwrap();
    sparse.sync_all().unwrap();
    let fragmented = fs::File::create(dir.join("fragmented")).unwrap();
    for round in 0..3u64 {
        for index in 0..60u64 {
            let at = (index * 7 + round * 13) % 97 * 5000;
            fragmented.write_all_at(&noise(index, 4000), at).unwrap();
        }
        fragmented.sync_all().unwrap();
    }
    shell(
        dir,
        "ln -s small1 dir/link; setfattr -n user.note -v kept dir/small2; mkfifo fifo
         setfacl -m u:1001:r dir/small3; mkdir -p deep/a/b/c; printf x > deep/a/b/c/leaf
         mv dir/small39 deep/moved; chmod 2750 dir",
    );
}

impl Original {
    pub fn new() -> Original {
        let site = site();
        // Two mounts, so that there are several sessions; what the second overwrites leaves an
        // object mostly dead.
        let first = mount(&site, &site.url(), &[]);
        fill(&first.dir);
        first.unmount();
        let second = mount(&site, &site.url(), &[]);
        fs::write(second.dir.join("second"), noise(71, 1 << 20)).unwrap();
        for index in 10..30u64 {
            let name = format!("dir/small{index}");
            fs::write(second.dir.join(name), noise(index + 100, 2000)).unwrap();
        }
        second.unmount();
        let last = mount(&site, &site.url(), &["--read-only"]);
        let tree = snapshot(&last.dir);
        last.unmount();
        Original {
            tree,
            ..Original::of(site)
        }
    }

    /// The volume of a site as it is.
    pub fn of(site: Site) -> Original {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut original = Original {
            site,
            runtime,
            picture: Picture::new(),
            tree: Snapshot::new(),
        };
        original.picture = original.picture_of(FIRST);
        original
    }

    fn picture_of(&self, prefix: &str) -> Picture {
        let bucket = self.site.bucket();
        let prefix = format!("{prefix}/");
        let keys = bucket.keys().into_iter();
        keys.filter_map(|key| {
            let below = key.strip_prefix(&prefix)?.to_owned();
            Some((below, bucket.get(&key)))
        })
        .collect()
    }

    /// A copy of the volume. Keys are bound to the volume, not to where it is.
    pub fn case(&self, name: &str) -> VolumeCopy<'_> {
        let case = VolumeCopy {
            original: self,
            prefix: name.to_owned(),
        };
        for (key, object) in &self.picture {
            case.put(key, object.clone());
        }
        case
    }
}

impl VolumeCopy<'_> {
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/{}", self.prefix)
    }

    pub fn put(&self, key: &str, object: Vec<u8>) {
        let key = format!("{}/{key}", self.prefix);
        self.original.site.bucket().put(&key, object);
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        self.original
            .site
            .bucket()
            .get(&format!("{}/{key}", self.prefix))
    }

    pub fn delete(&self, key: &str) {
        self.original
            .site
            .bucket()
            .delete(&format!("{}/{key}", self.prefix));
    }

    /// Keys below the volume's prefix that begin so.
    pub fn keys(&self, begin: &str) -> Vec<String> {
        let prefix = format!("{}/", self.prefix);
        let keys = self.original.site.bucket().keys().into_iter();
        keys.filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned()))
            .filter(|key| key.starts_with(begin))
            .collect()
    }

    /// The copy's objects as they are now.
    pub fn picture(&self) -> Picture {
        self.original.picture_of(&self.prefix)
    }

    pub fn fsck(&self, options: &[&str], code: i32) -> String {
        fsck(&self.original.site, &self.url(), options, code)
    }

    pub fn findings(&self, options: &[&str], code: i32) -> Vec<serde_json::Value> {
        findings(&self.original.site, &self.url(), options, code)
    }

    /// The data object that holds byte `at` of a file, and where in its plaintext.
    pub fn object_of(&self, path: &str, at: u64) -> (String, u64) {
        self.with_rows(async |rows: &Rows| rows.object_of(path, at).await)
    }

    /// Opens the metadata as a program that knows its rows.
    pub fn with_rows<T>(&self, work: impl AsyncFnOnce(&Rows) -> T) -> T {
        self.original.runtime.block_on(async {
            let rows = Rows::open(&self.original.site, &self.url()).await;
            let done = work(&rows).await;
            rows.db.close().await.unwrap();
            done
        })
    }

    /// Everything but `hurt`, and what is in lost+found, is as it was, through a real mount.
    pub fn others_are_whole(&self, hurt: &[&str]) {
        let mount = mount(&self.original.site, &self.url(), &["--read-only"]);
        let mut found = snapshot(&mount.dir);
        mount.unmount();
        let mut expected = self.original.tree.clone();
        for tree in [&mut found, &mut expected] {
            tree.retain(|path, _| {
                let path = path.to_str().unwrap();
                let is_directory = [
                    "",
                    ".",
                    "dir",
                    "dir/sub",
                    "deep",
                    "deep/a",
                    "deep/a/b",
                    "deep/a/b/c",
                ];
                !path.starts_with("lost+found")
                    && !hurt.contains(&path)
                    // Their times and link counts change when something in them goes.
                    && !is_directory.contains(&path)
            });
        }
        assert_same(&expected, &found, &self.prefix);
    }

    /// Found, named, mended, and then clean, with all else as it was.
    pub fn is_found_and_mended(&self, options: &[&str], names: &[&str], hurt: &[&str]) -> String {
        let before = self.picture();
        let found = self.fsck(options, 4);
        assert!(before == self.picture(), "a check wrote something");
        for name in names {
            assert!(
                found.contains(name),
                "{}: no {name} in: {found}",
                self.prefix
            );
        }
        let mut repair = options.to_vec();
        repair.push("--repair");
        let mended = self.fsck(&repair, 1);
        let after = self.fsck(&["--data"], 0);
        assert!(after.contains("is whole"), "{after}");
        self.others_are_whole(hurt);
        format!("{found}{mended}")
    }

    /// The files in `/lost+found` and their contents, and where that is.
    pub fn lost_and_found(&self) -> (BTreeMap<String, Vec<u8>>, PathBuf) {
        let mount = mount(&self.original.site, &self.url(), &["--read-only"]);
        let home = mount.dir.join("lost+found");
        let files = fs::read_dir(&home).map(|entries| {
            entries
                .map(|entry| {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                    let bytes = fs::read(&path).unwrap_or_default();
                    (name, bytes)
                })
                .collect()
        });
        mount.unmount();
        (files.unwrap_or_default(), home)
    }
}
