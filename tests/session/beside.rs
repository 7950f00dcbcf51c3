//! Mounts beside one that writes, on the same machine: what that one notes while they look at the
//! store is newer than what they see.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use strongroom::{server::Faults, session::Exit};

use crate::{
    machine::{Machine, site},
    support::{
        mount::Mount,
        site::Site,
        wait::{SOON, block_until},
    },
};

/// Long enough that the writer notes several states during each look.
const LATENCY: Duration = Duration::from_millis(20);

/// Files that are written in turn.
const FILES: u32 = 50;

fn busy(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("busy{}", number % FILES))
}

/// Runs `beside` while files with ascending numbers are written to `mount` and synced, as fast as
/// that goes. The writer stops when `mount` fails. How many were synced.
fn while_written(mount: &Mount<'_>, beside: impl FnOnce()) -> u32 {
    let (ended, written) = (AtomicBool::new(false), AtomicU32::new(0));
    let dir = mount.dir.as_path();
    let write = |number: u32| -> std::io::Result<()> {
        let mut file = fs::File::create(busy(dir, number))?;
        file.write_all(number.to_string().as_bytes())?;
        file.sync_all()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) && write(written.load(Ordering::Acquire)).is_ok() {
                written.fetch_add(1, Ordering::AcqRel);
            }
        });
        block_until("the writer writes", SOON, || {
            written.load(Ordering::Acquire) > 5
        });
        // Lets the scope end, too, when `beside` panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _end = End(&ended);
        beside();
    });
    written.into_inner()
}

fn far(site: &Site) {
    let faults = Faults {
        latency: LATENCY,
        ..Faults::default()
    };
    site.server().set_faults(faults).unwrap();
}

#[test]
fn who_reads_beside_a_busy_writer_on_one_machine_is_not_told_of_a_rollback() {
    let site = site();
    let machine = Machine::new(&site, "both");
    let mount = machine.mount();
    far(&site);
    while_written(&mount, || {
        for _ in 0..10 {
            machine.mount_with(&["--read-only"]).unmount();
        }
    });
    mount.unmount();
}

#[test]
fn who_takes_over_from_a_busy_writer_on_one_machine_is_not_told_of_a_rollback() {
    let site = site();
    let machine = Machine::new(&site, "both");
    far(&site);
    let mut mount = machine.mount();
    for _ in 0..3 {
        let mut next = None;
        let synced = while_written(&mount, || {
            next = Some(machine.mount_with(&["--takeover"]));
        });
        mount.let_go();
        let code = mount.wait_gone();
        assert_eq!(
            code,
            i32::from(Exit::TakenOver.code()),
            "{}",
            mount.log_text()
        );
        mount = next.expect("mounted");
        for number in synced.saturating_sub(FILES / 2)..synced {
            let found = fs::read_to_string(busy(&mount.dir, number)).unwrap();
            assert_eq!(found, number.to_string(), "of {synced} that were synced");
        }
    }
    mount.unmount();
}
