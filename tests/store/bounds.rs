//! Answers without end, answers to another question, answers in drips: all of them end with an
//! error, at a bound, and are asked for less and less often.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use strongroom::{
    store::{Retry, Store, StoreConfig, StoreErrorKind},
    telemetry::Metrics,
};

use crate::support::{
    credentials::set_environment,
    random::pattern,
    raw_store::{Answer, RawStore, Request},
    server::unconnected,
};

/// Bytes in socket buffers on the way, on this machine: loopback takes some 6 MiB.
const ON_THE_WAY: u64 = 8 << 20;

async fn connect(server: &RawStore, change: impl FnOnce(&mut StoreConfig)) -> Store {
    set_environment();
    let mut config = StoreConfig {
        endpoint_url: Some(server.url()),
        retry: Retry::Attempts(2),
        ..unconnected()
    };
    change(&mut config);
    Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap()
}

fn list_page(keys: impl Iterator<Item = String>, next: &str) -> Answer {
    let lines: String = keys
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><Size>9</Size><ETag>\"x\"</ETag>\
                 <LastModified>2026-11-21T15:57:05.000Z</LastModified></Contents>"
            )
        })
        .collect();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>{next}</NextContinuationToken>{lines}</ListBucketResult>"
    );
    Answer::whole("200 OK", "", body.as_bytes())
}

#[tokio::test]
async fn bodies_without_end_are_given_up_at_their_bound() {
    let text = [b'x'; 64 << 10];
    let list = "<?xml version=\"1.0\"?><ListBucketResult>";
    let entries = "<Contents/>".repeat(5000);
    type Say = Box<dyn Fn() -> Answer + Send>;
    let cases: [(&str, u64, Say); 5] = [
        (
            "an error",
            64 << 10,
            Box::new(move || Answer::endless_chunks("404 Not Found", "", &text)),
        ),
        (
            "an error that may pass",
            64 << 10,
            Box::new(move || Answer::endless_chunks("503 Slow Down", "", &text)),
        ),
        (
            "a LIST page",
            8 << 20,
            Box::new(move || Answer::endless_chunks("200 OK", list, &text)),
        ),
        (
            "a LIST page of elements",
            1 << 20,
            Box::new(move || Answer::endless_chunks("200 OK", list, entries.as_bytes())),
        ),
        (
            "header fields",
            1 << 20,
            Box::new(move || Answer::Endless {
                head: b"HTTP/1.1 200 OK\r\n".to_vec(),
                piece: [b"X-A: ", &text[..1000], b"\r\n"].concat(),
                pause: Duration::ZERO,
            }),
        ),
    ];
    let given_up = cases.map(|(what, bound_bytes, say)| async move {
        let server = RawStore::start(None, move |_| say());
        let store = connect(&server, |_| {}).await;
        let began = Instant::now();
        let error = match what.starts_with("a LIST") {
            true => store.list_page("data/", None).await.unwrap_err(),
            false => store.get("data/1", None).await.unwrap_err(),
        };
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what}: {:?}",
            began.elapsed()
        );
        assert!(!error.message.is_empty(), "{what}");
        let sent = server.sent_bytes() / server.answered();
        assert!(
            sent < bound_bytes + ON_THE_WAY,
            "{what}: {sent} bytes taken"
        );
        assert!(store.metrics().retries.get() >= 1, "{what}: {error}");
    });
    join_all(given_up).await;
}

