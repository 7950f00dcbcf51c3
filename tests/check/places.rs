//! `usage` and `which` agree with the bucket's own listing and with the mount.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use serde_json::Value;

use crate::{
    copies::{command, mount, site},
    support::{
        bucket::BUCKET,
        commands::{said, succeed},
        random::{Random, noise},
        site::Site,
    },
};

/// The lines of a JSON answer.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `which URL ... --json`, with the key.
fn which(site: &Site, target: &str) -> Vec<Value> {
    let output = command(site, "which", &site.url(), &[target, "--json"]);
    lines(&succeed(&output))
}

/// `which DIR ... --json`, without any secret.
fn which_in(site: &Site, dir: &Path, target: &str) -> Vec<Value> {
    let args = ["which", dir.to_str().unwrap(), target, "--json"];
    lines(&succeed(&site.strongroom(&args).output()))
}

fn usage(site: &Site, options: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(options);
    let output = command(site, "usage", &site.url(), &all);
    serde_json::from_str(&succeed(&output)).unwrap()
}

fn usage_in(site: &Site, dir: &Path) -> Value {
    let args = ["usage", dir.to_str().unwrap(), "--json"];
    serde_json::from_str(&succeed(&site.strongroom(&args).output())).unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// Files large and small, overwritten, cut off, removed, linked, renamed.
fn random_load(dir: &Path, random: &mut Random) {
    for name in ["a", "b", "c"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    for step in 0..160 {
        let any = |random: &mut Random| {
            let folder = *random.pick(&["a", "b", "c"]);
            dir.join(folder).join(format!("file{}", random.below(12)))
        };
        let (path, other) = (any(random), any(random));
        // A file that is not there cannot be changed, and that is no matter.
        let _ = match random.below(12) {
            0..=3 => {
                let len = random.below(150_000);
                fs::write(&path, random.noise(len))
            }
            4 => fs::write(&path, random.noise((3 << 20) + 17)),
            5 | 6 => fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| {
                    let bytes = random.noise(30_000);
                    file.write_all_at(&bytes, random.below(200_000))
                }),
            7 => fs::remove_file(&path),
            8 => fs::hard_link(&path, dir.join(format!("a/link{step}"))),
            9 => fs::rename(&path, &other),
            10 => fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(random.below(100_000))),
            _ => fs::write(&path, b"a few bytes").and_then(|()| fs::File::open(&path)?.sync_all()),
        };
        if step % 40 == 39
            && let Ok(file) = fs::File::open(&other)
        {
            file.sync_all().unwrap();
        }
    }
}

/// Puts into the bucket what no mount has made: a leftover, a foreign object, an upload. Returns
/// the leftover's key.
fn put_strays(site: &Site) -> String {
    let leftover = format!("laptop/data/{}/{:016x}", "ab".repeat(16), 3);
    site.bucket().put(&leftover, noise(9, 5000));
    site.bucket().put("laptop/data/readme", b"mine".to_vec());
    let client = site.bucket().client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let key = format!("laptop/data/{}/{:016x}", "cd".repeat(16), 4);
        let begin = client.create_multipart_upload().bucket(BUCKET).key(&key);
        let upload = begin.send().await.unwrap();
        let part = client.upload_part().bucket(BUCKET).key(&key);
        let part = part.upload_id(upload.upload_id().unwrap()).part_number(1);
        part.body(noise(3, 70_000).into()).send().await.unwrap();
    });
    leftover
}

/// The kind of an object by its place, as far as that tells it.
fn place(key: &str) -> &'static str {
    match key.strip_prefix("laptop/").unwrap() {
        "data/readme" => "foreign",
        key if key.starts_with("data/") => "data",
        key if key.starts_with("meta/wal/") => "log",
        key if key.starts_with("meta/compacted/") => "tables",
        key if key.starts_with("meta/manifest/") => "manifests",
        key if key.starts_with("meta/") => "upkeep",
        "lease" => "lease",
        _ => "header",
    }
}

