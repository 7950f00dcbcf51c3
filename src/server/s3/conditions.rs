//! Conditions of reads: `If-Match`, `If-None-Match` and their kin by time.

use std::time::{Duration, SystemTime};

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};

use crate::server::storage::ObjectRecord;

/// The four conditional headers of GET and HEAD, or of a copy's source.
pub(super) struct ReadConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// `PreconditionFailed` or `NotModified` when they do not hold, in the order of RFC 9110,
    /// 13.2.2.
    pub(super) fn check(self, object: &ObjectRecord) -> S3Result<()> {
        let names = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == object.etag,
        };
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !names(condition) => return Err(s3_error!(PreconditionFailed)),
            (None, Some(time)) if modified_after(object, time) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if names(condition) => Err(s3_error!(NotModified)),
            (None, Some(time)) if !modified_after(object, time) => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }
}

/// In whole seconds, as the header has no more.
fn modified_after(object: &ObjectRecord, time: &Timestamp) -> bool {
    let time = SystemTime::from(time::OffsetDateTime::from(time.clone()));
    object
        .modified
        .duration_since(time)
        .is_ok_and(|since| since >= Duration::from_secs(1))
}
