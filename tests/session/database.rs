//! Metadata that is missing, or not shown.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{ObjectStore, memory::InMemory};
use strongroom::{
    meta::{Meta, MetaConfig, MetaError, Recovered},
    session::Exit,
};

use crate::{
    machine::{Machine, pictures, site},
    provider::Provider,
};

#[test]
fn a_mount_never_makes_a_database() {
    let site = site();
    let provider = Provider::of(&site);
    let state = pictures(&Machine::new(&site, "writer"), &provider, 1).remove(0);
    for hidden in ["/meta/", "/meta/manifest/"] {
        let mut shown = state.clone();
        shown.retain(|key, _| !key.contains(hidden));
        assert!(shown.len() < state.len());
        provider.show(&shown);
        // Neither one that knows the volume nor one that does not.
        for name in ["writer", "new"] {
            let machine = Machine::new(&site, name);
            for options in [
                &[][..],
                &["--takeover"],
                &["--read-only"],
                &["--allow-rollback"],
            ] {
                let said = machine.refused(&provider, Exit::NoMetadata, 3, options);
                assert!(said.contains("metadata"), "{said}");
            }
        }
    }
    provider.show(&state);
    Machine::new(&site, "writer").mount().unmount();
}

#[test]
fn the_newest_log_objects_hidden_from_the_machine_that_wrote_them_are_missed() {
    let site = site();
    let provider = Provider::of(&site);
    let machine = Machine::new(&site, "knowing");
    let mount = machine.mount();
    for number in 0..5 {
        crate::machine::write_synced(&mount.dir.join(format!("file{number}")), &[1; 3000]);
    }
    let state = provider.picture();
    mount.kill();
    let log: Vec<&String> = state.keys().filter(|key| key.contains("/wal/")).collect();
    for hidden in 1..=2 {
        let mut shown = state.clone();
        for key in log.iter().rev().take(hidden) {
            shown.remove(*key);
        }
        provider.show(&shown);
        machine.refused(&provider, Exit::RolledBack, 10, &[]);
    }
    provider.show(&state);
    let mount = machine.mount();
    assert_eq!(std::fs::read_dir(&mount.dir).unwrap().count(), 5);
    mount.unmount();
}

const CONFIG: MetaConfig = MetaConfig {
    follow_every: std::time::Duration::from_secs(1),
    read_only: false,
    memory_bytes: 40 << 20,
};

async fn objects(store: &InMemory) -> usize {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    listed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_makes_no_database_where_the_reader_before_it_was_shown_one() {
    let store = Arc::new(InMemory::new());
    let seen = Recovered { generation: 7 };
    let opened = Meta::open_after_on(store.clone(), CONFIG, seen).await;
    assert!(matches!(opened, Err(MetaError::Missing)));
    assert_eq!(objects(&store).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_shown_less_than_the_reader_before_it_begins_no_session() {
    let store = Arc::new(InMemory::new());
    Meta::format_on(store.clone(), 0, 0).await.unwrap();
    let seen = Meta::look_on(store.clone(), CONFIG).await.unwrap();
    let more = Recovered {
        generation: seen.generation + 1,
    };
    for _ in 0..5 {
        let opened = Meta::open_after_on(store.clone(), CONFIG, more).await;
        assert!(matches!(opened, Err(MetaError::Older { .. })));
    }
    // A look writes nothing.
    let before = objects(&store).await;
    for _ in 0..5 {
        assert_eq!(Meta::look_on(store.clone(), CONFIG).await.unwrap(), seen);
    }
    assert_eq!(objects(&store).await, before);
    let meta = Meta::open_after_on(store, CONFIG, seen).await.unwrap();
    // The sessions of those that were refused would be listed here.
    assert!(meta.dead_sessions().await.unwrap().is_empty());
    meta.close().await.unwrap();
}
