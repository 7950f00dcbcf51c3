//! TLS with an own authority, and what goes over the wire.

use strongroom::{server::RequestLog, store::Condition};

use crate::support::{random::pattern, server::TestServer};

#[tokio::test]
async fn an_own_authority_is_trusted_from_the_option_and_from_the_environment() {
    let (fixture, authority) = TestServer::start_tls().await;
    let store = fixture
        .store_with(|config| config.ca_bundle.clone_from(&authority))
        .await;
    let whole = pattern(3_000_000);
    store
        .put("object", vec![whole.clone()], Condition::Absent, &[])
        .await
        .unwrap();
    for _ in 0..5 {
        assert!(store.get_bytes("object", None, 3_000_000).await.unwrap().1 == whole);
    }
    assert_eq!(
        fixture.server.stats().tls_handshakes,
        1,
        "one connection serves all"
    );
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::set_var("AWS_CA_BUNDLE", authority.unwrap()) };
    fixture
        .connect(|_| {})
        .await
        .unwrap()
        .check_bucket()
        .await
        .unwrap();
    // SAFETY: as above.
    unsafe { std::env::remove_var("AWS_CA_BUNDLE") };
}

#[tokio::test]
async fn an_upload_is_its_bytes_and_a_few_headers_and_not_chunked() {
    let fixture = TestServer::start_with(|config, directory| {
        config.request_log = RequestLog::File(directory.join("requests"));
    })
    .await;
    let store = fixture.store().await;
    fixture.server.reset_stats();
    store
        .put("object", vec![pattern(1_000_000)], Condition::Absent, &[])
        .await
        .unwrap();
    let stats = fixture.server.stats();
    assert_eq!(stats.body_bytes_in, 1_000_000);
    assert!(
        stats.socket_bytes_read < 1_002_000,
        "{} bytes",
        stats.socket_bytes_read
    );
    assert_eq!(stats.total_requests(), 1);
}
