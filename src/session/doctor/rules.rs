//! The rules of the bucket that would hurt a volume: those that delete its objects or put them out
//! of reach, and versions that are kept for ever.

use super::{
    refusal::refused,
    report::{Check, Outcome},
    sheet::Sheet,
};
use crate::store::{LifecycleRule, Store, StoreError, StoreErrorKind, Versioning};

/// Classes of storage whose objects cannot be read before they are restored.
const OUT_OF_REACH: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Reads both.
pub(super) async fn look(sheet: &Sheet<'_>, store: &Store) {
    let url = store.url();
    let rules = async {
        let asked = store.lifecycle_rules().await;
        match asked {
            Ok(rules) => {
                let names = rules.iter().map(|rule| rule.id.clone());
                (lifecycle(&rules).naming(names), rules)
            }
            Err(error) => (unknown(&error, store), Vec::new()),
        }
    };
    let rules = sheet.check(Check::Lifecycle, rules).await;
    let rules = rules.unwrap_or_default();
    let days = rules
        .iter()
        .filter_map(|rule| rule.old_versions_expire_days);
    let days = days.min();
    let versions = async {
        let outcome = match store.versioning().await {
            Ok(state) => versioning(state, days, &url.to_string()),
            Err(error) => unknown(&error, store),
        };
        (outcome, ())
    };
    sheet.check(Check::Versioning, versions).await;
}

/// The store does not say, or not to this key.
fn unknown(error: &StoreError, store: &Store) -> Outcome {
    match error.kind {
        StoreErrorKind::Denied => Outcome::warning(
            format!("this key may not ask ({})", error.message),
            "ask somebody who may whether objects below this prefix are deleted, moved or kept as \
             old versions by rules; or grant s3:GetLifecycleConfiguration and \
             s3:GetBucketVersioning",
        ),
        // Not every store has S3's form of rules.
        StoreErrorKind::Unavailable | StoreErrorKind::Nonsense => Outcome::warning(
            format!("the store's answer cannot be used ({})", error.message),
            "look by other means whether objects below this prefix are deleted, moved or kept as \
             old versions by rules",
        ),
        StoreErrorKind::Other => Outcome::ok("the store does not know such a thing"),
        _ => refused(error, store.url()),
    }
}

fn lifecycle(rules: &[LifecycleRule]) -> Outcome {
    let found = |test: &dyn Fn(&LifecycleRule) -> Option<String>| rules.iter().find_map(test);
    let expires = |rule: &LifecycleRule| {
        let when = rule.expires.as_ref()?;
        Some(format!(
            "the rule '{}' deletes objects of a volume here {when}",
            rule.id
        ))
    };
    let moves = |rule: &LifecycleRule, out_of_reach: bool| {
        let class = rule
            .moves_to
            .iter()
            .find(|class| OUT_OF_REACH.contains(&class.as_str()) == out_of_reach)?;
        Some(format!("the rule '{}' moves objects to {class}", rule.id))
    };
    if let Some(found) = found(&expires) {
        return Outcome::failure(
            format!("{found}, used or not: files will be lost"),
            "remove that rule, limit it to other prefixes, or choose another prefix",
        );
    }
    if let Some(found) = found(&|rule| moves(rule, true)) {
        return Outcome::failure(
            format!("{found}, from where they cannot be read at once"),
            "remove that rule, limit it to other prefixes, or choose another prefix",
        );
    }
    if let Some(found) = found(&|rule| moves(rule, false)) {
        return Outcome::warning(
            format!("{found}: reading and early deletion cost extra there"),
            "compare the prices, or limit that rule to other prefixes",
        );
    }
    Outcome::ok(match rules.len() {
        0 => "none concerns the prefix".to_owned(),
        1 => "one concerns the prefix, and neither deletes nor moves live objects".to_owned(),
        count => format!("{count} concern the prefix, and none deletes or moves live objects"),
    })
}

fn versioning(state: Versioning, old_versions_expire_days: Option<i32>, place: &str) -> Outcome {
    match (state, old_versions_expire_days) {
        (Versioning::Off, _) => Outcome::ok("off"),
        (Versioning::Suspended, _) => Outcome::ok("suspended: nothing new is kept"),
        (Versioning::On, Some(days)) => Outcome::ok(format!(
            "on; a lifecycle rule deletes old versions after {days} days"
        )),
        (Versioning::On, None) => Outcome::warning(
            "on: what a volume replaces or deletes stays, unseen, and is paid for",
            format!(
                "add a lifecycle rule that deletes noncurrent versions below {place} after some days"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::doctor::report::Verdict;

    fn rule(id: &str) -> LifecycleRule {
        LifecycleRule {
            id: id.to_owned(),
            ..LifecycleRule::default()
        }
    }

    fn moving(id: &str, class: &str) -> LifecycleRule {
        LifecycleRule {
            moves_to: vec![class.to_owned()],
            ..rule(id)
        }
    }

    #[test]
    fn the_worst_rule_is_named() {
        let tidy = || LifecycleRule {
            old_versions_expire_days: Some(7),
            ..rule("tidy")
        };
        let expiring = LifecycleRule {
            expires: Some("after 30 days".to_owned()),
            ..rule("month")
        };
        let (cold, cool) = (
            moving("cold", "DEEP_ARCHIVE"),
            moving("cool", "STANDARD_IA"),
        );
        for (rules, verdict, words) in [
            (vec![], Verdict::Ok, "none concerns"),
            (vec![tidy()], Verdict::Ok, "one concerns"),
            (
                vec![tidy(), cool.clone()],
                Verdict::Warning,
                "'cool' moves objects to STANDARD_IA",
            ),
            (
                vec![cool, cold.clone()],
                Verdict::Failure,
                "'cold' moves objects to DEEP_ARCHIVE",
            ),
            (
                vec![cold, expiring],
                Verdict::Failure,
                "'month' deletes objects of a volume here after 30 days",
            ),
        ] {
            let line = lifecycle(&rules).line(Check::Lifecycle);
            assert_eq!(line.verdict, verdict, "{line:?}");
            assert!(line.found.contains(words), "{line:?}");
        }
    }

    #[test]
    fn versions_that_are_kept_for_ever_are_warned_of() {
        let of = |state, days| versioning(state, days, "s3://bucket/laptop").verdict;
        assert_eq!(of(Versioning::Off, None), Verdict::Ok);
        assert_eq!(of(Versioning::Suspended, None), Verdict::Ok);
        assert_eq!(of(Versioning::On, Some(7)), Verdict::Ok);
        assert_eq!(of(Versioning::On, None), Verdict::Warning);
    }
}
