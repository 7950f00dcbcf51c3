//! The bucket itself: whether it is there, and making it.

use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use super::{Store, StoreError, StoreErrorKind, request::on_bucket};

impl Store {
    /// HeadBucket: checks that the bucket exists and that these credentials may use it.
    ///
    /// # Errors
    /// `NoBucket`, `NoCredentials`, `BadCredentials`, `Denied`, `Unreachable`, `Tls`.
    pub async fn check_bucket(&self) -> Result<(), StoreError> {
        let context = self.context("HeadBucket", &self.inner.url.bucket);
        let checked = self.retrying(|_| async {
            let request = on_bucket!(self, head_bucket);
            self.plain(context, &self.inner.metrics.head_requests, request.send())
                .await
                .map(drop)
        });
        match checked.await {
            // An answer to HEAD has no body that would say why: ask again with a listing. Where
            // that is answered, the bucket is there and may be used; some stores know no HEAD of
            // it.
            Err(error)
                if matches!(
                    error.kind,
                    StoreErrorKind::Denied | StoreErrorKind::NoBucket | StoreErrorKind::Other
                ) =>
            {
                match self.list_raw("", None, 1).await {
                    Ok(_) => Ok(()),
                    Err(reason) if reason.kind == StoreErrorKind::Other => match error.kind {
                        StoreErrorKind::Other => Err(reason),
                        _ => Err(error),
                    },
                    Err(reason) => Err(reason),
                }
            }
            result => result,
        }
    }

    /// CreateBucket (with the region's location constraint where that is needed). A bucket that
    /// this account owns already is no error.
    ///
    /// # Errors
    /// As [`Store::check_bucket`]; `Other` if another account has a bucket of this name.
    pub async fn create_bucket(&self) -> Result<(), StoreError> {
        let context = self.context("CreateBucket", &self.inner.url.bucket);
        let constraint = (self.inner.is_aws && self.inner.region != "us-east-1").then(|| {
            let region = BucketLocationConstraint::from(self.inner.region.as_str());
            CreateBucketConfiguration::builder()
                .location_constraint(region)
                .build()
        });
        self.retrying(|_| async {
            let mut request = on_bucket!(self, create_bucket);
            request = request.set_create_bucket_configuration(constraint.clone());
            match self
                .plain(context, &self.inner.metrics.put_requests, request.send())
                .await
            {
                Ok(_) => Ok(()),
                Err(failure) if failure.has_code("BucketAlreadyOwnedByYou") => Ok(()),
                Err(failure) if failure.has_code("BucketAlreadyExists") => Err(context
                    .nonsense("a bucket of this name exists already and belongs to somebody else")),
                Err(failure) => Err(failure),
            }
        })
        .await
    }
}
