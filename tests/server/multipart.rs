//! Multipart uploads.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType};

use crate::{
    fixture::{BUCKET, Fixture, client, completed, refusal, start},
    support::{credentials::SECRET_KEY, random::noise},
};

const MIB: usize = 1024 * 1024;

async fn complete(
    fixture: &Fixture,
    key: &str,
    id: &str,
    parts: &[(i32, String)],
) -> Result<
    aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput,
    aws_sdk_s3::error::SdkError<
        aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError,
    >,
> {
    let complete = fixture
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id);
    complete.multipart_upload(completed(parts)).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_any_order_become_one_object_that_ranges_cross() {
    let fixture = start().await;
    let body = noise(5, 13 * MIB);
    let id = fixture.begin("key").await;
    let mut parts = Vec::new();
    for (number, piece) in [
        (7, 10 * MIB..13 * MIB),
        (2, 0..5 * MIB),
        (4, 5 * MIB..10 * MIB),
    ] {
        parts.push((
            number,
            fixture.part("key", &id, number, body[piece].to_vec()).await,
        ));
    }
    parts.sort();
    assert_eq!(refusal(fixture.try_open("key").await).0, "NoSuchKey");
    let made = complete(&fixture, "key", &id, &parts).await.unwrap();
    assert!(made.e_tag().unwrap().ends_with("-3\""));
    assert!(fixture.get("key").await == body);
    let across = fixture
        .get_range("key", &format!("bytes={}-{}", 5 * MIB - 10, 10 * MIB + 9))
        .await;
    assert!(across == body[5 * MIB - 10..10 * MIB + 10]);
    let part = fixture
        .client
        .get_object()
        .bucket(BUCKET)
        .key("key")
        .part_number(4)
        .send()
        .await
        .unwrap();
    assert_eq!(part.parts_count(), Some(3));
    assert!(part.body.collect().await.unwrap().to_vec() == body[5 * MIB..10 * MIB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_uploaded_again_replaces_the_earlier_one() {
    let fixture = start().await;
    let id = fixture.begin("key").await;
    let first = fixture.part("key", &id, 1, b"first".to_vec()).await;
    let second = fixture.part("key", &id, 1, b"second".to_vec()).await;
    assert_eq!(
        refusal(complete(&fixture, "key", &id, &[(1, first)]).await),
        ("InvalidPart".to_owned(), 400)
    );
    complete(&fixture, "key", &id, &[(1, second)])
        .await
        .unwrap();
    assert_eq!(fixture.get("key").await, b"second");
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_again_after_a_lost_answer_succeeds_and_changes_nothing() {
    let fixture = start().await;
    let id = fixture.begin("key").await;
    let parts = vec![(1, fixture.part("key", &id, 1, b"body".to_vec()).await)];
    let first = complete(&fixture, "key", &id, &parts).await.unwrap();
    let conditional = fixture
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("key")
        .upload_id(&id);
    let again = conditional
        .if_none_match("*")
        .multipart_upload(completed(&parts))
        .send()
        .await
        .unwrap();
    assert_eq!(again.e_tag(), first.e_tag());
    assert_eq!(
        refusal(complete(&fixture, "key", &id, &[(1, "\"x\"".to_owned())]).await).0,
        "NoSuchUpload"
    );
    fixture.put("key", "replaced").await;
    assert_eq!(
        refusal(complete(&fixture, "key", &id, &parts).await).0,
        "NoSuchUpload"
    );
    assert_eq!(fixture.get("key").await, b"replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_that_s3_would_refuse_are_refused() {
    let fixture = start().await;
    let id = fixture.begin("key").await;
    let one = fixture.part("key", &id, 1, vec![1; 100]).await;
    let two = fixture.part("key", &id, 2, vec![2; 5 * MIB]).await;
    let check = async |parts: &[(i32, &str)]| {
        let parts: Vec<_> = parts
            .iter()
            .map(|(number, etag)| (*number, (*etag).to_owned()))
            .collect();
        refusal(complete(&fixture, "key", &id, &parts).await).0
    };
    assert_eq!(check(&[(1, &one), (2, &two)]).await, "EntityTooSmall");
    assert_eq!(check(&[(2, &two), (1, &one)]).await, "InvalidPartOrder");
    assert_eq!(check(&[(2, &two), (3, &one)]).await, "InvalidPart");
    assert_eq!(check(&[]).await, "MalformedXML");
    assert_eq!(
        refusal(complete(&fixture, "key", "no-such-id", &[(1, one)]).await).0,
        "NoSuchUpload"
    );
    let part = fixture
        .client
        .upload_part()
        .bucket(BUCKET)
        .key("key")
        .upload_id(&id)
        .part_number(10_001);
    assert_eq!(refusal(part.send().await).0, "InvalidArgument");
    complete(&fixture, "key", &id, &[(2, two)]).await.unwrap();
    assert_eq!(fixture.get("key").await.len(), 5 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_parts_are_listed_until_they_end() {
    let fixture = start().await;
    let mut ids = Vec::new();
    for key in ["data/a", "data/a", "data/b", "other"] {
        ids.push((key, fixture.begin(key).await));
    }
    for number in [3, 1, 2] {
        fixture
            .part(
                "data/b",
                &ids[2].1,
                number,
                vec![number as u8; 10 * number as usize],
            )
            .await;
    }
    let mut expected: Vec<_> = ids[..3]
        .iter()
        .map(|(key, id)| ((*key).to_owned(), id.clone()))
        .collect();
    expected.sort();
    let mut listed = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = fixture
            .client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .prefix("data/")
            .max_uploads(1);
        let page = page
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .unwrap();
        let uploads = page.uploads().iter();
        listed.extend(uploads.map(|it| {
            (
                it.key().unwrap().to_owned(),
                it.upload_id().unwrap().to_owned(),
            )
        }));
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_upload_id_marker().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(listed, expected);

    let list = || {
        fixture
            .client
            .list_parts()
            .bucket(BUCKET)
            .key("data/b")
            .upload_id(&ids[2].1)
    };
    let parts = list().send().await.unwrap();
    let sizes: Vec<_> = parts
        .parts()
        .iter()
        .map(|part| (part.part_number().unwrap(), part.size().unwrap()))
        .collect();
    assert_eq!(sizes, [(1, 10), (2, 20), (3, 30)]);
    let page = list().max_parts(2).send().await.unwrap();
    assert_eq!((page.parts().len(), page.is_truncated()), (2, Some(true)));
    let rest = list()
        .part_number_marker(page.next_part_number_marker().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!((rest.parts().len(), rest.is_truncated()), (1, Some(false)));

    for (key, id) in &ids {
        let abort = || {
            let abort = fixture.client.abort_multipart_upload();
            abort.bucket(BUCKET).key(*key).upload_id(id).send()
        };
        abort().await.unwrap();
        let again = abort().await;
        assert_eq!(refusal(again), ("NoSuchUpload".to_owned(), 404));
    }
    let none = fixture
        .client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    assert!(none.uploads().is_empty());
    assert_eq!(part_files(&fixture), 0, "the parts go with their upload");
}

fn part_files(fixture: &Fixture) -> usize {
    fixture.files_in("s3/buckets/bucket/parts")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart() {
    let fixture = start().await;
    let body = noise(6, 7 * MIB);
    let id = fixture.begin("key").await;
    let one = fixture.part("key", &id, 1, body[..5 * MIB].to_vec()).await;
    let Fixture { server, dir, .. } = fixture;
    server.shutdown().await;
    let server = strongroom::server::Server::start(crate::support::server::server_config(
        dir.path().join("s3"),
    ))
    .await
    .unwrap();
    let client = client(&server.endpoint_url(), SECRET_KEY, None);
    let fixture = Fixture {
        server,
        client,
        dir,
    };
    let listed = fixture
        .client
        .list_parts()
        .bucket(BUCKET)
        .key("key")
        .upload_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(listed.parts()[0].e_tag(), Some(one.as_str()));
    let two = fixture.part("key", &id, 2, body[5 * MIB..].to_vec()).await;
    complete(&fixture, "key", &id, &[(1, one), (2, two)])
        .await
        .unwrap();
    assert!(fixture.get("key").await == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_an_object_go_when_it_is_replaced_or_deleted_but_not_under_a_reader() {
    let fixture = start().await;
    let body = noise(2, 12 * MIB);
    for replace in [true, false] {
        let id = fixture.begin("key").await;
        let mut parts = Vec::new();
        for (number, piece) in (1..).zip(body.chunks(6 * MIB)) {
            parts.push((
                number,
                fixture.part("key", &id, number, piece.to_vec()).await,
            ));
        }
        // A part that the completion leaves out.
        fixture.part("key", &id, 9, vec![9; 10]).await;
        complete(&fixture, "key", &id, &parts).await.unwrap();
        assert_eq!(part_files(&fixture), 2);
        let mut reader = fixture.open("key").await;
        let first = reader.body.next().await.unwrap().unwrap();
        if replace {
            fixture.put("key", "replaced").await;
        } else {
            fixture.delete("key").await;
        }
        let mut read = first.to_vec();
        while let Some(piece) = reader.body.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert!(read == body);
        fixture.settled(|stats| stats.requests_in_flight == 0).await;
        assert_eq!(part_files(&fixture), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_parts_become_the_checksum_of_the_object() {
    let fixture = start().await;
    for kind in [ChecksumType::FullObject, ChecksumType::Composite] {
        let algorithm = ChecksumAlgorithm::Crc32;
        let begin = fixture
            .client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key("key");
        let begin = begin
            .checksum_algorithm(algorithm.clone())
            .checksum_type(kind.clone())
            .send()
            .await
            .unwrap();
        let id = begin.upload_id().unwrap();
        let body = noise(8, 6 * MIB);
        let mut parts = Vec::new();
        for (number, piece) in (1..).zip(body.chunks(5 * MIB)) {
            let part = fixture
                .client
                .upload_part()
                .bucket(BUCKET)
                .key("key")
                .upload_id(id)
                .part_number(number);
            let part = part
                .checksum_algorithm(algorithm.clone())
                .body(ByteStream::from(piece.to_vec()));
            parts.push((
                number,
                part.send().await.unwrap().e_tag().unwrap().to_owned(),
            ));
        }
        let made = complete(&fixture, "key", id, &parts).await.unwrap();
        assert_eq!(made.checksum_type(), Some(&kind));
        // The SDK verifies checksums of whole objects itself.
        let got = fixture
            .client
            .get_object()
            .bucket(BUCKET)
            .key("key")
            .checksum_mode(ChecksumMode::Enabled);
        let got = got.send().await.unwrap();
        assert!(got.body.collect().await.unwrap().to_vec() == body);
    }
}