#[tokio::test]
async fn an_answer_that_never_begins_ends_with_the_stall_timeout() {
    for piece in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
    ] {
        let server = RawStore::start(None, move |_| Answer::Endless {
            head: Vec::new(),
            piece: piece.repeat(100).into_bytes(),
            pause: Duration::from_millis(1),
        });
        let store = connect(&server, |config| {
            config.stall_timeout = Duration::from_millis(500);
        })
        .await;
        let began = Instant::now();
        let error = store.head("data/1").await.unwrap_err();
        assert!(error.kind.may_pass(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn object_bodies_bring_no_more_than_was_announced() {
    let cases = [
        (
            "Content-Length: 1000\r\nContent-Range: bytes 0-999/5000",
            1000,
        ),
        // Without a length, or with a range that is none, nothing is read at all.
        (
            "Transfer-Encoding: chunked\r\nContent-Range: bytes 0-999/5000",
            0,
        ),
        (
            "Content-Length: 999999999999\r\nContent-Range: bytes 0-999999999998/999999999999",
            0,
        ),
        ("Content-Length: 999999999999", 0),
    ];
    let announced = cases.map(|(head, len)| async move {
        let server = RawStore::start(None, move |_| Answer::Endless {
            head: format!("HTTP/1.1 206 P\r\nETag: \"x\"\r\n{head}\r\n\r\n").into_bytes(),
            piece: vec![b'x'; 64 << 10],
            pause: Duration::ZERO,
        });
        let store = connect(&server, |_| {}).await;
        let got = store.get_bytes("data/1", Some(0..1000), 1000).await;
        assert_eq!(got.map_or(0, |(_, bytes)| bytes.len()), len, "{head}");
        assert!(
            server.sent_bytes() / server.answered() < ON_THE_WAY,
            "{head}"
        );
    });
    join_all(announced).await;
}

#[tokio::test]
async fn a_listing_that_does_not_advance_is_an_error() {
    type Keys = fn(&Request) -> Vec<String>;
    let pages: [(&str, Keys); 4] = [
        ("the same page", |_| vec!["some/volume/data/1".into()]),
        ("a page that goes back", |_| {
            vec!["some/volume/data/2".into(), "some/volume/data/1".into()]
        }),
        ("keys of another directory", |_| {
            vec!["some/volume/meta/1".into()]
        }),
        ("keys of another volume", |_| {
            vec!["other/volume/data/1".into()]
        }),
    ];
    let refused = pages.map(|(what, keys)| async move {
        let server = RawStore::start(None, move |request| {
            list_page(keys(request).into_iter(), "t")
        });
        let store = connect(&server, |config| config.retry = Retry::Forever).await;
        let list = async {
            let mut pages = store.pages("data/", None, 1000);
            while pages.next().await?.is_some() {}
            Ok::<_, strongroom::store::StoreError>(())
        };
        let listed = tokio::time::timeout(Duration::from_secs(30), list).await;
        let error = listed.expect(what).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Nonsense, "{what}: {error}");
        assert!(
            server.answered() < 12,
            "{what}: {} requests",
            server.answered()
        );
        let level = tokio::time::timeout(Duration::from_secs(30), store.list_level("data/"));
        let error = level.await.expect(what).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Nonsense, "{what}: {error}");
    });
    join_all(refused).await;
}

#[tokio::test]
async fn a_listing_without_end_is_an_error() {
    let count = Arc::new(Mutex::new(0));
    let server = RawStore::start(None, move |request| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let keys = (0..3).map(|i| format!("some/volume/data/{count:09}{i}"));
        match request.line().contains("uploads") {
            false => list_page(keys, &format!("t{count}")),
            true => {
                let uploads: String = keys
                    .map(|key| format!("<Upload><Key>{key}</Key><UploadId>u</UploadId></Upload>"))
                    .collect();
                let body = format!(
                    "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>\
                     <NextKeyMarker>k{count:09}</NextKeyMarker>\
                     <NextUploadIdMarker>u</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>"
                );
                Answer::whole("200 OK", "", body.as_bytes())
            }
        }
    });
    let store = connect(&server, |config| config.retry = Retry::Forever).await;
    let mut pages = store.pages("data/", None, 100);
    let mut listed = 0;
    let error = loop {
        match pages.next().await {
            Ok(page) => listed += page.expect("it has no end").len(),
            Err(error) => break error,
        }
    };
    assert_eq!(listed, 300);
    assert_eq!(error.kind, StoreErrorKind::Nonsense, "{error}");
    let within = Duration::from_secs(30);
    let level = tokio::time::timeout(within, store.list_level("data/"));
    assert_eq!(
        level.await.unwrap().unwrap_err().kind,
        StoreErrorKind::Nonsense
    );
    let uploads = tokio::time::timeout(within, store.list_multipart("data/"));
    assert_eq!(
        uploads.await.unwrap().unwrap_err().kind,
        StoreErrorKind::Nonsense
    );
}

