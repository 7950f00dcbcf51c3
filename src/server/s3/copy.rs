//! CopyObject and UploadPartCopy, from file to file in the kernel where it can. No part of
//! Strongroom sends them; s3fs does, which `mount-scripts/bench.sh` runs over this server.

use std::sync::Arc;

use hyper::HeaderMap;
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::Operations;
use super::conditions::ReadConditions;
use super::wire::{self, checksums_out, headers_in};
use crate::server::storage::{Checksums, Conditions, Reader, Storage, TempFile};

pub(super) async fn object(
    operations: &Operations,
    req: S3Request<CopyObjectInput>,
) -> S3Result<CopyObjectOutput> {
    let mut input = req.input;
    let replaces = input
        .metadata_directive
        .as_ref()
        .is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
    let headers = headers_in!(input);
    let source = source(&input.copy_source)?;
    if !replaces && source == (input.bucket.clone(), input.key.clone()) {
        return Err(s3_error!(
            InvalidRequest,
            "A copy onto itself must replace the metadata."
        ));
    }
    let read_conditions = ReadConditions {
        if_match: input.copy_source_if_match.take(),
        if_none_match: input.copy_source_if_none_match.take(),
        if_modified_since: input.copy_source_if_modified_since.take(),
        if_unmodified_since: input.copy_source_if_unmodified_since.take(),
    };
    let conditions = target_conditions(&req.headers)?;
    let record = operations
        .blocking(move |storage| {
            let reader = open_source(storage, &source, read_conditions)?;
            let from = &reader.object().record;
            let headers = if replaces {
                headers
            } else {
                from.headers.clone()
            };
            // A checksum of parts' checksums does not hold for a copy in one piece.
            let checksums = if from.checksums.composite {
                Checksums::default()
            } else {
                from.checksums.clone()
            };
            let size = reader.remaining();
            let temp = copy_rest(storage, reader)?;
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
    let mut result = CopyObjectResult {
        e_tag: wire::etag(&record.etag),
        last_modified: Some(record.modified.into()),
        checksum_type: wire::checksum_type(&record.checksums),
        ..Default::default()
    };
    checksums_out!(result, record.checksums);
    Ok(CopyObjectOutput {
        copy_object_result: Some(result),
        ..Default::default()
    })
}

pub(super) async fn part(
    operations: &Operations,
    input: UploadPartCopyInput,
) -> S3Result<UploadPartCopyOutput> {
    let source = source(&input.copy_source)?;
    let number = super::multipart::part_number(input.part_number)?;
    let range = input
        .copy_source_range
        .as_deref()
        .map(Range::parse)
        .transpose();
    let range =
        range.map_err(|_| s3_error!(InvalidArgument, "x-amz-copy-source-range is not a range."))?;
    let read_conditions = ReadConditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    let record = operations
        .blocking(move |storage| {
            storage.head_upload(&input.bucket, &input.key, &input.upload_id)?;
            let mut reader = open_source(storage, &source, read_conditions)?;
            if let Some(range) = range {
                let span = range
                    .check(reader.remaining())
                    .map_err(|_| s3_error!(InvalidRange))?;
                reader.seek(span.start, span.end);
            }
            let size = reader.remaining();
            let temp = copy_rest(storage, reader)?;
            let place = (input.key.as_str(), input.upload_id.as_str(), number);
            Ok(storage.put_part(&input.bucket, place, (temp, size), Checksums::default())?)
        })
        .await?;
    let result = CopyPartResult {
        e_tag: wire::etag(&record.etag),
        last_modified: Some(record.modified.into()),
        ..Default::default()
    };
    Ok(UploadPartCopyOutput {
        copy_part_result: Some(result),
        ..Default::default()
    })
}

fn source(source: &CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket {
            bucket,
            key,
            version_id: None,
        } => Ok((bucket.to_string(), key.to_string())),
        CopySource::Bucket { .. } => Err(s3_error!(NotImplemented, "There are no versions here.")),
        _ => Err(s3_error!(
            NotImplemented,
            "Only buckets can be copied from."
        )),
    }
}

fn open_source(
    storage: &Storage,
    source: &(String, String),
    conditions: ReadConditions,
) -> S3Result<Reader> {
    let reader = storage.open_object(&source.0, &source.1)?;
    conditions
        .check(&reader.object().record)
        .map_err(|_| s3_error!(PreconditionFailed))?;
    Ok(reader)
}

fn copy_rest(storage: &Arc<Storage>, mut reader: Reader) -> S3Result<TempFile> {
    let mut copy = || -> std::io::Result<TempFile> {
        let temp = storage.temp_file()?;
        reader.copy_to(temp.file())?;
        Ok(temp)
    };
    copy().map_err(|error| s3_error!(error, InternalError))
}

/// The conditions on the copy's target, which the protocol layer does not parse for this operation.
fn target_conditions(headers: &HeaderMap) -> S3Result<Conditions> {
    let condition = |name: &str| {
        let parse =
            |value: &hyper::header::HeaderValue| ETagCondition::parse_http_header(value.as_bytes());
        let parsed = headers.get(name).map(parse).transpose();
        parsed
            .map_err(|_| s3_error!(InvalidArgument, "{name} is not an ETag."))
            .map(|it| it.map(wire::expectation))
    };
    Ok(Conditions {
        if_match: condition("if-match")?,
        if_none_match: condition("if-none-match")?,
        if_size: None,
    })
}
