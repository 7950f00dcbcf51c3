//! Each thing that a person may have to put right is told apart, in one line without secrets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom::{
    store::{Condition, Retry, Store, StoreError, StoreErrorKind},
    telemetry::Metrics,
};

use crate::support::{
    certificates::certificates,
    credentials::{SECRET_KEY, set_environment},
    raw_store::{Answer, RawStore},
    server::{TestServer, unconnected},
};

fn check(error: &StoreError, kind: StoreErrorKind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    assert!(!text.contains('\n') && text.len() < 400, "{text}");
    assert!(
        !text.contains(SECRET_KEY) && !text.contains("wrong-secret"),
        "{text}"
    );
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

/// Writes a credentials file with one profile and makes it this process's.
fn profile(fixture: &TestServer, access_key: &str, secret_key: &str) -> String {
    let path = fixture.directory.path().join("credentials");
    std::fs::write(
        &path,
        format!(
            "[other]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        ),
    )
    .unwrap();
    // SAFETY: nextest runs each test in a process of its own; a shared process only re-reads the
    // file's name.
    unsafe { std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", &path) };
    "other".to_owned()
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    let fixture = TestServer::start().await;
    let store = fixture.connect(|_| {}).await.unwrap();
    check(
        &store.check_bucket().await.unwrap_err(),
        StoreErrorKind::NoBucket,
        &["no such bucket"],
    );
    check(
        &store.list_page("", None).await.unwrap_err(),
        StoreErrorKind::NoBucket,
        &["NoSuchBucket"],
    );
    check(
        &store.get("x", None).await.unwrap_err(),
        StoreErrorKind::NoBucket,
        &["NoSuchBucket"],
    );
    let put = store.put("x", Vec::new(), Condition::None, &[]).await;
    check(
        &put.unwrap_err(),
        StoreErrorKind::NoBucket,
        &["NoSuchBucket"],
    );
    store.create_bucket().await.unwrap();
    store.create_bucket().await.unwrap();
    store.check_bucket().await.unwrap();
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_key_are_bad_credentials_at_once() {
    for (access_key, secret_key) in [
        (crate::support::credentials::ACCESS_KEY, "wrong-secret"),
        ("nobody", SECRET_KEY),
    ] {
        let fixture = TestServer::start().await;
        fixture.store().await;
        let name = profile(&fixture, access_key, secret_key);
        let store = fixture
            .connect(|config| {
                config.profile = Some(name);
                config.retry = Retry::Forever;
            })
            .await
            .unwrap();
        for error in [
            store.list_page("", None).await.unwrap_err(),
            store.check_bucket().await.unwrap_err(),
            store
                .put("x", vec!["x".into()], Condition::Absent, &[])
                .await
                .unwrap_err(),
        ] {
            check(&error, StoreErrorKind::BadCredentials, &[]);
        }
        assert_eq!(store.metrics().retries.get(), 0);
    }
}

#[tokio::test]
async fn a_profile_that_is_asked_for_by_name_goes_before_the_environment() {
    let fixture = TestServer::start().await;
    fixture.store().await;
    let name = profile(
        &fixture,
        crate::support::credentials::ACCESS_KEY,
        SECRET_KEY,
    );
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::set_var("AWS_SECRET_ACCESS_KEY", "wrong-secret") };
    let store = fixture
        .connect(|config| config.profile = Some(name))
        .await
        .unwrap();
    store.check_bucket().await.unwrap();
    // SAFETY: as above.
    unsafe { std::env::set_var("AWS_SECRET_ACCESS_KEY", SECRET_KEY) };
}

#[tokio::test]
async fn no_credentials_are_reported_within_seconds() {
    let fixture = TestServer::start().await;
    let missing = fixture.connect(|config| config.profile = Some("missing".into()));
    check(
        &missing.await.unwrap_err(),
        StoreErrorKind::NoCredentials,
        &["no profile missing", "/dev/null"],
    );
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::remove_var("AWS_ACCESS_KEY_ID") };
    let start = Instant::now();
    let store = fixture
        .connect(|config| config.retry = Retry::Forever)
        .await
        .unwrap();
    check(
        &store.check_bucket().await.unwrap_err(),
        StoreErrorKind::NoCredentials,
        &["AWS_ACCESS_KEY_ID"],
    );
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    // SAFETY: as above.
    unsafe { std::env::set_var("AWS_ACCESS_KEY_ID", crate::support::credentials::ACCESS_KEY) };
}

#[tokio::test]
async fn an_endpoint_that_is_down_or_has_no_name_is_unreachable() {
    set_environment();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (endpoint, words) in [
        (format!("http://{closed}"), vec!["refused", "127.0.0.1"]),
        (format!("https://{closed}"), vec!["refused"]),
        (
            "http://no-such-host.invalid".to_owned(),
            vec!["no-such-host.invalid"],
        ),
    ] {
        let mut config = unconnected();
        config.endpoint_url = Some(endpoint);
        let store = Store::connect(config, Arc::new(Metrics::default()))
            .await
            .unwrap();
        check(
            &store.check_bucket().await.unwrap_err(),
            StoreErrorKind::Unreachable,
            &words,
        );
        assert_eq!(store.metrics().retries.get(), 2);
        assert_eq!(store.metrics().store_errors.get(), 1);
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up_after_the_stall_timeout() {
    set_environment();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = unconnected();
    config.endpoint_url = Some(format!("http://{}", silent.local_addr().unwrap()));
    config.stall_timeout = Duration::from_millis(300);
    config.retry = Retry::Attempts(2);
    let store = Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap();
    let start = Instant::now();
    check(
        &store.head("x").await.unwrap_err(),
        StoreErrorKind::Unreachable,
        &["nothing moved"],
    );
    let large = vec![bytes::Bytes::from(vec![0; 64 << 20])];
    check(
        &store
            .put("x", large, Condition::None, &[])
            .await
            .unwrap_err(),
        StoreErrorKind::Unreachable,
        &["nothing moved"],
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_unknown_authority_and_a_wrong_name_are_tls_errors_that_say_so() {
    let (fixture, authority) = TestServer::start_tls().await;
    let other = tempfile::TempDir::new().unwrap();
    let (_, other_authority) = certificates(other.path());
    for trusted in [None, Some(other_authority)] {
        let stranger = fixture
            .connect(|config| config.ca_bundle = trusted)
            .await
            .unwrap();
        check(
            &stranger.check_bucket().await.unwrap_err(),
            StoreErrorKind::Tls,
            &["unknown authority", "--ca-bundle"],
        );
        assert_eq!(stranger.metrics().retries.get(), 0);
    }
    let misnamed = fixture.connect(|config| {
        config.ca_bundle = authority;
        config.endpoint_url = config
            .endpoint_url
            .take()
            .map(|url| url.replace("127.0.0.1", "localhost"));
    });
    check(
        &misnamed.await.unwrap().check_bucket().await.unwrap_err(),
        StoreErrorKind::Tls,
        &["another name"],
    );
}

#[tokio::test]
async fn a_ca_bundle_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let fixture = TestServer::start().await;
    let path = fixture.directory.path().join("bundle.pem");
    let bundle = Some(path.clone());
    let refused = || fixture.connect(|config| config.ca_bundle = bundle.clone());
    check(
        &refused().await.unwrap_err(),
        StoreErrorKind::Tls,
        &["cannot be read", "bundle.pem"],
    );
    std::fs::write(&path, "not a certificate").unwrap();
    check(
        &refused().await.unwrap_err(),
        StoreErrorKind::Tls,
        &["holds no certificate"],
    );
    std::fs::write(
        &path,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    check(
        &refused().await.unwrap_err(),
        StoreErrorKind::Tls,
        &["bad certificate"],
    );
}

#[tokio::test]
async fn the_endpoint_is_found_where_aws_users_have_it() {
    let fixture = TestServer::start().await;
    fixture.store().await;
    for (name, value) in [
        ("AWS_ENDPOINT_URL_S3", fixture.server.endpoint_url()),
        ("AWS_ENDPOINT_URL", fixture.server.endpoint_url()),
    ] {
        // SAFETY: nextest runs each test in a process of its own.
        unsafe { std::env::set_var(name, value) };
        let store = fixture
            .connect(|config| config.endpoint_url = None)
            .await
            .unwrap();
        store.check_bucket().await.unwrap();
        // SAFETY: as above.
        unsafe { std::env::remove_var(name) };
    }
    let config_file = fixture.directory.path().join("config");
    std::fs::write(
        &config_file,
        format!(
            "[default]\nregion = eu-central-1\nendpoint_url = {}\n",
            fixture.server.endpoint_url()
        ),
    )
    .unwrap();
    // SAFETY: as above.
    unsafe { std::env::set_var("AWS_CONFIG_FILE", &config_file) };
    let store = fixture
        .connect(|config| config.endpoint_url = None)
        .await
        .unwrap();
    store.check_bucket().await.unwrap();
    // SAFETY: as above.
    unsafe { std::env::set_var("AWS_CONFIG_FILE", "/dev/null") };
}

/// A network's login page, a proxy's notice: while it is there the store is not.
#[tokio::test]
async fn a_web_page_in_place_of_an_object_is_an_outage_and_never_the_object() {
    let fixture = TestServer::start().await;
    let direct = fixture.store().await;
    let body = vec![bytes::Bytes::from_static(b"contents")];
    direct
        .put("object", body, Condition::None, &[])
        .await
        .unwrap();
    let network = RawStore::start(Some(&fixture.server.endpoint_url()), |_| Answer::Pass);
    let store = fixture
        .connect(|config| {
            config.endpoint_url = Some(network.url());
            config.retry = Retry::Attempts(4);
        })
        .await
        .unwrap();
    for status in ["200 OK", "302 Found", "403 Forbidden", "404 Not Found"] {
        let page = move || {
            let fields = "Content-Type: text/html\r\nConnection: close\r\n";
            Answer::whole(status, fields, b"<html>Log in</html>")
        };
        let mut left = 2;
        network.set_rule(move |_| match left {
            0 => Answer::Pass,
            _ => {
                left -= 1;
                page()
            }
        });
        let (_, bytes) = store.get_bytes("object", None, 100).await.unwrap();
        assert_eq!(bytes, "contents", "{status}");
        network.set_rule(move |_| page());
        let error = store.get_bytes("object", None, 100).await.unwrap_err();
        check(
            &error,
            StoreErrorKind::Foreign,
            &["web page", &status[..3], "--endpoint-url"],
        );
    }
}
