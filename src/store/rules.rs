//! The rules of the bucket that concern the objects of a volume: its lifecycle, and whether it
//! keeps versions. Only `doctor` asks for them.

use aws_sdk_s3::types::{self, BucketVersioningStatus, ExpirationStatus};
use aws_smithy_types::date_time::{DateTime, Format};

use super::{Store, StoreError, StoreErrorKind, request::on_bucket};
use crate::telemetry::shown;

/// Longer names of rules are cut.
const ID_CHARS_MAX: usize = 60;
/// A rule may list as many classes of storage as it likes.
const CLASSES_MAX: usize = 8;

/// A rule that is in force for keys of the volume, or for some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name, fit for a terminal.
    pub id: String,
    /// When objects are deleted, in words such as `after 30 days`.
    pub expires: Option<String>,
    /// The classes of storage that objects are moved to, such as `GLACIER`.
    pub moves_to: Vec<String>,
    /// Old versions are deleted after so many days.
    pub old_versions_expire_days: Option<i32>,
}

/// Whether a bucket keeps what is replaced or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It does not.
    Off,
    /// It does not any more; old versions are still there.
    Suspended,
    /// It does.
    On,
}

impl Store {
    /// The rules in force that concern keys below the volume's prefix.
    ///
    /// # Errors
    /// `Denied` where the key may not ask, `Other` where the store does not know the request.
    pub async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        let bucket = &self.inner.url.bucket;
        let context = self.context("GetBucketLifecycleConfiguration", bucket);
        let asked = self.retrying(|_| async {
            let request = on_bucket!(self, get_bucket_lifecycle_configuration);
            let counter = &self.inner.metrics.list_requests;
            self.plain(context, counter, request.send()).await
        });
        let rules = match asked.await {
            Ok(answer) => answer.rules.unwrap_or_default(),
            // So does S3 say that there are none.
            Err(error) if error.kind == StoreErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let volume = self.inner.url.full_key("");
        let concerned = rules.iter().filter(|rule| concerns(rule, &volume));
        Ok(concerned.map(told).collect())
    }

    /// Whether the bucket keeps versions.
    ///
    /// # Errors
    /// As [`Store::lifecycle_rules`].
    pub async fn versioning(&self) -> Result<Versioning, StoreError> {
        let context = self.context("GetBucketVersioning", &self.inner.url.bucket);
        let asked = self.retrying(|_| async {
            let request = on_bucket!(self, get_bucket_versioning);
            let counter = &self.inner.metrics.list_requests;
            self.plain(context, counter, request.send()).await
        });
        match asked.await {
            Ok(answer) => Ok(match answer.status {
                Some(BucketVersioningStatus::Enabled) => Versioning::On,
                Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                _ => Versioning::Off,
            }),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Versioning::Off),
            Err(error) => Err(error),
        }
    }
}

/// Whether a rule is in force for any key that begins with `volume`.
fn concerns(rule: &types::LifecycleRule, volume: &str) -> bool {
    let filter = rule.filter.as_ref();
    let and = filter.and_then(|filter| filter.and.as_ref());
    // Objects of a volume have no tags.
    let wants_tags = filter.is_some_and(|filter| filter.tag.is_some())
        || and.is_some_and(|and| !and.tags().is_empty());
    // The oldest form of a rule has its prefix outside of the filter.
    #[allow(deprecated)]
    let prefix = rule.prefix.as_deref();
    let prefix = prefix
        .or_else(|| filter?.prefix.as_deref())
        .or_else(|| and?.prefix.as_deref())
        .unwrap_or_default();
    rule.status == ExpirationStatus::Enabled
        && !wants_tags
        && (prefix.starts_with(volume) || volume.starts_with(prefix))
}

