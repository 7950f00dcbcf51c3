//! The store is away and memory is full of what cannot be sent: everything that does not need the
//! store goes on.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use strongroom::server::{Faults, Outage};

use crate::support::{
    site::{Site, Transport},
    wait::{block_until, block_until_quiet},
};

const WRITERS: usize = 8;
const PIECES: usize = 40;

fn set_outage(site: &Site, outage: Outage) {
    let faults = Faults {
        outage,
        ..Default::default()
    };
    site.server().set_faults(faults).expect("faults");
}

#[test]
fn an_outage_with_full_memory_stops_writers_and_nobody_else() {
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let mount = site.mount();
    fs::write(mount.dir.join("known"), "known").expect("write");
    File::open(mount.dir.join("known"))
        .and_then(|file| file.sync_all())
        .expect("fsync");
    // From here on it is cached.
    fs::read(mount.dir.join("known")).expect("read");
    set_outage(&site, Outage::Refuse);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = mount.dir.join(format!("w{writer}"));
            scope.spawn(move || {
                let mut file = File::create(path).expect("create");
                for _ in 0..PIECES {
                    file.write_all(&vec![writer as u8 + 1; 1 << 20])
                        .expect("write");
                }
                file.sync_all().expect("fsync");
            });
        }
        // Until all wait: what they wrote does not grow any more.
        let dirty = || {
            let status = mount.status();
            status["durability"]["dirty_bytes"].as_u64().expect("bytes")
        };
        let (quiet, within) = (Duration::from_secs(1), Duration::from_secs(60));
        block_until("something is dirty", within, || dirty() > 0);
        block_until_quiet("writers", quiet, within, dirty);
        let began = Instant::now();
        assert_eq!(
            fs::read_to_string(mount.dir.join("known")).expect("read"),
            "known"
        );
        assert_eq!(fs::read_dir(&mount.dir).expect("list").count(), WRITERS + 1);
        fs::create_dir(mount.dir.join("made meanwhile")).expect("mkdir");
        let listed = Command::new("ls").arg("-l").arg(&mount.dir).output();
        assert!(listed.expect("ls").status.success());
        let answered = began.elapsed();
        assert!(answered < Duration::from_secs(5), "took {answered:?}");
        set_outage(&site, Outage::None);
    });
    assert!(mount.memory_bytes("VmHWM") < 128 << 20);
    mount.unmount();

    let mount = site.mount();
    for writer in 0..WRITERS {
        let bytes = fs::read(mount.dir.join(format!("w{writer}"))).expect("read");
        assert_eq!(bytes.len(), PIECES << 20);
        assert!(bytes.iter().all(|byte| *byte == writer as u8 + 1));
    }
    assert!(mount.dir.join("made meanwhile").is_dir());
    mount.unmount();
}