#[test]
fn after_a_random_load_usage_and_which_agree_with_the_bucket_to_the_byte() {
    let site = site();
    let url = site.url();
    let mut random = Random::new(13);
    for _ in 0..2 {
        let mounted = mount(&site, &url, &["--upload-delay", "200ms"]);
        random_load(&mounted.dir, &mut random);
        mounted.unmount();
    }
    let leftover = put_strays(&site);

    let listed: BTreeMap<String, u64> = site.bucket().sizes().into_iter().collect();
    let usage = usage(&site, &[]);
    let total = (
        number(&usage["total"]["objects"]),
        number(&usage["total"]["bytes"]),
    );
    assert_eq!(
        total,
        (listed.len() as u64, listed.values().sum()),
        "{usage}"
    );
    let kinds = usage["kinds"].as_object().unwrap();
    let sum = |field: &str| kinds.values().map(|kind| number(&kind[field])).sum::<u64>();
    assert_eq!((sum("objects"), sum("bytes")), total, "{usage}");
    let mut by_place: BTreeMap<&str, u64> = BTreeMap::new();
    for (key, bytes) in &listed {
        *by_place.entry(place(key)).or_default() += bytes;
    }
    let bytes_of = |kind: &str| kinds.get(kind).map_or(0, |kind| number(&kind["bytes"]));
    for (place, bytes) in &by_place {
        let counted = match *place {
            "data" => ["packs", "single", "waiting", "leftovers"]
                .map(bytes_of)
                .iter()
                .sum(),
            place => bytes_of(place),
        };
        assert_eq!(counted, *bytes, "{place}: {usage}");
    }
    assert_eq!(bytes_of("leftovers"), 5000, "{usage}");
    assert!(bytes_of("packs") > 0 && bytes_of("single") > 0, "{usage}");
    assert!(bytes_of("waiting") > 0, "nothing was overwritten: {usage}");
    let uploads = (
        number(&usage["uploads"]["uploads"]),
        number(&usage["uploads"]["bytes"]),
    );
    assert_eq!(uploads, (1, 70_000), "{usage}");
    for nothing in ["missing_objects", "odd_objects", "nameless"] {
        assert_eq!(usage[nothing], 0, "{usage}");
    }

    // Each path's objects are there, and what they hold adds up to what the objects hold.
    let mounted = mount(&site, &url, &["--read-only"]);
    let mut paths: BTreeMap<u64, (u64, BTreeSet<String>)> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&mounted.dir) {
        let entry = entry.unwrap();
        let facts = entry.metadata().unwrap();
        if facts.is_file() {
            let path = entry.path().strip_prefix(&mounted.dir).unwrap();
            let file = paths.entry(facts.ino()).or_default();
            file.0 = facts.size();
            file.1.insert(format!("/{}", path.to_str().unwrap()));
        }
    }
    assert!(
        paths.values().any(|(_, names)| names.len() > 1),
        "no hard link"
    );
    let (mut live, mut inline): (BTreeMap<String, u64>, u64) = Default::default();
    for (ino, (size, names)) in &paths {
        let path = names.first().unwrap();
        let answer = which_in(&site, &mounted.dir, path);
        let file = &answer[0];
        assert_eq!((number(&file["ino"]), number(&file["size"])), (*ino, *size));
        let told: BTreeSet<String> = serde_json::from_value(file["paths"].clone()).unwrap();
        assert_eq!(&told, names);
        let mut held = number(&file["inline_bytes"]);
        inline += held;
        for part in &answer[1..] {
            let object = part["object"].as_str().unwrap();
            assert!(listed.contains_key(object), "{object} is not in the bucket");
            held += number(&part["bytes"]);
            *live.entry(object.to_owned()).or_default() += number(&part["bytes"]);
        }
        assert_eq!(number(&file["allocated_bytes"]), held, "{path}");
        // The same by the inode, and below the mount's own directory.
        assert_eq!(which_in(&site, &mounted.dir, &format!("ino:{ino}")), answer);
        let absolute = format!("{}{path}", mounted.dir.display());
        assert_eq!(which_in(&site, &mounted.dir, &absolute), answer);
    }
    assert_eq!(live.values().sum::<u64>(), sum("live_bytes"), "{usage}");
    assert_eq!(inline, number(&usage["inline_bytes"]), "{usage}");
    assert_eq!(paths.len() as u64, number(&usage["files"]), "{usage}");
    let sizes = paths.values().map(|(size, _)| size).sum::<u64>();
    assert_eq!(sizes, number(&usage["logical_bytes"]), "{usage}");

    // Each object is of the kind that usage counted it for, and its files are those.
    let mut counted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (key, bytes) in &listed {
        // Keys that Strongroom does not make look like paths, unless they come with their bucket.
        let target = match place(key) {
            "foreign" => format!("s3://{BUCKET}/{key}"),
            _ => key.clone(),
        };
        // A read-only mount cannot know that no mount elsewhere is about to commit it.
        let answer = match *key == leftover {
            true => which(&site, &target),
            false => which_in(&site, &mounted.dir, &target),
        };
        let object = &answer[0];
        assert_eq!(number(&object["stored_bytes"]), *bytes, "{object}");
        let kind = counted.entry(object["is"].as_str().unwrap().to_owned());
        let kind = kind.or_default();
        *kind = (kind.0 + 1, kind.1 + bytes);
        let bytes = live.get(key).copied().unwrap_or(0);
        assert_eq!(number(&object["live_bytes"]), bytes, "{object}");
        let held = answer[1..].iter().map(|part| number(&part["bytes"]));
        assert_eq!(held.sum::<u64>(), bytes, "{answer:?}");
        for holder in &answer[1..] {
            let names: BTreeSet<String> = serde_json::from_value(holder["paths"].clone()).unwrap();
            assert_eq!(names, paths[&number(&holder["ino"])].1, "{holder}");
        }
    }
    let of_usage = kinds.iter().map(|(kind, tally)| {
        let tally = (number(&tally["objects"]), number(&tally["bytes"]));
        (kind.clone(), tally)
    });
    assert_eq!(counted, of_usage.collect(), "{usage}");

    // The mount counts the same, but for its own note and for the leftover.
    let by_mount = usage_in(&site, &mounted.dir);
    for kind in [
        "packs",
        "single",
        "waiting",
        "log",
        "tables",
        "manifests",
        "header",
    ] {
        assert_eq!(by_mount["kinds"][kind], usage["kinds"][kind], "{by_mount}");
    }
    assert_eq!(
        by_mount["kinds"]["uncommitted"]["bytes"], 5000,
        "{by_mount}"
    );
    assert_eq!(by_mount["kinds"]["notes"]["objects"], 1, "{by_mount}");
    mounted.unmount();
}

