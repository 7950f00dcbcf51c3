//! The volume header and its copy: damaged, old, or made to cost.

use std::{path::Path, process::Output, sync::Arc};

use sha2::{Digest, Sha256};

use super::{DEADLINE, MEMORY_BYTES, PATIENCE, Volume, assert_no_panic, watch_memory};
use crate::{
    support::{
        lying::{Kind, Lie, Op, Rule, answer::broken},
        site::PASSPHRASE,
    },
    world::{Start, World, exit_code, wait_start},
};

const HEADER: &str = "laptop/strongroom.json";
const COPY: &str = "laptop/strongroom.copy.json";

#[test]
fn one_damaged_header_is_replaced_by_the_other_and_two_are_refused() {
    let volume = Volume::make();
    let world = &volume.world;
    let bucket = world.site.bucket();
    let whole = bucket.get(HEADER);
    for key in [HEADER, COPY] {
        for damage in ["flipped", "cut", "gone"] {
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            match damage {
                "flipped" => damaged[middle] ^= 1,
                _ => damaged.truncate(middle),
            }
            match damage {
                "gone" => bucket.delete(key),
                _ => bucket.put(key, damaged),
            }
            let mount = world.begin_mount(&volume.state, &[]);
            mount.wait_ready();
            volume.assert_whole(&mount);
            mount.unmount();
            assert!(
                bucket.get(key) == whole,
                "{key} {damage} was not written anew"
            );
        }
    }
    world.store.lie(
        Rule::on([Op::Get])
            .of([Kind::Header])
            .always(Lie::change(broken::flip)),
    );
    let mut mount = world.begin_mount(&volume.state, &[]);
    assert_eq!(
        wait_start(&mut mount, DEADLINE),
        Start::Ended(15),
        "{}",
        mount.log_text()
    );
    assert_no_panic(&mount);
}

fn key(world: &World, state: &Path, args: &[&str]) -> Output {
    let mut run = world.site.strongroom(&["key", args[0], &world.site.url()]);
    run.command.args(&args[1..]).arg("--state-dir").arg(state);
    run.with_passphrase(&world.site).output()
}

