//! Bodies: ranges, checksums, metadata, and what happens when one side goes away.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use bytes::Bytes;
use strongroom::server::Server;

use crate::{
    fixture::{BUCKET, Fixture, completed, refusal, start, start_tls},
    support::{random::noise, server::server_config, wait::eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_sizes_come_back_whole_plain_and_over_tls() {
    for fixture in [start().await, start_tls().await] {
        for len in [0, 1, 65_535, 262_144, 262_145, 1_000_003, 5_000_000] {
            let body = noise(len as u64, len);
            fixture.put("key", body.clone()).await;
            assert!(fixture.get("key").await == body, "{len} bytes");
        }
        fixture.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_returns_its_bytes_and_moves_no_more() {
    let fixture = start().await;
    let body = noise(7, 20_000_000);
    fixture.put("key", body.clone()).await;
    fixture.settled(|stats| stats.requests_in_flight == 0).await;
    fixture.server.reset_stats();
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=5-4000", 5..4001),
        ("bytes=262000-1500000", 262_000..1_500_001),
        ("bytes=19999990-30000000", 19_999_990..20_000_000),
        ("bytes=-7", 19_999_993..20_000_000),
    ] {
        assert!(
            fixture.get_range("key", range).await == body[expected],
            "{range}"
        );
    }
    let stats = fixture.server.stats();
    assert_eq!(stats.body_bytes_out, 1 + 3996 + 1_238_001 + 10 + 7);
    assert!(stats.socket_bytes_written < stats.body_bytes_out + 5 * 1000);

    let beyond = fixture
        .client
        .get_object()
        .bucket(BUCKET)
        .key("key")
        .range("bytes=20000000-")
        .send()
        .await;
    assert_eq!(refusal(beyond), ("InvalidRange".to_owned(), 416));
    fixture.put("empty", "").await;
    let of_nothing = fixture
        .client
        .get_object()
        .bucket(BUCKET)
        .key("empty")
        .range("bytes=-5")
        .send()
        .await;
    assert_eq!(refusal(of_nothing).1, 416);
    let head = fixture
        .client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .range("bytes=10-19")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.content_length(), head.content_range()),
        (Some(10), Some("bytes 10-19/20000000"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_is_checked_and_given_back_and_others_than_crc32_are_refused() {
    let fixture = start().await;
    let body = noise(3, 300_000);
    let put = |algorithm: ChecksumAlgorithm, body: ByteStream| {
        let put = fixture.client.put_object().bucket(BUCKET).key("key");
        put.checksum_algorithm(algorithm).body(body).send()
    };
    // In memory the checksum is a header; from a stream of unknown content it is a trailer.
    for streams in [false, true] {
        let sent = match streams {
            true => streamed(&body),
            false => ByteStream::from(body.clone()),
        };
        put(ChecksumAlgorithm::Crc32, sent).await.unwrap();
        // With checksums asked for, the SDK verifies what it gets.
        let got = fixture
            .client
            .get_object()
            .bucket(BUCKET)
            .key("key")
            .checksum_mode(ChecksumMode::Enabled);
        let got = got.send().await.unwrap();
        assert!(got.checksum_crc32().is_some());
        assert!(got.body.collect().await.unwrap().to_vec() == body);
    }
    for other in [
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        for sent in [streamed(b"other"), ByteStream::from_static(b"other")] {
            let refused = refusal(put(other.clone(), sent).await);
            assert_eq!(refused, ("NotImplemented".to_owned(), 501), "{other:?}");
        }
    }
    assert!(fixture.get("key").await == body);
}

/// A body whose content the SDK can't see beforehand.
fn streamed(body: &[u8]) -> ByteStream {
    use http_body_util::StreamBody;
    let pieces: Vec<_> = body
        .chunks(50_000)
        .map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    struct Sized<B>(B, u64);
    impl<B: http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin> http_body::Body
        for Sized<B>
    {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.1)
        }
    }
    let stream = StreamBody::new(futures::stream::iter(pieces));
    ByteStream::from_body_1_x(Sized(stream, body.len() as u64))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_huge_chunk_is_taken_unless_its_signature_would_have_to_be_held() {
    let body = noise(4, 20_000_000);
    for (fixture, is_tls) in [(start().await, false), (start_tls().await, true)] {
        let config = fixture
            .client
            .config()
            .to_builder()
            .aws_chunked_encoding_chunk_size(None);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("key")
            .body(streamed(&body))
            .send()
            .await;
        if is_tls {
            put.unwrap();
            assert!(fixture.get("key").await == body);
        } else {
            assert_eq!(refusal(put), ("InvalidRequest".to_owned(), 400));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_leaves_the_old_object() {
    let fixture = start().await;
    fixture.put("key", "old").await;
    let put = |body: &'static [u8]| {
        let put = fixture.client.put_object().bucket(BUCKET).key("key");
        put.body(ByteStream::from_static(body))
    };
    let zeros = "AAAAAA==";
    let refused = [
        refusal(put(b"new").checksum_crc32(zeros).send().await),
        refusal(
            put(b"new")
                .content_md5("1B2M2Y8AsgTpgAmY7PhCfg==")
                .send()
                .await,
        ),
    ];
    for refused in refused {
        assert_eq!(refused, ("BadDigest".to_owned(), 400));
    }
    let not_md5 = put(b"new").content_md5("AAAA").send().await;
    assert_eq!(refusal(not_md5), ("InvalidDigest".to_owned(), 400));
    // The payload's hash is signed: changing a byte on the way breaks it.
    let changed = put(b"new!").customize().mutate_request(|request| {
        *request.body_mut() = aws_smithy_types::body::SdkBody::from("nEw!");
    });
    let (code, status) = refusal(changed.send().await);
    assert!(
        matches!(
            (code.as_str(), status),
            ("BadDigest", 400) | ("SignatureDoesNotMatch", 403)
        ),
        "{code} {status}"
    );
    assert_eq!(fixture.get("key").await, b"old");
    put(b"new")
        .content_md5("Iq8zWpxfgFCEqMNhOS4fYg==")
        .send()
        .await
        .expect_err("another MD5");
    let right = data_encoding::BASE64.encode(&md5_of_new());
    put(b"new").content_md5(right).send().await.unwrap();
    assert_eq!(fixture.get("key").await, b"new");
    assert_eq!(temp_files(&fixture), 0);
}

fn md5_of_new() -> Vec<u8> {
    data_encoding::HEXLOWER
        .decode(b"22af645d1859cb5ca6da0c484f1f37ea")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_leaves_the_old_object_and_nothing_else() {
    use tokio::io::AsyncWriteExt;

    let fixture = start().await;
    fixture.put("key", "old").await;
    // A request signed by the SDK, sent by hand and only in part.
    let body = noise(9, 4_000_000);
    let presigning =
        aws_sdk_s3::presigning::PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let request = fixture
        .client
        .put_object()
        .bucket(BUCKET)
        .key("key")
        .presigned(presigning)
        .await
        .unwrap();
    let path = request.uri().split_once("/bucket").unwrap().1;
    let mut socket = tokio::net::TcpStream::connect(fixture.server.local_addr())
        .await
        .unwrap();
    let mut head = format!(
        "PUT /bucket{path} HTTP/1.1\r\nhost: {}\r\n",
        fixture.server.local_addr()
    );
    for (name, value) in request.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&body[..3_000_000]).await.unwrap();
    fixture
        .settled(|stats| stats.body_bytes_in > 2_000_000)
        .await;
    drop(socket);
    fixture.settled(|stats| stats.requests_in_flight == 0).await;
    assert_eq!(fixture.get("key").await, b"old");
    eventually("the temporary file goes", async || {
        temp_files(&fixture) == 0
    })
    .await;
}

fn temp_files(fixture: &Fixture) -> usize {
    fixture.files_in("s3/tmp")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_dropped_stops_the_server() {
    let fixture = start().await;
    const LEN: usize = 200_000_000;
    let id = fixture.begin("key").await;
    let half = noise(1, LEN / 2);
    let parts = vec![
        (1, fixture.part("key", &id, 1, half.clone()).await),
        (2, fixture.part("key", &id, 2, half).await),
    ];
    fixture.complete("key", &id, &parts).await;
    fixture.server.reset_stats();
    let mut got = fixture.open("key").await;
    let first = got.body.next().await.unwrap().unwrap();
    assert!(!first.is_empty());
    drop(got);
    fixture.settled(|stats| stats.requests_in_flight == 0).await;
    let stats = fixture.server.stats();
    assert_eq!(stats.requests_aborted, 1);
    println!(
        "sent {} of {LEN} bytes to a client that read {}",
        stats.socket_bytes_written,
        first.len()
    );
    assert!(stats.socket_bytes_written < 8_000_000, "{stats:#?}");
    assert!(stats.body_bytes_out < 8_000_000, "{stats:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_headers_come_back_and_survive_a_restart() {
    let fixture = start().await;
    let put = fixture
        .client
        .put_object()
        .bucket(BUCKET)
        .key("key")
        .body(ByteStream::from_static(b"x"));
    let put = put
        .metadata("put-id", "01ABC")
        .metadata("other", "a b")
        .content_type("text/x-test");
    let put = put
        .cache_control("no-store")
        .content_language("is")
        .content_disposition("inline");
    put.send().await.unwrap();
    let id = fixture
        .client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("parts")
        .metadata("put-id", "2");
    let id = id.send().await.unwrap().upload_id().unwrap().to_owned();
    let etag = fixture.part("parts", &id, 1, b"x".to_vec()).await;
    let complete = fixture
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("parts")
        .upload_id(&id);
    complete
        .multipart_upload(completed(&[(1, etag)]))
        .send()
        .await
        .unwrap();
    let Fixture { server, dir, .. } = fixture;
    server.shutdown().await;

    let server = Server::start(server_config(dir.path().join("s3")))
        .await
        .unwrap();
    let client = crate::fixture::client(
        &server.endpoint_url(),
        crate::support::credentials::SECRET_KEY,
        None,
    );
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    let metadata = head.metadata().unwrap();
    assert_eq!(metadata.len(), 2);
    assert_eq!(
        (metadata["put-id"].as_str(), metadata["other"].as_str()),
        ("01ABC", "a b")
    );
    assert_eq!(head.content_type(), Some("text/x-test"));
    assert_eq!(head.cache_control(), Some("no-store"));
    assert_eq!(head.content_language(), Some("is"));
    assert_eq!(head.content_disposition(), Some("inline"));
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("parts")
        .send()
        .await
        .unwrap();
    assert_eq!(head.metadata().unwrap()["put-id"], "2");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused() {
    let fixture = start().await;
    let second = Server::start(server_config(fixture.dir.path().join("s3"))).await;
    let message = second.err().unwrap().to_string();
    assert!(message.contains("another server has it open"), "{message}");
}
