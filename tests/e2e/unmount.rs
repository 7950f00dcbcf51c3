//! Unmounting drains; a mount started meanwhile waits for the drain and then sees everything.

use std::{fs, time::Duration};

use strongroom::server::Faults;

use crate::support::{
    commands::shell,
    random::noise,
    site::{Site, Transport},
    tree::{assert_same, snapshot},
};

#[test]
fn a_mount_started_right_after_unmount_waits_for_the_drain() {
    let site = Site::start(Transport::Plain);
    let mut first = site.mount();
    site.server()
        .set_faults(Faults {
            latency: Duration::from_millis(30),
            bandwidth: Some(40_000_000),
            ..Faults::default()
        })
        .unwrap();
    fs::create_dir(first.dir.join("d")).unwrap();
    for index in 0..200u64 {
        fs::write(
            first.dir.join(format!("d/small-{index}")),
            noise(index, 3000),
        )
        .unwrap();
    }
    fs::write(first.dir.join("large"), noise(7, 60 << 20)).unwrap();
    let before = snapshot(&first.dir);
    first.let_go();
    let second = site.begin_mount(&[]);
    second.wait_ready();
    assert_same(&before, &snapshot(&second.dir), "after the drain");
    assert_eq!(first.wait_gone(), 0);
    second.unmount();
}

#[test]
fn umount_returns_when_everything_is_in_the_store_and_the_process_has_gone() {
    let site = Site::start(Transport::Plain);
    let mut mount = site.mount();
    fs::write(mount.dir.join("file"), noise(3, 30 << 20)).unwrap();
    let out = site
        .strongroom(&["umount", mount.dir.to_str().unwrap()])
        .output();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(!mount.is_mounted());
    assert_eq!(mount.wait_gone(), 0);
    let again = site.mount();
    assert_eq!(
        fs::read(again.dir.join("file")).unwrap(),
        noise(3, 30 << 20)
    );
    again.unmount();
}

#[test]
fn a_volume_mounted_for_writing_is_refused_to_a_second_writer_and_open_to_readers() {
    let site = Site::start(Transport::Plain);
    let writer = site.mount();
    fs::write(writer.dir.join("file"), b"contents").unwrap();
    shell(&writer.dir, "sync file");
    let mut second = site.begin_mount(&[]);
    assert_eq!(second.wait_gone(), 5, "{}", second.log_text());
    let reader = site.mount_with(&["--read-only"]);
    assert_eq!(fs::read(reader.dir.join("file")).unwrap(), b"contents");
    let refused = fs::write(reader.dir.join("new"), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(30), "EROFS");
    reader.unmount();
    writer.unmount();
}

#[test]
fn an_outage_is_a_pause() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    fs::write(mount.dir.join("before"), noise(1, 3 << 20)).unwrap();
    shell(&mount.dir, "sync before");
    site.server()
        .set_faults(Faults {
            outage: strongroom::server::Outage::Refuse,
            ..Faults::default()
        })
        .unwrap();
    let dir = mount.dir.clone();
    let writer = std::thread::spawn(move || {
        fs::write(dir.join("during"), noise(2, 3 << 20)).unwrap();
        fs::File::open(dir.join("during"))
            .unwrap()
            .sync_all()
            .unwrap();
    });
    std::thread::sleep(Duration::from_secs(8));
    assert!(
        !writer.is_finished(),
        "fsync returned while the store was away"
    );
    site.server().set_faults(Faults::default()).unwrap();
    writer.join().unwrap();
    mount.kill();
    let again = site.mount();
    assert_eq!(
        fs::read(again.dir.join("during")).unwrap(),
        noise(2, 3 << 20)
    );
    again.unmount();
}