#[tokio::test]
async fn broken_bodies_are_asked_for_less_and_less_often_and_counted() {
    let whole = pattern(200_000);
    type Break = fn(&[u8], u64, u64) -> (String, Vec<u8>);
    let kinds: [(&str, Break); 5] = [
        ("a byte and an end", |rest, first, last| {
            let head = format!(
                "Content-Range: bytes {first}-{last}/200000\r\nContent-Length: {}",
                rest.len()
            );
            (head, rest[..1].to_vec())
        }),
        ("nothing and an end", |rest, first, last| {
            let head = format!(
                "Content-Range: bytes {first}-{last}/200000\r\nContent-Length: {}",
                rest.len()
            );
            (head, Vec::new())
        }),
        ("a range of one byte", |rest, first, _| {
            let head = format!("Content-Range: bytes {first}-{first}/200000\r\nContent-Length: 1");
            (head, rest[..1].to_vec())
        }),
        ("another range", |rest, first, last| {
            let head = format!(
                "Content-Range: bytes {}-{}/200016\r\nContent-Length: {}",
                first + 16,
                last + 16,
                rest.len()
            );
            (head, rest.to_vec())
        }),
        ("no range", |rest, _, _| {
            (
                format!("Content-Length: {}", rest.len() + 5),
                [rest, b"12345"].concat(),
            )
        }),
    ];
    let paced = kinds.map(|(what, broken)| (what, broken, whole.clone()));
    let paced = paced.map(|(what, broken, object)| async move {
        let server = RawStore::start(None, move |request| {
            let (first, last) = request.range().expect("ranges are asked for");
            let rest = &object[first as usize..=last as usize];
            let (head, body) = broken(rest, first, last);
            let head = format!("HTTP/1.1 206 P\r\nETag: \"x\"\r\n{head}\r\n\r\n");
            Answer::Say([head.as_bytes(), &body].concat())
        });
        let store = connect(&server, |config| config.retry = Retry::Forever).await;
        let get = store.get_bytes("data/1", Some(0..200_000), 200_000);
        let ended = tokio::time::timeout(Duration::from_secs(3), get).await;
        assert!(!matches!(ended, Ok(Ok(_))), "{what}");
        let asked = server.answered();
        assert!((3..=10).contains(&asked), "{what}: {asked} requests in 3 s");
        assert!(store.metrics().retries.get() + 1 >= asked, "{what}");
    });
    join_all(paced).await;
}

#[tokio::test]
async fn a_body_in_drips_is_broken_off() {
    let server = RawStore::start(None, |_| Answer::Endless {
        head: b"HTTP/1.1 206 P\r\nETag: \"x\"\r\nContent-Length: 100000\r\n\
                Content-Range: bytes 0-99999/100000\r\n\r\n"
            .to_vec(),
        piece: b"x".to_vec(),
        pause: Duration::from_millis(20),
    });
    let store = connect(&server, |config| {
        config.stall_timeout = Duration::from_millis(800);
        config.retry = Retry::Attempts(3);
    })
    .await;
    let mut body = store.get("data/1", Some(0..100_000)).await.unwrap();
    let drip = async {
        loop {
            match body.chunk().await {
                Ok(chunk) => assert!(chunk.is_some(), "an end"),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), drip)
        .await
        .unwrap();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.message.contains("bytes a second"), "{error}");
    // A client that repeats it gives up after as many tries as were asked for.
    let whole = store.get_bytes("data/1", Some(0..100_000), 100_000);
    let ended = tokio::time::timeout(Duration::from_secs(20), whole).await;
    ended.expect("within 20 s").unwrap_err();
}

#[tokio::test]
async fn what_the_store_says_cannot_steer_a_terminal() {
    let server = RawStore::start(None, |_| {
        let body = "<Error><Code>Weird\u{9b}2J</Code><Message>\u{202e}evil</Message></Error>";
        Answer::whole("400 Bad", "", body.as_bytes())
    });
    let store = connect(&server, |_| {}).await;
    let error = store.get("data/1", None).await.unwrap_err().to_string();
    assert!(
        error.contains("\\u{9b}2J") && error.contains("\\u{202e}evil"),
        "{error}"
    );
}