fn told(rule: &types::LifecycleRule) -> LifecycleRule {
    let expiration = rule.expiration.as_ref();
    let days = expiration.and_then(|expiration| expiration.days);
    let date = expiration.and_then(|expiration| expiration.date.as_ref());
    let expires = match (days, date) {
        (Some(days), _) => Some(format!("after {days} days")),
        (None, Some(date)) => Some(format!("on {}", day(date))),
        // A rule about the marks that deletions of versions leave.
        (None, None) => None,
    };
    let classes = rule.transitions().iter().take(CLASSES_MAX);
    let classes = classes.filter_map(|transition| transition.storage_class.as_ref());
    let old = rule.noncurrent_version_expiration.as_ref();
    LifecycleRule {
        id: shown(rule.id.as_deref().unwrap_or("without a name"), ID_CHARS_MAX),
        expires,
        moves_to: classes
            .map(|class| shown(class.as_str(), ID_CHARS_MAX))
            .collect(),
        old_versions_expire_days: old.and_then(|old| old.noncurrent_days),
    }
}

fn day(date: &DateTime) -> String {
    let text = date.fmt(Format::DateTime).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{
        LifecycleExpiration, LifecycleRuleAndOperator, LifecycleRuleFilter, Tag, Transition,
        TransitionStorageClass,
    };

    use super::*;

    fn rule(filter: Option<LifecycleRuleFilter>, status: ExpirationStatus) -> types::LifecycleRule {
        types::LifecycleRule::builder()
            .set_filter(filter)
            .status(status)
            .build()
            .unwrap()
    }

    fn prefixed(prefix: &str) -> Option<LifecycleRuleFilter> {
        Some(LifecycleRuleFilter::builder().prefix(prefix).build())
    }

    #[test]
    fn a_rule_concerns_a_volume_where_their_prefixes_meet() {
        let on = || ExpirationStatus::Enabled;
        assert!(concerns(&rule(None, on()), "laptop/"));
        for (prefix, volume, meets) in [
            ("", "laptop/", true),
            ("lap", "laptop/", true),
            ("laptop/", "laptop/", true),
            ("laptop/data/", "laptop/", true),
            ("laptop2/", "laptop/", false),
            ("logs/", "laptop/", false),
            ("logs/", "", true),
        ] {
            let rule = rule(prefixed(prefix), on());
            assert_eq!(concerns(&rule, volume), meets, "{prefix} {volume}");
        }
        let off = rule(prefixed(""), ExpirationStatus::Disabled);
        assert!(!concerns(&off, "laptop/"));
    }

    #[test]
    fn a_rule_for_objects_with_tags_concerns_no_volume() {
        let tag = Tag::builder().key("a").value("b").build().unwrap();
        let tagged = LifecycleRuleFilter::builder().tag(tag.clone()).build();
        let and = LifecycleRuleAndOperator::builder().prefix("laptop/");
        let both = LifecycleRuleFilter::builder().and(and.clone().tags(tag).build());
        let untagged = LifecycleRuleFilter::builder().and(and.build()).build();
        for (filter, expected) in [(tagged, false), (both.build(), false), (untagged, true)] {
            let rule = rule(Some(filter), ExpirationStatus::Enabled);
            assert_eq!(concerns(&rule, "laptop/"), expected);
        }
    }

    #[test]
    fn a_rule_is_told_in_words_that_a_terminal_can_show() {
        let expires = LifecycleExpiration::builder()
            .date(DateTime::from_secs(1_800_000_000))
            .build();
        let glacier = Transition::builder().storage_class(TransitionStorageClass::Glacier);
        let rule = types::LifecycleRule::builder()
            .id("a\u{1b}b")
            .expiration(expires)
            .transitions(glacier.build())
            .status(ExpirationStatus::Enabled)
            .build()
            .unwrap();
        let told = told(&rule);
        assert_eq!(told.id, "a\\u{1b}b");
        assert_eq!(told.expires.as_deref(), Some("on 2027-01-15"));
        assert_eq!(told.moves_to, ["GLACIER"]);
        assert_eq!(told.old_versions_expire_days, None);
    }
}
