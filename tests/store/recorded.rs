//! A recording tells how requests ended, and a server that replays it ends them so again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use strongroom::{
    record::{RecordFile, RecordPlan, Recorder, SIZE_MIN_BYTES},
    server::{Faults, Outage},
    session::memory::allocated_bytes,
    store::{Condition, Retry, Store, StoreErrorKind},
};
use tempfile::TempDir;

use crate::support::{
    credentials::set_environment,
    har::{self, Entry},
    plot::slope,
    random::pattern,
    server::{TestServer, unconnected},
    server_process::ServerProcess,
};

const STALL: Duration = Duration::from_millis(400);
const LATE: Duration = Duration::from_millis(300);

fn recorder(path: &Path, size_bytes: u64) -> Recorder {
    let plan = RecordPlan {
        minutes: 10,
        size_bytes,
    };
    Recorder::start(RecordFile::open(path).unwrap(), plan).unwrap()
}

/// Does the same things each time, and sets `faults` in between if it is given a way to.
async fn work(store: &Store, set_faults: impl Fn(Faults)) {
    let (session, whole) = ("ab".repeat(16), pattern(1 << 20));
    let key = |number: u64| format!("data/{session}/{number:016x}");
    let small = || vec![whole.slice(..1000)];
    let none = Condition::None;
    store
        .put(&key(1), vec![whole.clone()], none.clone(), &[])
        .await
        .unwrap();
    let missing = store.get(&key(2), None).await.unwrap_err();
    assert_eq!(missing.kind, StoreErrorKind::NotFound);
    set_faults(Faults {
        error_rate: 1.0,
        ..Faults::default()
    });
    let log = store
        .put("meta/wal/1.sst", small(), none.clone(), &[])
        .await;
    assert_eq!(log.unwrap_err().kind, StoreErrorKind::Unavailable);
    set_faults(Faults {
        latency: LATE,
        ..Faults::default()
    });
    store.head(&key(1)).await.unwrap();
    set_faults(Faults {
        outage: Outage::Hang,
        ..Faults::default()
    });
    let lease = store.head("lease").await.unwrap_err();
    assert_eq!(lease.kind, StoreErrorKind::Unreachable);
    set_faults(Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    });
    let table = store.put("meta/compacted/1.sst", small(), none, &[]).await;
    assert_eq!(table.unwrap_err().kind, StoreErrorKind::Unreachable);
    set_faults(Faults::default());
    let mut body = store.get(&key(1), None).await.unwrap();
    body.chunk().await.unwrap();
    drop(body);
    assert_eq!(store.list_page("data/", None).await.unwrap().len(), 1);
}

/// The recording of that work against a server, and the retries that it took.
async fn recording(server: &TestServer, path: PathBuf, sets_faults: bool) -> (Vec<Entry>, u64) {
    server.store().await;
    let recorder = recorder(&path, 1 << 20);
    let mut config = server.config();
    config.stall_timeout = STALL;
    config.retry = Retry::Attempts(2);
    let store = Store::connect_recording(config, Arc::default(), Some(recorder.clone()));
    let store = store.await.unwrap();
    work(&store, |faults| {
        if sets_faults {
            server.set_faults(faults);
        }
    })
    .await;
    let retries = store.metrics().retries.get();
    drop(store);
    let finished = tokio::task::spawn_blocking(move || recorder.finish(Duration::from_secs(30)));
    assert!(finished.await.unwrap());
    (har::read(&path), retries)
}

fn told(entries: &[Entry]) -> Vec<String> {
    let told = |entry: &Entry| {
        let (operation, kind) = (&entry.operation, &entry.kind);
        format!("{operation} {kind} #{}: {}", entry.attempt, entry.outcome())
    };
    entries.iter().map(told).collect()
}

#[tokio::test]
async fn a_recording_tells_how_each_request_ended_and_a_replay_ends_them_so_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("first.har");
    let server = TestServer::start().await;
    let (first, retries) = recording(&server, path.clone(), true).await;
    assert_eq!(
        told(&first),
        [
            "PutObject data #1: 200",
            "GetObject data #1: 404 NoSuchKey",
            "PutObject log #1: 503 SlowDown",
            "PutObject log #2: 500 InternalError",
            "HeadObject data #1: 200",
            "HeadObject lease #1: 0 stalled",
            "HeadObject lease #2: 0 stalled",
            "PutObject table #1: 0 broken",
            "PutObject table #2: 0 broken",
            "GetObject data #1: 200 dropped",
            "ListObjectsV2 data #1: 200",
        ]
    );
    assert_eq!(retries, 3);
    let late = |entries: &[Entry]| entries[4].wait_ms >= LATE.as_secs_f64() * 1e3;
    assert!(late(&first), "{:?}", first[4]);
    assert_eq!(
        first[0].url, first[4].url,
        "the same object has the same name"
    );
    assert_ne!(first[0].url, first[1].url);

    let replaying = TestServer::start_with(|config, _| config.replay = Some(path)).await;
    let (second, again) = recording(&replaying, dir.path().join("second.har"), false).await;
    assert_eq!(told(&second), told(&first));
    assert_eq!(again, retries);
    assert!(late(&second), "{:?}", second[4]);
    assert_ne!(
        second[0].url, first[0].url,
        "another recording, other names"
    );
}

