//! `status` tells what the mount does, in two forms.

use std::{fs, process::Command};

use crate::{
    running::BackgroundMount,
    support::{
        commands::{succeed, text},
        site::{Site, Transport},
    },
};

const OWNERS: [&str; 7] = [
    "dirty", "parked", "upload", "read", "cache", "table", "listing",
];

#[test]
fn status_reports_memory_requests_lease_and_what_is_not_yet_durable() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "status");
    mount.mount(&site, &["--memory", "256MiB"]);
    fs::write(mount.dir.join("file"), vec![1; 3 << 20]).unwrap();
    fs::File::open(mount.dir.join("file"))
        .unwrap()
        .sync_all()
        .unwrap();
    let open = fs::File::open(mount.dir.join("file")).unwrap();

    let report = mount.status(&site);
    assert_eq!(report["format"], 1);
    assert_eq!(report["mount"]["state"], "mounted");
    assert_eq!(report["mount"]["url"], site.url());
    assert_eq!(report["memory"]["limit_bytes"], 256 << 20);
    assert!(
        report["memory"]["rss_peak_bytes"].as_u64().unwrap()
            >= report["memory"]["rss_bytes"].as_u64().unwrap()
    );
    assert!(report["memory"]["rss_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(report["memory"]["allocated_bytes"].as_u64().unwrap() > 1 << 16);
    for owner in OWNERS {
        assert!(
            report["memory"]["owners"][owner]["current_bytes"].is_u64(),
            "{owner}"
        );
    }
    assert!(
        report["memory"]["owners"]["dirty"]["peak_bytes"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert_eq!(report["durability"]["dirty_bytes"], 0);
    assert_eq!(report["lease"]["state"], "mounted");
    assert_eq!(report["volume"]["bytes"], 3 << 20);
    assert_eq!(report["volume"]["inodes"], 2);
    assert!(report["counters"]["sent_bytes"].as_u64().unwrap() > 3 << 20);
    assert!(report["counters"]["open_handles"].as_u64().unwrap() >= 1);
    assert!(report["counters"]["meta_flushes"].as_u64().unwrap() >= 1);
    assert_eq!(
        report["counters"]["dirty_bytes"],
        report["durability"]["dirty_bytes"]
    );

    let table = succeed(&site.strongroom(&["status", text(&mount.dir)]).output());
    let memory = &report["memory"];
    assert_eq!(
        memory["rss_bytes"].as_i64().unwrap() - memory["explained_bytes"].as_i64().unwrap(),
        memory["unexplained_bytes"].as_i64().unwrap()
    );
    for label in [
        "Memory",
        "resident",
        "metadata blocks",
        "dirty",
        "Store",
        "frame cache",
        "lease",
    ] {
        assert!(table.contains(label), "{label}: {table}");
    }
    drop(open);
    mount.umount(&site);
}

#[test]
fn status_says_what_the_kernel_has_after_a_remount() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "remounted");
    mount.mount(&site, &[]);
    let read_only = || mount.status(&site)["mount"]["read_only"].as_bool().unwrap();
    for (option, expected) in [("ro", true), ("rw", false), ("bind,ro", true)] {
        let remounted = Command::new("mount")
            .args(["-i", "-o", &format!("remount,{option}"), text(&mount.dir)])
            .status()
            .unwrap();
        assert!(remounted.success());
        assert_eq!(read_only(), expected, "{option}");
        assert_eq!(fs::write(mount.dir.join("f"), b"x").is_err(), expected);
    }
    mount.umount(&site);
}

#[test]
fn every_key_of_the_report_is_documented() {
    fn keys(prefix: &str, value: &serde_json::Value, out: &mut Vec<String>) {
        if let Some(object) = value.as_object() {
            for (name, value) in object {
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                keys(&path, value, out);
            }
        } else {
            out.push(prefix.to_owned());
        }
    }
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "keys");
    mount.mount(&site, &[]);
    let mut found = Vec::new();
    keys("", &mount.status(&site), &mut found);
    mount.umount(&site);
    let page = fs::read_to_string("docs/operations.md").unwrap();
    for key in found {
        let parts: Vec<&str> = key.split('.').collect();
        let key = match parts[..] {
            ["memory", "owners", owner, field] => {
                assert!(OWNERS.contains(&owner), "{owner}");
                format!("memory.owners.NAME.{field}")
            }
            ["kernel_requests", _] => "kernel_requests.KIND".to_owned(),
            ["memory", "shares", share, field] => {
                assert!(page.contains(&format!("| `{share}` |")), "{share}");
                format!("memory.shares.NAME.{field}")
            }
            _ => key,
        };
        assert!(
            page.contains(&format!("`{key}`")),
            "docs/operations.md lacks {key}"
        );
    }
}
