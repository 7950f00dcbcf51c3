//! Finding volumes in a bucket, and deleting one.

use std::{fs, time::Duration};

use strongroom::{server::Faults, session::Exit};

use crate::{
    running::assert_refused,
    support::{
        bucket::BUCKET,
        commands::{succeed, text},
        site::{Site, Transport},
    },
};

fn url(name: &str) -> String {
    format!("s3://{BUCKET}/{name}")
}

fn make(site: &Site, name: &str) {
    let made = site.strongroom(&["init", &url(name)]);
    succeed(&made.with_passphrase(site).output());
}

fn id_of(site: &Site, name: &str) -> String {
    let info = succeed(&site.strongroom(&["info", &url(name), "--json"]).output());
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    info["volume"].as_str().expect("an id").to_owned()
}

fn keys_below(site: &Site, name: &str) -> usize {
    let prefix = format!("{name}/");
    let keys = site.bucket().keys();
    keys.iter().filter(|key| key.starts_with(&prefix)).count()
}

#[test]
fn volumes_are_found_wherever_they_are_in_the_bucket() {
    let site = Site::start(Transport::Plain);
    make(&site, "a");
    make(&site, "hosts/b/c");
    let bucket = site.bucket();
    bucket.put("other/things/file", vec![1; 10]);
    bucket.put("damaged/strongroom.json", b"{}".to_vec());
    let listed = succeed(
        &site
            .strongroom(&["list", &format!("s3://{BUCKET}")])
            .output(),
    );
    let lines: Vec<_> = listed.lines().collect();
    let position = |what: &str| lines.iter().position(|line| line.starts_with(what));
    for name in ["a", "hosts/b/c"] {
        let id = id_of(&site, name);
        let line = position(&format!("{}  {id}  passphrase", url(name)));
        assert!(line.is_some(), "{name}: {listed}");
    }
    let damaged = position(&format!("{}  its header is unusable", url("damaged")));
    assert!(damaged.is_some(), "{listed}");
    // The volume of the site, the two, and the damaged one.
    assert_eq!(lines.len(), 4, "{listed}");

    let below = succeed(&site.strongroom(&["list", &url("hosts"), "--json"]).output());
    let found: serde_json::Value = serde_json::from_str(&below).expect("one line of JSON");
    assert_eq!(found["url"], url("hosts/b/c"));
    assert_eq!(found["slots"][0]["kind"], "passphrase");

    let mut nothing = site.strongroom(&["list", &url("other")]).command;
    assert_refused(&mut nothing, Exit::NoVolume, &["no volume", "init"]);
}

#[test]
fn a_bucket_of_too_many_prefixes_is_looked_through_in_part_and_that_is_said() {
    let site = Site::start(Transport::Plain);
    make(&site, "many/0-volume");
    make(&site, "many/z-volume");
    let bucket = site.bucket();
    for number in 0..10_050 {
        bucket.put(&format!("many/p{number:05}/file"), vec![1]);
    }
    let list = site.strongroom(&["list", &url("many")]).output();
    let listed = succeed(&list);
    assert!(listed.starts_with(&url("many/0-volume")), "{listed}");
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let told = String::from_utf8_lossy(&list.stderr);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 1, "{told}");
    assert!(
        lines[0].contains(&url("many")) && lines[0].contains("10000 prefixes at most"),
        "{told}"
    );
}

#[test]
fn a_volume_is_destroyed_by_its_id_and_nothing_else_with_it() {
    let site = Site::start(Transport::Plain);
    make(&site, "old");
    make(&site, "older");
    site.bucket().put("old/not ours", vec![1; 10]);
    let pass = site.path().join("pass");
    let mount = site.begin_mount_of(&url("old"), &["--passphrase-file", text(&pass)]);
    mount.wait_ready();
    fs::write(mount.dir.join("file"), vec![7; 3_000_000]).expect("write");
    mount.unmount();
    let (id, others) = (id_of(&site, "old"), keys_below(&site, "older"));
    let before = keys_below(&site, "old");

    for given in [&id_of(&site, "older"), ""] {
        let args = ["destroy", &url("old"), "--volume", given];
        let mut wrong = site.strongroom(&args).command;
        assert_refused(
            &mut wrong,
            Exit::Usage,
            &["not the id", "nothing was deleted"],
        );
    }
    let mut nobody = site.strongroom(&["destroy", &url("old")]).command;
    assert_refused(&mut nobody, Exit::Usage, &["no terminal", "--volume"]);
    assert_eq!(keys_below(&site, "old"), before);

    // Interrupted after the first request that deletes, it can be begun again.
    let slow = Faults {
        latency: Duration::from_millis(300),
        ..Faults::default()
    };
    site.server().set_faults(slow).unwrap();
    let args = ["destroy", &url("old"), "--volume", &id, "--unwatched"];
    let mut first = site.strongroom(&args).command;
    let mut first = first.spawn().expect("destroy");
    for _ in 0..500 {
        if keys_below(&site, "old") < before {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    first.kill().expect("kill");
    first.wait().expect("wait");
    assert!(keys_below(&site, "old") < before);
    site.server().set_faults(Faults::default()).unwrap();
    let said = succeed(&site.strongroom(&args).output());
    assert!(
        said.contains("destroyed") && said.contains("did not make"),
        "{said}"
    );
    assert_eq!(keys_below(&site, "old"), 1);
    assert_eq!(keys_below(&site, "older"), others);
    let mut again = site.strongroom(&args).command;
    assert_refused(&mut again, Exit::NoVolume, &["no volume"]);
}

#[test]
fn a_volume_that_is_mounted_is_not_destroyed() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    fs::write(mount.dir.join("file"), b"still here").expect("write");
    let info = succeed(&site.strongroom(&["info", &site.url(), "--json"]).output());
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    let id = info["volume"].as_str().expect("an id");
    let mut destroy = site
        .strongroom(&["destroy", &site.url(), "--volume", id])
        .command;
    assert_refused(&mut destroy, Exit::Held, &["mounted for writing"]);
    assert_eq!(
        fs::read(mount.dir.join("file")).expect("read"),
        b"still here"
    );
    mount.unmount();
}