/// Reads an object through a recorder, to the end or as far as it goes; `meanwhile` happens after
/// its first piece. Returns how many bytes came.
async fn read_lease(server: &TestServer, path: &Path, meanwhile: impl FnOnce()) -> usize {
    let recorder = recorder(path, SIZE_MIN_BYTES);
    let mut config = server.config();
    config.stall_timeout = STALL;
    let store = Store::connect_recording(config, Arc::default(), Some(recorder.clone()));
    let mut body = store.await.unwrap().get("lease", None).await.unwrap();
    let (mut bytes, mut meanwhile) = (0, Some(meanwhile));
    while let Ok(Some(chunk)) = body.chunk().await {
        bytes += chunk.len();
        if let Some(meanwhile) = meanwhile.take() {
            meanwhile();
        }
    }
    drop(body);
    let finished = tokio::task::spawn_blocking(move || recorder.finish(Duration::from_secs(30)));
    assert!(finished.await.unwrap());
    bytes
}

async fn server_with_lease(bytes: usize, replay: Option<PathBuf>) -> TestServer {
    let server = TestServer::start_with(|config, _| config.replay = replay).await;
    let pieces = vec![pattern(bytes)];
    let store = server.store().await;
    store
        .put("lease", pieces, Condition::None, &[])
        .await
        .unwrap();
    server
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_so_again_at_the_same_byte() {
    let dir = TempDir::new().unwrap();
    let paths = ["first.har", "second.har"].map(|name| dir.path().join(name));
    // All of it fits into the buffers of the sockets, which a cut connection empties.
    let len = 100_000;
    let server = server_with_lease(len, None).await;
    server.set_faults(Faults {
        reset_rate: 1.0,
        seed: 11,
        ..Faults::default()
    });
    let first = read_lease(&server, &paths[0], || {}).await;
    let replaying = server_with_lease(len, Some(paths[0].clone())).await;
    let second = read_lease(&replaying, &paths[1], || {}).await;
    assert!(first < len);
    assert_eq!(first, second);
    for path in &paths {
        assert_eq!(told(&har::read(path)), ["GetObject lease #1: 200 broken"]);
    }
}

#[tokio::test]
async fn an_answer_that_stands_still_does_so_again_at_the_same_byte() {
    let dir = TempDir::new().unwrap();
    let paths = ["first.har", "second.har"].map(|name| dir.path().join(name));
    // More than the buffers of the sockets hold.
    let len = 16 << 20;
    let server = server_with_lease(len, None).await;
    let hang = || {
        server.set_faults(Faults {
            outage: Outage::Hang,
            ..Faults::default()
        });
    };
    let first = read_lease(&server, &paths[0], hang).await;
    let replaying = server_with_lease(len, Some(paths[0].clone())).await;
    let second = read_lease(&replaying, &paths[1], || {}).await;
    assert!(first < len);
    assert_eq!(first, second);
    for path in &paths {
        assert_eq!(told(&har::read(path)), ["GetObject lease #1: 200 stalled"]);
    }
}

/// In a process of its own, so that nothing else allocates.
#[tokio::test]
async fn twenty_thousand_recorded_requests_leave_less_than_ten_bytes_each() {
    set_environment();
    let dir = TempDir::new().unwrap();
    let server = ServerProcess::start(dir.path().join("s3"), "127.0.0.1:0");
    let path = dir.path().join("traffic.har");
    let recorder = recorder(&path, SIZE_MIN_BYTES);
    let mut config = unconnected();
    config.endpoint_url = Some(format!("http://{}", server.address));
    let store = Store::connect_recording(config, Arc::default(), Some(recorder.clone()));
    let store = store.await.unwrap();
    store.create_bucket().await.unwrap();
    let bytes = pattern(3000);
    let (warm, requests) = (2_000_u64, 20_000_u64);
    let mut samples = Vec::new();
    for number in 0..warm + requests {
        let key = format!("meta/wal/{:020}.sst", number % 50);
        if number % 400 < 50 {
            let pieces = vec![bytes.clone()];
            store.put(&key, pieces, Condition::None, &[]).await.unwrap();
        } else {
            store.get_bytes(&key, None, 3000).await.unwrap();
        }
        if number >= warm && number % 200 == 0 {
            samples.push((number as f64, allocated_bytes() as f64));
        }
    }
    let growth = slope(&samples);
    eprintln!("{growth:.2} bytes are allocated for each of {requests} requests");
    assert!(growth < 10.0, "{growth}");
    let status = recorder.status();
    assert!(status.recorded >= warm, "{status:?}");
    assert!(std::fs::metadata(&path).unwrap().len() <= SIZE_MIN_BYTES);
}
