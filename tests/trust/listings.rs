//! A 404 to a request that names no object, or that nothing depends on any more, is no loss.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use strongroom::cli::exit::Exit;

use crate::{
    provider::{Provider, Proxy},
    support::{Machine, fails, site, write_synced},
};

#[test]
fn a_stray_404_to_a_listing_is_asked_again() {
    let mut site = site();
    let address = site.server().local_addr();
    let proxy = Proxy::before(address, |request, answered| {
        (request.contains("list-type=2") && answered < 3).then_some(404)
    });
    site.endpoint = proxy.url.clone();
    let mount = Machine::new(&site, "one").mount();
    write_synced(&mount.dir.join("file"), b"written");
    mount.unmount();
    assert_eq!(proxy.answered(), 3);
}

#[test]
fn a_store_that_lists_nothing_is_not_taken_for_a_damaged_volume() {
    let mut site = site();
    let provider = Provider::of(&site);
    let address = site.server().local_addr();
    let proxy = Proxy::before(address, |request, _| {
        request.contains("list-type=2").then_some(404)
    });
    site.endpoint = proxy.url.clone();
    let before = provider.listing();
    let machine = Machine::new(&site, "one");
    let said = fails(&mut machine.mount_command(&[]), Exit::Unreachable);
    assert!(said.contains("try again"), "{said}");
    assert!(!said.contains("restore"), "{said}");
    assert_eq!(before, provider.listing());
}

#[test]
fn an_unmount_that_lost_nothing_succeeds_whatever_the_last_record_of_it_meets() {
    let mut site = site();
    let address = site.server().local_addr();
    let leaving = Arc::new(AtomicBool::new(false));
    let proxy = {
        let leaving = Arc::clone(&leaving);
        Proxy::before(address, move |request, answered| {
            let log = request.starts_with("PUT ") && request.contains("/meta/wal/");
            (log && leaving.load(Ordering::SeqCst) && answered < 1).then_some(404)
        })
    };
    site.endpoint = proxy.url.clone();
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
