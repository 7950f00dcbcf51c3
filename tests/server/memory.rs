//! Bodies stream: the server's memory does not grow with them.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::{
    fixture::{BUCKET, client},
    process::spawn,
    support::{credentials::SECRET_KEY, random::noise},
};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn many_large_bodies_at_once_stay_within_96_mib() {
    let dir = tempfile::tempdir().unwrap();
    let (server, url) = spawn(dir.path());
    let s3 = client(&url, SECRET_KEY, None);
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let body = Bytes::from(noise(1, 32 * MIB));
    let puts = (0..8).map(|number| {
        let put = s3.put_object().bucket(BUCKET).key(format!("{number}"));
        let put = put.body(ByteStream::from(body.clone())).customize();
        put.disable_payload_signing().send()
    });
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    // Readers that take a little and then stop reading, all at once.
    let gets = (0..32).map(|number| {
        s3.get_object()
            .bucket(BUCKET)
            .key(format!("{}", number % 8))
            .send()
    });
    let mut readers = Vec::new();
    for got in futures::future::join_all(gets).await {
        let mut got = got.unwrap().body;
        assert!(got.next().await.unwrap().is_ok());
        readers.push(got);
    }
    for mut reader in readers.drain(..4) {
        while let Some(piece) = reader.next().await {
            piece.unwrap();
        }
    }
    let peak = server.peak_rss_bytes() / MIB as u64;
    println!("peak RSS {peak} MiB");
    assert!(
        peak < 96,
        "{peak} MiB for 8 uploads of 32 MiB and 32 readers"
    );
}
