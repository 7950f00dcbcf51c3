//! Authentication of requests.

use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    fixture::{BUCKET, client, refusal, start, start_tls},
    support::{
        credentials::{ACCESS_KEY, SECRET_KEY},
        random::noise,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_for_every_kind_of_request() {
    let fixture = start().await;
    fixture.put("key", "old").await;
    let wrong = client(&fixture.server.endpoint_url(), "wrong", None);
    let refused = [
        refusal(wrong.get_object().bucket(BUCKET).key("key").send().await),
        refusal(wrong.list_objects_v2().bucket(BUCKET).send().await),
        refusal(wrong.list_buckets().send().await),
        refusal(wrong.delete_object().bucket(BUCKET).key("key").send().await),
        refusal(
            wrong
                .put_object()
                .bucket(BUCKET)
                .key("key")
                .body(ByteStream::from(noise(1, 6_000_000)))
                .send()
                .await,
        ),
    ];
    for refused in refused {
        assert_eq!(refused, ("SignatureDoesNotMatch".to_owned(), 403));
    }
    assert_eq!(fixture.get("key").await, b"old");
    assert_eq!(fixture.server.stats().count("Rejected"), 5);
    assert_eq!(fixture.server.stats().errors["Rejected"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_access_key_and_no_signature_are_refused() {
    let fixture = start().await;
    let config = fixture.client.config().to_builder();
    let stranger = config
        .credentials_provider(Credentials::new("stranger", "secret", None, None, "test"))
        .build();
    let stranger = aws_sdk_s3::Client::from_conf(stranger);
    let refused = refusal(stranger.list_buckets().send().await);
    assert_eq!(refused, ("InvalidAccessKeyId".to_owned(), 403));
    let mut socket = tokio::net::TcpStream::connect(fixture.server.local_addr())
        .await
        .unwrap();
    socket
        .write_all(b"GET /bucket?list-type=2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
}

/// Sends one request over a socket of its own and reads the answer.
async fn say(address: std::net::SocketAddr, request: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn signature_version_2_is_refused_though_the_signature_is_good() {
    let fixture = start().await;
    let sign = |text: &str| {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET_KEY.as_bytes());
        data_encoding::BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref())
    };
    let now = time::OffsetDateTime::now_utc();
    let date = now
        .format(&time::format_description::well_known::Rfc2822)
        .unwrap()
        .replace("+0000", "GMT");
    let signature = sign(&format!("GET\n\n\n{date}\n/"));
    let in_header = format!(
        "GET / HTTP/1.1\r\nhost: x\r\ndate: {date}\r\n\
         authorization: AWS {ACCESS_KEY}:{signature}\r\nconnection: close\r\n\r\n"
    );
    let expires = now.unix_timestamp() + 600;
    let signature = sign(&format!("GET\n\n\n{expires}\n/"))
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let in_url = format!(
        "GET /?AWSAccessKeyId={ACCESS_KEY}&Expires={expires}&Signature={signature} HTTP/1.1\r\n\
         host: x\r\nconnection: close\r\n\r\n"
    );
    for request in [in_header, in_url] {
        let answer = say(fixture.server.local_addr(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("AWS4-HMAC-SHA256"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_handshakes_are_counted_and_plain_http_is_not_spoken() {
    let fixture = start_tls().await;
    for number in 0..5 {
        fixture.put(&format!("key-{number}"), "x").await;
    }
    let stats = fixture.server.stats();
    assert!(
        stats.tls_handshakes <= 1,
        "one connection is used again: {stats:#?}"
    );
    let plain = client(
        &format!("http://{}", fixture.server.local_addr()),
        "wrong",
        None,
    );
    plain.list_buckets().send().await.unwrap_err();
}
