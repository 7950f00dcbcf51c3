//! PutObject, DeleteObject and DeleteObjects.

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::Operations;
use super::ingest::receive_body;
use super::wire::{self, checksums_out, headers_in};
use crate::server::storage::Conditions;

/// The most keys of one DeleteObjects.
const MAX_DELETES: usize = 1000;

pub(super) async fn put(
    operations: &Operations,
    req: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let mut input = req.input;
    operations.storage.head_bucket(&input.bucket)?;
    if input.write_offset_bytes.is_some() {
        return Err(s3_error!(
            NotImplemented,
            "Appending to objects is not supported."
        ));
    }
    let headers = headers_in!(input);
    let conditions = Conditions {
        if_match: input.if_match.take().map(wire::expectation),
        if_none_match: input.if_none_match.take().map(wire::expectation),
        if_size: None,
    };
    let received = receive_body!(operations, req, input);
    let record = operations
        .blocking(move |storage| {
            let (temp, size, checksums) = received.verify()?;
            Ok(storage.put_object(
                &input.bucket,
                &input.key,
                (temp, size),
                headers,
                checksums,
                &conditions,
            )?)
        })
        .await?;
    let mut output = PutObjectOutput {
        e_tag: wire::etag(&record.etag),
        checksum_type: wire::checksum_type(&record.checksums),
        ..Default::default()
    };
    checksums_out!(output, record.checksums);
    Ok(output)
}

pub(super) async fn delete(
    operations: &Operations,
    input: DeleteObjectInput,
) -> S3Result<DeleteObjectOutput> {
    let conditions = Conditions {
        if_match: input.if_match.map(wire::expectation),
        if_none_match: None,
        if_size: input
            .if_match_size
            .and_then(|size| u64::try_from(size).ok()),
    };
    operations
        .blocking(move |storage| {
            Ok(storage.delete_object(&input.bucket, &input.key, &conditions)?)
        })
        .await?;
    Ok(DeleteObjectOutput::default())
}

pub(super) async fn delete_many(
    operations: &Operations,
    input: DeleteObjectsInput,
) -> S3Result<DeleteObjectsOutput> {
    let quiet = input.delete.quiet.unwrap_or(false);
    let objects = input.delete.objects;
    if objects.len() > MAX_DELETES {
        return Err(s3_error!(
            MalformedXML,
            "At most {MAX_DELETES} keys can be deleted at once."
        ));
    }
    let keys: Vec<_> = objects
        .into_iter()
        .map(|object| {
            let conditions = Conditions {
                if_match: object
                    .e_tag
                    .map(|etag| wire::expectation(ETagCondition::ETag(etag))),
                if_none_match: None,
                if_size: object.size.and_then(|size| u64::try_from(size).ok()),
            };
            (object.key, conditions)
        })
        .collect();
    let (keys, answers) = operations
        .blocking(move |storage| {
            let answers = storage.delete_objects(&input.bucket, &keys)?;
            Ok((keys, answers))
        })
        .await?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for ((key, _), answer) in keys.into_iter().zip(answers) {
        match answer {
            Ok(()) => deleted.push(DeletedObject {
                key: Some(key),
                ..Default::default()
            }),
            Err(refusal) => {
                let message = refusal.to_string();
                let error = s3s::S3Error::from(refusal);
                errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(key),
                    message: Some(message),
                    version_id: None,
                });
            }
        }
    }
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    })
}
