//! The probe passes the embedded server and leaves nothing in it.

use std::sync::Arc;

use bytes::Bytes;
use strongroom::{
    server::Faults,
    store::{
        Condition, Retry, Store, StoreErrorKind,
        probe::{Probe, ProbeFailure, Trial, clear_leftovers, clear_old_leftovers, probe},
    },
    telemetry::Metrics,
};

use crate::support::{
    bucket::sdk_client,
    credentials::set_environment,
    raw_store::{Answer, RawStore, store_without_conditions},
    server::{TestServer, unconnected},
};

async fn is_empty(store: &Store) -> bool {
    store.list_page("", None).await.unwrap().is_empty()
}

#[tokio::test]
async fn a_fit_store_passes_and_nothing_is_left_in_it() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    assert!(is_empty(&store).await);
    probe(&store).await.unwrap();
    assert!(is_empty(&store).await);
    assert!(store.list_multipart("").await.unwrap().is_empty());
    store
        .put("x", vec![Bytes::from("x")], Condition::None, &[])
        .await
        .unwrap();
    assert!(!is_empty(&store).await);
    probe(&store).await.unwrap();
    assert_eq!(store.list_page("", None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_fit_store_passes_in_spite_of_failures_that_pass() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.retry = Retry::Attempts(20))
        .await;
    fixture.set_faults(Faults {
        error_rate: 0.1,
        reset_rate: 0.1,
        seed: 11,
        ..Faults::default()
    });
    probe(&store).await.unwrap();
    fixture.clear_faults();
    assert!(is_empty(&store).await);
}

#[tokio::test]
async fn a_store_that_cannot_be_tried_is_not_called_unfit() {
    let fixture = TestServer::start().await;
    let store = fixture.connect(|_| {}).await.unwrap();
    match probe(&store).await {
        Err(ProbeFailure::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::NoBucket, "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_by_that_name() {
    set_environment();
    let mut config = unconnected();
    let lax = store_without_conditions();
    config.endpoint_url = Some(lax.url());
    let store = Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap();
    let failure = probe(&store).await.unwrap_err();
    assert!(
        matches!(
            failure,
            ProbeFailure::Lacks {
                capability: "conditional PUT (If-None-Match)",
                ..
            }
        ),
        "{failure}"
    );
    let text = failure.to_string();
    assert!(
        text.starts_with("the store lacks conditional PUT (If-None-Match): "),
        "{text}"
    );
}

/// Keys as a probe makes them.
fn keys_of_a_probe() -> Vec<String> {
    let id = "0123456789abcdef".repeat(2);
    ["multipart", "object", "race", "ranges"]
        .map(|name| format!("probe-{id}-{name}"))
        .to_vec()
}

#[tokio::test]
async fn leftovers_of_a_probe_are_removed_if_nothing_else_is_there() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    assert!(clear_leftovers(&store).await.unwrap(), "nothing is there");
    let put = async |key: &str| {
        let body = vec![Bytes::from("x")];
        store.put(key, body, Condition::None, &[]).await.unwrap();
    };
    for key in keys_of_a_probe() {
        put(&key).await;
    }
    for other in ["notes.txt", "probe-of-mars", "strongroom.json"] {
        put(other).await;
        assert!(!clear_leftovers(&store).await.unwrap(), "{other}");
        let listed = store.list_page("", None).await.unwrap();
        assert_eq!(listed.len(), 5, "nothing was deleted beside {other}");
        store.delete(&[other.to_owned()]).await.unwrap();
    }
    let upload = store.create_multipart(&keys_of_a_probe()[0]).await.unwrap();
    let of_another = sdk_client(&fixture.server.endpoint_url());
    let of_another = of_another
        .create_multipart_upload()
        .bucket("bucket")
        .key("some/volume/probe-of-mars");
    of_another.send().await.unwrap();
    assert!(clear_leftovers(&store).await.unwrap());
    assert!(is_empty(&store).await);
    let uploads = store.list_multipart("").await.unwrap();
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    assert_eq!(uploads[0].key, "probe-of-mars");
    assert_ne!(uploads[0].upload, upload);
}

/// Two who make a volume in the same place: the second one takes what it finds for leftovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_whose_objects_somebody_deletes_does_not_blame_the_store() {
    let fixture = TestServer::start().await;
    let direct = fixture.store().await;
    let (other, runtime) = (direct.clone(), tokio::runtime::Handle::current());
    let mut cleared = false;
    let network = RawStore::start(Some(&fixture.server.endpoint_url()), move |request| {
        let line = request.line();
        if line.starts_with("GET") && line.contains("-second") && !cleared {
            cleared = runtime.block_on(clear_leftovers(&other)).unwrap();
            assert!(cleared);
        }
        Answer::Pass
    });
    let store = fixture
        .connect(|config| config.endpoint_url = Some(network.url()))
        .await
        .unwrap();
    let outcome = probe(&store).await;
    assert!(
        matches!(outcome, Err(ProbeFailure::Disturbed)),
        "{outcome:?}"
    );
    assert!(is_empty(&direct).await);
}

#[tokio::test]
async fn each_trial_passes_by_itself_and_cleaning_up_leaves_nothing() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let probe = Probe::new(&store).unwrap();
    assert!(!probe.has_begun());
    for trial in [
        Trial::Put,
        Trial::Get,
        Trial::List,
        Trial::Delete { listed: true },
        Trial::Delete { listed: false },
        Trial::Conditions,
        Trial::Races,
        Trial::Ranges,
        Trial::Multipart,
        Trial::Uploads,
    ] {
        probe
            .attempt(trial)
            .await
            .unwrap_or_else(|why| panic!("{trial:?}: {why}"));
    }
    assert!(probe.has_begun());
    let latencies = probe.latencies().await.unwrap();
    assert!(latencies.len() > 2 && latencies.iter().all(|took| !took.is_zero()));
    let carried = probe.carry(1 << 20).await.unwrap();
    assert!(!carried.up.is_zero() && !carried.down.is_zero());
    assert!(!is_empty(&store).await);
    probe.clean_up().await.unwrap();
    assert!(is_empty(&store).await);
    assert!(store.list_multipart("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_trial_that_was_stopped_sends_nothing_more() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let probe = Probe::new(&store).unwrap();
    probe.stop();
    fixture.reset_stats();
    for trial in [Trial::Put, Trial::Races, Trial::Multipart, Trial::Uploads] {
        let outcome = probe.attempt(trial).await;
        assert!(matches!(outcome, Err(ProbeFailure::Stopped)), "{outcome:?}");
    }
    assert_eq!(fixture.stats().total_requests(), 0);
    assert!(!probe.has_begun());
}

#[tokio::test]
async fn beside_other_objects_only_old_leftovers_are_removed() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let mut keys = keys_of_a_probe();
    keys.push("strongroom.json".to_owned());
    for key in &keys {
        let body = vec![Bytes::from("x")];
        store.put(key, body, Condition::None, &[]).await.unwrap();
    }
    let written = store.head("strongroom.json").await.unwrap();
    let written = written.modified_unix_seconds;
    let cleared = clear_old_leftovers(&store, written - 3600).await;
    assert_eq!(cleared.unwrap(), 0, "they may be those of one that runs");
    assert_eq!(store.list_page("", None).await.unwrap().len(), keys.len());
    let cleared = clear_old_leftovers(&store, written + 3600).await;
    assert_eq!(cleared.unwrap(), keys.len() - 1);
    let left = store.list_page("", None).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].key, "strongroom.json");
}