fn secret_file(world: &World, name: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = world.site.path().join(name);
    std::fs::write(&path, format!("{name} {PASSPHRASE}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The header of before a slot was removed comes back under the attributes of the present one, so
/// that a conditional PUT goes through.
#[test]
fn a_replayed_header_is_refused_by_mount_and_by_key_and_no_removed_slot_comes_back() {
    let volume = Volume::make();
    let world = &volume.world;
    let (second, third) = (secret_file(world, "second"), secret_file(world, "third"));
    let added = key(
        world,
        &volume.state,
        &["add", "--new-passphrase-file", &second],
    );
    assert!(added.status.success(), "{added:?}");
    let old = world.site.bucket().get(HEADER);
    let removed = key(world, &volume.state, &["remove", "2"]);
    assert!(removed.status.success(), "{removed:?}");
    let replay = Rule::on([Op::Get]).of([Kind::Header]);
    world.store.lie(replay.always(Lie::Instead(Arc::new(old))));
    for options in [&[][..], &["--read-only"]] {
        let mut mount = world.begin_mount(&volume.state, options);
        assert_eq!(
            wait_start(&mut mount, DEADLINE),
            Start::Ended(24),
            "{options:?}: {}",
            mount.log_text()
        );
    }
    world.store.forget();
    let again = key(
        world,
        &volume.state,
        &["add", "--new-passphrase-file", &third],
    );
    assert!(
        !again.status.success(),
        "a key was added to a header of before: {again:?}"
    );
    assert_eq!(
        world.store.count(Op::Put, None),
        0,
        "the header was written"
    );
    world.store.heal();
    let mut run = world.site.strongroom(&["mount", &world.site.url()]);
    let dir = world.site.scratch("with-the-removed-one");
    run.command
        .arg(&dir)
        .args(["--foreground", "--passphrase-file", &second]);
    run.command.arg("--state-dir").arg(&volume.state);
    let refused = run.output();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    mount.unmount();
}

/// A header as anybody can make it: the checksum needs no key.
fn costly_header(honest: &[u8], slots: u32) -> Vec<u8> {
    const KIB: u32 = 1 << 20;
    let mut header: serde_json::Value = serde_json::from_slice(honest).unwrap();
    let template = header["slots"][0].clone();
    let bytes = |value: &serde_json::Value| {
        data_encoding::HEXLOWER
            .decode(value.as_str().unwrap().as_bytes())
            .unwrap()
    };
    let volume = bytes(&header["volume"]);
    let made: Vec<serde_json::Value> = (1..=slots)
        .map(|id| {
            let mut slot = template.clone();
            slot["id"] = id.into();
            slot["argon2id"] = serde_json::json!({"passes": 64, "memory_kib": KIB, "lanes": 64});
            slot
        })
        .collect();
    header["slots"] = made.into();
    let mut canonical = b"strongroom/1/header".to_vec();
    canonical.extend(header["format"].as_u64().unwrap().to_be_bytes());
    canonical.extend(&volume);
    canonical.extend(header["revision"].as_u64().unwrap().to_be_bytes());
    let epochs = header["epochs"].as_array().unwrap();
    canonical.extend((epochs.len() as u64).to_be_bytes());
    for epoch in epochs {
        canonical.extend((epoch["epoch"].as_u64().unwrap() as u32).to_be_bytes());
        canonical.extend(bytes(&epoch["wrapped"]));
    }
    canonical.extend(u64::from(slots).to_be_bytes());
    for slot in header["slots"].as_array().unwrap() {
        let salt = bytes(&slot["salt"]);
        canonical.extend(b"strongroom/1/slot");
        canonical.extend(&volume);
        canonical.extend((slot["id"].as_u64().unwrap() as u32).to_be_bytes());
        canonical.push(1);
        for number in [64, KIB, 64, salt.len() as u32] {
            canonical.extend(number.to_be_bytes());
        }
        canonical.extend(salt);
        canonical.extend(bytes(&slot["wrapped"]));
    }
    canonical.extend(bytes(&header["mac"]));
    header["checksum"] = data_encoding::HEXLOWER
        .encode(&Sha256::digest(&canonical))
        .into();
    serde_json::to_vec(&header).unwrap()
}

#[test]
fn a_header_whose_slots_cost_hours_is_refused_within_memory_and_a_minute() {
    let volume = Volume::make();
    let world = &volume.world;
    let honest = world.site.bucket().get(HEADER);
    for slots in [1, 32] {
        let costly = costly_header(&honest, slots);
        let rule = Rule::on([Op::Get]).of([Kind::Header]);
        world.store.lie(rule.always(Lie::Instead(Arc::new(costly))));
        for options in [&[][..], &["--read-only"]] {
            let mut mount = world.begin_mount(&world.site.scratch("other"), options);
            let (ended, peak) = watch_memory(mount.pid(), DEADLINE, || mount.has_ended());
            assert!(
                ended,
                "{slots} slots at the cap: still deriving, peak {} MiB",
                peak >> 20
            );
            assert!(
                peak < MEMORY_BYTES,
                "{slots} slots at the cap: peak {} MiB",
                peak >> 20
            );
            let code = mount.wait_gone();
            assert!(code > 0);
            // Not "wrong passphrase": that would be believed.
            eprintln!(
                "{slots} slots {options:?}: exit {code}, peak {} MiB: {}",
                peak >> 20,
                mount.log_text().trim()
            );
        }
        world.store.heal();
    }
    let mount = world.begin_mount(&volume.state, &[]);
    mount.wait_ready();
    volume.assert_whole(&mount);
    assert_eq!(exit_code(mount, PATIENCE), Some(0));
}
