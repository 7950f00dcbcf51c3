//! `usage` and `which`, where the store loses an answer, is late, or does a request twice: each of
//! their requests meets each of these once, and the answer stays what it is.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use crate::{
    support::{
        commands::{said, succeed, text},
        lying::{Lie, Op, Rule, request::ALL},
        random::noise,
    },
    world::World,
};

/// How late an answer is that comes late.
const LATE: Duration = Duration::from_millis(500);

/// The treatments of one request.
fn lies() -> [(&'static str, Lie); 3] {
    [
        ("answer lost", Lie::ResetAfter),
        ("late", Lie::Hang(LATE)),
        ("done twice", Lie::LateDuplicate),
    ]
}

/// A volume with some files, and the path of its key file.
fn volume() -> (World, String) {
    let world = World::without_volume();
    let site = &world.site;
    let key = site.path().join("key");
    fs::write(&key, noise(1, 64)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let key = text(&key).to_owned();
    let init = ["init", &site.url(), "--create-bucket", "--key-file", &key];
    succeed(&site.strongroom(&init).output());
    let mount = site.begin_mount_of(&site.url(), &["--key-file", &key]);
    mount.wait_ready();
    for number in 0..5 {
        let path = mount.dir.join(format!("small{number}"));
        fs::write(path, noise(number, 20_000)).unwrap();
    }
    fs::write(mount.dir.join("large"), noise(7, 3 << 20)).unwrap();
    mount.unmount();
    (world, key)
}

#[test]
fn each_request_of_a_visit_may_be_lost_late_or_done_twice() {
    let (world, key) = volume();
    let url = world.site.url();
    for command in [&["usage", &url][..], &["which", &url, "/large"]] {
        let all = [command, &["--json", "--key-file", &key]].concat();
        let run = || world.site.strongroom(&all).output();
        world.store.forget();
        let honest = succeed(&run());
        let requests = world.store.seen().len() as u64;
        assert!(requests > 5, "{command:?}: {requests} requests");
        assert_eq!(succeed(&run()), honest, "{command:?}");
        for (what, lie) in lies() {
            for skip in 0..requests {
                let any: Vec<Op> = ALL.to_vec();
                let fired = world.store.lie(Rule::on(any).skip(skip).once(lie.clone()));
                let output = run();
                let told = format!("{command:?}, {what}, request {skip}: {}", said(&output));
                assert!(output.status.success(), "{told}");
                assert_eq!(fired.count(), 1, "{told}");
                let answer = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(answer, honest, "{told}");
                world.store.heal();
            }
        }
    }
}

#[test]
fn each_listing_of_a_mount_that_is_asked_may_be_lost_late_or_done_twice() {
    let (world, key) = volume();
    let site = &world.site;
    let mount = site.begin_mount_of(&site.url(), &["--key-file", &key, "--read-only"]);
    mount.wait_ready();
    let listings = [Op::List, Op::ListUploads, Op::ListParts];
    for command in [
        &["usage", text(&mount.dir), "--json"][..],
        &["which", text(&mount.dir), "/large", "--json"],
    ] {
        let run = || site.strongroom(command).output();
        world.store.forget();
        let honest = succeed(&run());
        let seen = world.store.seen();
        let seen = seen.iter().filter(|seen| listings.contains(&seen.op));
        let requests = seen.count() as u64;
        if command[0] == "usage" {
            assert!(requests >= 2, "{requests} listings");
        }
        for (what, lie) in lies() {
            for skip in 0..requests {
                let rule = Rule::on(listings).skip(skip);
                let fired = world.store.lie(rule.once(lie.clone()));
                let output = run();
                let told = format!("{command:?}, {what}, listing {skip}: {}", said(&output));
                assert!(output.status.success(), "{told}");
                assert_eq!(fired.count(), 1, "{told}");
                let answer = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(answer, honest, "{told}");
                world.store.heal();
            }
        }
    }
    mount.unmount();
}
