//! Keys that may not do one thing: the line that fails names it, and the right that is missing.

use crate::support::{
    commands::said,
    lying::{Form, Lie, LyingStore, Op, Rule},
    site::{Site, Transport},
};

use super::{CHECKS, Examined, assert_nothing_left, doctor};

fn deny() -> Lie {
    Lie::refuse(403, Form::Code("AccessDenied"))
}

/// A right that is missing.
struct Case {
    rule: Rule,
    failure: &'static str,
    words: [&'static str; 2],
    skipped: &'static [&'static str],
    warned: &'static [&'static str],
}

/// The checks that need an object to read.
pub const NEED_GET: [&str; 7] = [
    "ranged get",
    "multipart upload",
    "unfinished uploads",
    "races",
    "volume",
    "latency",
    "bandwidth",
];

fn cases() -> Vec<Case> {
    let uploads = |op: Op| Case {
        rule: Rule::on([op]).always(deny()),
        failure: "multipart upload",
        words: [
            "is denied (AccessDenied",
            "s3:PutObject on s3://vault/laptop/*",
        ],
        skipped: &["unfinished uploads"],
        warned: &[],
    };
    let deletes = |op: Op, warned: &'static [&'static str]| Case {
        rule: Rule::on([op]).always(deny()),
        failure: "delete",
        words: [
            "is denied (AccessDenied",
            "s3:DeleteObject on s3://vault/laptop/*",
        ],
        skipped: &[],
        warned,
    };
    vec![
        Case {
            rule: Rule::on([Op::Put]).always(deny()),
            failure: "put",
            words: ["PutObject is denied", "s3:PutObject on s3://vault/laptop/*"],
            skipped: &[
                "get",
                "list",
                "delete",
                "conditional put",
                "ranged get",
                "multipart upload",
                "unfinished uploads",
                "races",
                "volume",
                "latency",
                "bandwidth",
            ],
            warned: &[],
        },
        Case {
            rule: Rule::on([Op::Get]).always(deny()),
            failure: "get",
            words: ["GetObject is denied", "s3:GetObject on s3://vault/laptop/*"],
            skipped: &NEED_GET,
            warned: &[],
        },
        Case {
            rule: Rule::on([Op::List]).always(deny()),
            failure: "list",
            words: ["ListObjectsV2 is denied", "s3:ListBucket on s3://vault"],
            skipped: &["volume"],
            warned: &[],
        },
        deletes(Op::Delete, &[]),
        deletes(Op::DeleteMany, &["clean up"]),
        Case {
            rule: Rule::on([Op::Put]).conditional().always(deny()),
            failure: "conditional put",
            words: ["PutObject is denied", "s3:PutObject"],
            skipped: &["races"],
            warned: &[],
        },
        Case {
            rule: Rule::on([Op::Get]).asking_for(1).always(deny()),
            failure: "ranged get",
            words: ["GetObject is denied", "s3:GetObject"],
            skipped: &["volume"],
            warned: &[],
        },
        uploads(Op::Create),
        uploads(Op::UploadPart),
        uploads(Op::Complete),
        Case {
            rule: Rule::on([Op::Abort]).always(deny()),
            failure: "unfinished uploads",
            words: ["AbortMultipartUpload is denied", "s3:AbortMultipartUpload"],
            skipped: &[],
            warned: &["clean up"],
        },
        Case {
            rule: Rule::on([Op::ListUploads]).always(deny()),
            failure: "unfinished uploads",
            words: [
                "ListMultipartUploads is denied",
                "s3:ListBucketMultipartUploads on s3://vault",
            ],
            skipped: &[],
            warned: &[],
        },
    ]
}

