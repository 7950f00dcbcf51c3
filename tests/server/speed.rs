//! How fast it is. Prints figures; asserts only what any machine manages.

use std::time::Instant;

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use strongroom::server::SyncPolicy;

use crate::{
    fixture::{BUCKET, Fixture, start, start_tls, start_with},
    support::random::noise,
};

const LEN: usize = 64 * 1024 * 1024;
const ROUNDS: usize = 6;

async fn large(name: &str, fixture: &Fixture) {
    large_signed(name, fixture, true).await;
}

async fn large_signed(name: &str, fixture: &Fixture, sign: bool) {
    let body = Bytes::from(noise(1, LEN));
    let rate = |begin: Instant| (LEN * ROUNDS) as f64 / begin.elapsed().as_secs_f64() / 1e6;
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let put = fixture.client.put_object().bucket(BUCKET).key("key");
        let put = put.body(ByteStream::from(body.clone())).customize();
        let put = if sign {
            put
        } else {
            put.disable_payload_signing()
        };
        put.send().await.unwrap();
    }
    let put = rate(begin);
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let mut got = fixture
            .client
            .get_object()
            .bucket(BUCKET)
            .key("key")
            .send()
            .await
            .unwrap();
        let mut len = 0;
        while let Some(piece) = got.body.next().await {
            len += piece.unwrap().len();
        }
        assert_eq!(len, LEN);
    }
    let get = rate(begin);
    println!("{name}: 64 MiB PUT {put:.0} MB/s, GET {get:.0} MB/s");
    assert!(put > 20.0 && get > 20.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_move_faster_than_20_mb_a_second() {
    large("plain", &start().await).await;
    large("TLS", &start_tls().await).await;
    let mut fixture = start().await;
    let config = fixture.client.config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    fixture.client = aws_sdk_s3::Client::from_conf(config.build());
    large("plain, no checksum", &fixture).await;
    large_signed("plain, no checksum, payload not signed", &fixture, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_take_no_delayed_acknowledgement() {
    for (name, sync) in [
        ("synced", SyncPolicy::Always),
        ("not synced", SyncPolicy::Never),
    ] {
        let fixture = start_with(|config| config.sync = sync).await;
        fixture.put("key", vec![7; 4096]).await;
        const COUNT: u32 = 200;
        let begin = Instant::now();
        for _ in 0..COUNT {
            fixture.get("key").await;
        }
        let get = begin.elapsed() / COUNT;
        let begin = Instant::now();
        for _ in 0..COUNT {
            fixture.put("key", vec![7; 4096]).await;
        }
        println!(
            "{name}: 4 KiB GET {get:?}, PUT {:?}",
            begin.elapsed() / COUNT
        );
        assert!(get.as_millis() < 30, "{get:?}");
    }
}