#[test]
fn a_writable_mount_answers_too_and_a_missing_object_is_told() {
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &[]);
    let large = mounted.dir.join("large");
    fs::write(&large, noise(1, 9 << 20)).unwrap();
    fs::File::open(&large).unwrap().sync_all().unwrap();
    let answer = which_in(&site, &mounted.dir, "large");
    let object = answer[1]["object"].as_str().unwrap().to_owned();
    let beside = which(&site, "/large");
    assert_eq!(
        beside, answer,
        "another look beside the mount says otherwise"
    );
    let counted = usage_in(&site, &mounted.dir);
    assert_eq!(counted["total"]["live_bytes"], 9 << 20, "{counted}");
    assert_eq!(counted["missing_objects"], 0, "{counted}");
    mounted.unmount();

    site.bucket().delete(&object);
    let counted = usage(&site, &[]);
    assert_eq!(counted["missing_objects"], 1, "{counted}");
    let answer = which(&site, &object);
    assert_eq!(answer[0]["is"], "missing", "{answer:?}");
    assert_eq!(answer[1]["paths"][0], "/large", "{answer:?}");
}

#[test]
fn costs_need_prices_that_are_given_where_the_store_is_not_aws() {
    let site = site();
    let unknown = command(&site, "usage", &site.url(), &["--cost"]);
    let text = said(&unknown);
    assert_eq!(unknown.status.code(), Some(2), "{text}");
    let line = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(line.lines().count(), 1, "{text}");
    assert!(
        line.contains("--price-storage") && line.contains("--price-request"),
        "{text}"
    );
    assert!(
        text.contains("volume header"),
        "the rest is not shown: {text}"
    );
    let prices = [
        "--cost",
        "--price-storage",
        "2000000",
        "--price-request",
        "5",
    ];
    let priced = usage(&site, &prices);
    let stored = number(&priced["total"]["bytes"]) as f64 / f64::from(1 << 30) * 2e6;
    let cost = priced["cost"]["storage_a_month"].as_f64().unwrap();
    assert!((cost - stored).abs() < 1e-6, "{priced}");
    let look = number(&priced["requests"]) as f64 / 200.0;
    assert!(
        (priced["cost"]["this_look"].as_f64().unwrap() - look).abs() < 1e-9,
        "{priced}"
    );
    let wrong = command(
        &site,
        "usage",
        &site.url(),
        &["--cost", "--price-storage", "-3"],
    );
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

#[test]
fn what_is_not_there_is_one_line_with_a_code_of_its_own() {
    let site = site();
    let absent = format!("data/{}/{:016x}", "ab".repeat(16), 3);
    for (target, code) in [
        ("/no/such/file", 36),
        (absent.as_str(), 36),
        ("ino:999999", 36),
        ("ino:many", 2),
        ("s3://elsewhere/laptop/lease", 2),
    ] {
        let output = command(&site, "which", &site.url(), &[target]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{target}: {said}");
        assert!(output.stdout.is_empty(), "{said}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr).lines().count(),
            1,
            "{said}"
        );
    }
    let dir = site.scratch("plain");
    for args in [vec!["usage"], vec!["which"]] {
        let mut args = [args, vec![dir.to_str().unwrap()]].concat();
        if args[0] == "which" {
            args.push("/x");
        }
        let output = site.strongroom(&args).output();
        assert_eq!(output.status.code(), Some(22), "{}", said(&output));
    }
    // The root and the lease are there in every volume.
    assert_eq!(which(&site, "/")[0]["is"], "directory");
    assert_eq!(which(&site, "strongroom.json")[0]["is"], "header");
}

/// Records are read, and objects listed, by the thousand.
#[test]
fn more_than_a_thousand_objects_of_one_session_are_counted_each_once_and_one_that_is_gone_is_missed()
 {
    const FILES: u64 = 1100;
    const LEN: u64 = 5000;
    let site = site();
    let url = site.url();
    let mounted = mount(&site, &url, &[]);
    for number in 0..FILES {
        // Each file that is synced by itself gets an object of its own.
        let file = fs::File::create(mounted.dir.join(format!("file{number}"))).unwrap();
        file.write_all_at(&noise(number, LEN as usize), 0).unwrap();
        file.sync_all().unwrap();
    }
    mounted.unmount();
    let listed: BTreeMap<String, u64> = site.bucket().sizes().into_iter().collect();
    let data: Vec<&String> = listed.keys().filter(|key| place(key) == "data").collect();
    assert!(data.len() as u64 >= FILES, "{} objects", data.len());
    let counted = |name: &str| {
        let usage = usage(&site, &[]);
        let kinds = usage["kinds"].as_object().unwrap().values();
        let live: u64 = kinds.map(|kind| number(&kind["live_bytes"])).sum();
        assert_eq!(usage["odd_objects"], 0, "{name}: {usage}");
        let total = (
            number(&usage["total"]["objects"]),
            number(&usage["total"]["bytes"]),
        );
        (total, live, number(&usage["missing_objects"]))
    };
    let (objects, bytes) = (listed.len() as u64, listed.values().sum::<u64>());
    assert_eq!(counted("whole"), ((objects, bytes), FILES * LEN, 0));
    // The last one is beyond the first thousand, of the listing and of the records.
    let last = data[data.len() - 1];
    site.bucket().delete(last);
    let left = (objects - 1, bytes - listed[last]);
    let (total, live, missing) = counted("one gone");
    assert_eq!((total, missing), (left, 1));
    assert_eq!(live, (FILES - 1) * LEN);
}