#[test]
fn a_request_that_is_denied_fails_its_line_alone() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let before = site.bucket().sizes();
    for case in cases() {
        let told = store.lie(case.rule);
        let examined = Examined::through(&site, &store);
        store.heal();
        examined.assert_only(case.failure, &case.words, case.skipped, case.warned);
        assert!(told.count() > 0, "{}", case.failure);
        if !case.warned.is_empty() {
            delete_what_is_told(&site, &examined);
        }
        assert_nothing_left(&site, &before, &examined.said);
    }
}

/// Where objects or uploads are left, the line of the cleaning up says where.
fn delete_what_is_told(site: &Site, examined: &Examined) {
    let text = examined.text("clean up");
    let (_, rest) = text.split_once("left at s3://vault/").expect("a place");
    let (prefix, _) = rest.split_once('*').expect("the beginning of keys");
    let keys = site.bucket().keys().into_iter();
    let keys: Vec<_> = keys.filter(|key| key.starts_with(prefix)).collect();
    for key in &keys {
        site.bucket().delete(key);
    }
    let uploads = site.bucket().uploads();
    for key in &uploads {
        assert!(key.starts_with(prefix), "{key}: {text}");
    }
    site.bucket().abort_uploads();
    assert!(keys.len() + uploads.len() > 0, "nothing was left: {text}");
}

#[test]
fn a_key_that_may_not_ask_for_the_rules_is_a_warning_and_one_without_the_buckets_head_is_none() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    for (op, warned, words) in [
        (
            Op::Lifecycle,
            &["lifecycle rules"][..],
            "s3:GetLifecycleConfiguration",
        ),
        (
            Op::Versioning,
            &["versioning"][..],
            "s3:GetBucketVersioning",
        ),
        (Op::HeadBucket, &[][..], ""),
    ] {
        let told = store.lie(Rule::on([op]).always(deny()));
        let examined = Examined::through(&site, &store);
        store.heal();
        assert_eq!(examined.code, Some(0), "{}", examined.said);
        assert_eq!(examined.checks("warning"), warned, "{}", examined.said);
        // The refusals of this proxy have no date.
        let without_date = usize::from(op == Op::HeadBucket);
        let ok = CHECKS.len() - warned.len() - without_date;
        assert_eq!(examined.checks("ok").len(), ok, "{}", examined.said);
        for check in warned {
            assert!(examined.text(check).contains(words), "{}", examined.said);
        }
        assert!(told.count() > 0, "{op:?}");
    }
}

#[test]
fn credentials_that_are_wrong_or_missing_fail_their_line_alone() {
    let site = Site::start(Transport::Plain);
    let mut command = doctor(&site, &[&site.url()]);
    let wrong = Examined::by(command.env("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret"));
    let behind: Vec<_> = after("credentials");
    wrong.assert_only(
        "credentials",
        &["refuses the credentials", "secret"],
        &behind,
        &[],
    );
    assert!(!wrong.said.contains("canary-of-a-secret"), "{}", wrong.said);

    let mut command = doctor(&site, &[&site.url()]);
    command.env_remove("AWS_SECRET_ACCESS_KEY");
    let missing = Examined::by(command.env_remove("AWS_ACCESS_KEY_ID"));
    let mut skipped = vec!["endpoint", "clock"];
    skipped.extend(behind);
    missing.assert_only(
        "credentials",
        &["no S3 credentials", "AWS_ACCESS_KEY_ID"],
        &skipped,
        &[],
    );

    let bucket = Examined::by(&mut doctor(&site, &["s3://no-such-bucket/x"]));
    let words = ["no-such-bucket does not exist", "--create-bucket"];
    bucket.assert_only("bucket", &words, &after("bucket"), &[]);
    let output = doctor(&site, &["laptop"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// The checks of the store behind this one, which make no sense without it. Where nothing was
/// written, nothing is cleaned up.
pub fn after(check: &str) -> Vec<&'static str> {
    let rest = CHECKS.into_iter().skip_while(|name| *name != check).skip(1);
    let local = ["state directory", "disk cache", "clean up"];
    rest.filter(|name| !local.contains(name)).collect()
}
