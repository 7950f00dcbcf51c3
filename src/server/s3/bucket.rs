//! Bucket operations.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::Operations;

/// The region that clients are told; any region is accepted in signatures.
const REGION: &str = "us-east-1";

pub(super) fn list(operations: &Operations) -> S3Result<ListBucketsOutput> {
    let buckets = operations.storage.list_buckets();
    let buckets = buckets.into_iter().map(|(name, created)| Bucket {
        name: Some(name),
        creation_date: Some(created.into()),
        bucket_region: None,
    });
    let owner = Owner {
        id: Some("strongroom".to_owned()),
        display_name: None,
    };
    Ok(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        owner: Some(owner),
        ..Default::default()
    })
}

pub(super) async fn create(
    operations: &Operations,
    input: CreateBucketInput,
) -> S3Result<CreateBucketOutput> {
    let location = format!("/{}", input.bucket);
    operations
        .blocking(move |storage| Ok(storage.create_bucket(&input.bucket)?))
        .await?;
    Ok(CreateBucketOutput {
        location: Some(location),
    })
}

pub(super) async fn delete(
    operations: &Operations,
    input: DeleteBucketInput,
) -> S3Result<DeleteBucketOutput> {
    operations
        .blocking(move |storage| Ok(storage.delete_bucket(&input.bucket)?))
        .await?;
    Ok(DeleteBucketOutput::default())
}

pub(super) fn head(operations: &Operations, input: &HeadBucketInput) -> S3Result<HeadBucketOutput> {
    operations.storage.head_bucket(&input.bucket)?;
    Ok(HeadBucketOutput {
        bucket_region: Some(REGION.to_owned()),
        ..Default::default()
    })
}

pub(super) fn location(
    operations: &Operations,
    input: &GetBucketLocationInput,
) -> S3Result<GetBucketLocationOutput> {
    operations.storage.head_bucket(&input.bucket)?;
    // An empty constraint is how S3 says us-east-1.
    Ok(GetBucketLocationOutput::default())
}

/// There are no rules, so nothing is ever deleted or moved.
pub(super) fn lifecycle(
    operations: &Operations,
    input: &GetBucketLifecycleConfigurationInput,
) -> S3Result<GetBucketLifecycleConfigurationOutput> {
    operations.storage.head_bucket(&input.bucket)?;
    Err(s3_error!(
        NoSuchLifecycleConfiguration,
        "The bucket has no lifecycle rules."
    ))
}

/// No versions are kept, which S3 says with an empty answer.
pub(super) fn versioning(
    operations: &Operations,
    input: &GetBucketVersioningInput,
) -> S3Result<GetBucketVersioningOutput> {
    operations.storage.head_bucket(&input.bucket)?;
    Ok(GetBucketVersioningOutput::default())
}
