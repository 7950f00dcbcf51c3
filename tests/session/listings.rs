//! A 404 to a request that names no object, or that nothing depends on any more, is no loss.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    machine::{Machine, site, write_synced},
    provider::answering,
};

#[test]
fn stray_404s_to_listings_are_asked_again_and_taken_for_no_damage() {
    let mut site = site();
    let proxy = answering(&site, |request, answered| {
        (request.contains("list-type=2") && answered < 6).then_some(404)
    });
    site.endpoint = proxy.url();
    let mount = Machine::new(&site, "one").mount();
    write_synced(&mount.dir.join("file"), b"written");
    mount.unmount();
    assert_eq!(proxy.answered(), 6);
}

#[test]
fn an_unmount_that_lost_nothing_succeeds_whatever_the_last_record_of_it_meets() {
    let mut site = site();
    let leaving = Arc::new(AtomicBool::new(false));
    let proxy = {
        let leaving = Arc::clone(&leaving);
        answering(&site, move |request, answered| {
            let log = request.starts_with("PUT ") && request.contains("/meta/wal/");
            (log && leaving.load(Ordering::SeqCst) && answered < 1).then_some(404)
        })
    };
    site.endpoint = proxy.url();
    let machine = Machine::new(&site, "one");
    let mount = machine.mount();
    write_synced(&mount.dir.join("file"), b"written");
    leaving.store(true, Ordering::SeqCst);
    // Wants exit code 0.
    mount.unmount();
    assert_eq!(proxy.answered(), 1);
    let mount = machine.mount();
    assert_eq!(std::fs::read(mount.dir.join("file")).unwrap(), b"written");
    mount.unmount();
}
