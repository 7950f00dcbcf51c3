//! Stores, and buckets, that lack one thing or have one too many: the line that fails, or warns,
//! names it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    misleading::date_in,
    support::{
        lying::{
            Form, Lie, LyingStore, Op, Rule,
            answer::{Answer, broken},
            request,
        },
        site::{Site, Transport},
    },
};

use super::{CHECKS, Examined, assert_nothing_left, denied, doctor};

/// Something that is missing.
struct Case {
    rules: Vec<Rule>,
    failure: &'static str,
    words: &'static [&'static str],
    skipped: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let unknown = || Lie::refuse(501, Form::Code("NotImplemented"));
    vec![
        Case {
            rules: vec![
                Rule::on([Op::Put])
                    .conditional()
                    .always(Lie::IgnoreCondition),
            ],
            failure: "conditional put",
            words: &[
                "lacks conditional PUT (If-None-Match)",
                "docs/operations.md",
            ],
            skipped: &["races"],
        },
        Case {
            rules: vec![
                Rule::on([Op::Put])
                    .conditional()
                    .keys(|key| key.ends_with("-race"))
                    .always(Lie::IgnoreCondition),
            ],
            failure: "races",
            words: &["If-None-Match", "several of the PUTs that raced"],
            skipped: &[],
        },
        Case {
            rules: vec![
                Rule::on([Op::Put])
                    .conditional()
                    .keys(|key| key.ends_with("-second"))
                    .always(Lie::IgnoreCondition),
            ],
            failure: "races",
            words: &["If-Match", "several of the PUTs that raced"],
            skipped: &[],
        },
        Case {
            rules: vec![Rule::on([Op::List]).always(unknown())],
            failure: "list",
            words: &["lacks ListObjectsV2", "NotImplemented"],
            skipped: &["volume"],
        },
        Case {
            rules: vec![
                Rule::on([Op::List])
                    .always(Lie::Unlist(Arc::new(|key: &str| key.ends_with("-listed2")))),
            ],
            failure: "list",
            words: &["lacks ListObjectsV2", "were written"],
            skipped: &["volume"],
        },
        Case {
            rules: vec![Rule::on([Op::Delete]).always(Lie::Pretend)],
            failure: "delete",
            words: &["lacks delete", "a deleted object is still there"],
            skipped: &[],
        },
        Case {
            // The range is ignored, as far as the answer says.
            rules: vec![
                Rule::on([Op::Get])
                    .asking_for(1)
                    .always(Lie::change(|answer| {
                        answer.status = 200;
                        answer.remove("content-range");
                    })),
            ],
            failure: "ranged get",
            words: &["lacks ranged GET", "differ from those that were written"],
            skipped: &["volume"],
        },
        Case {
            rules: vec![Rule::on([Op::Create]).always(unknown())],
            failure: "multipart upload",
            words: &["lacks multipart upload", "NotImplemented"],
            skipped: &["unfinished uploads"],
        },
        Case {
            rules: vec![Rule::on([Op::Get]).always(Lie::change(broken::flip))],
            failure: "get",
            words: &["lacks GET", "differ from those that were written"],
            skipped: &denied::NEED_GET,
        },
    ]
}

#[test]
fn each_ability_that_a_store_lacks_fails_its_line_alone() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let before = site.bucket().sizes();
    for case in cases() {
        for rule in case.rules {
            store.lie(rule);
        }
        let examined = Examined::through(&site, &store);
        store.heal();
        examined.assert_only(case.failure, case.words, case.skipped, &[]);
        assert_nothing_left(&site, &before, &examined.said);
    }
}

#[test]
fn a_clock_that_differs_fails_its_line_alone() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let all = || {
        request::ALL
            .into_iter()
            .chain([Op::Lifecycle, Op::Versioning])
    };
    let dated = |minutes| {
        let date = move |answer: &mut Answer| answer.set("Date", &date_in(minutes));
        store.lie(Rule::on(all().collect::<Vec<_>>()).always(Lie::change(date)));
        let examined = Examined::through(&site, &store);
        store.heal();
        examined
    };
    let little = dated(2);
    assert_eq!(little.checks("warning"), ["clock"], "{}", little.said);
    assert_eq!(little.checks("ok").len(), CHECKS.len() - 1);
    assert_eq!(little.code, Some(0), "{}", little.said);
    // The SDK signs for the time that the store claims, so the server behind refuses the others.
    let mut skipped = vec!["credentials"];
    skipped.extend(denied::after("credentials"));
    for (minutes, words) in [(17, "17 minutes behind"), (-90, "90 minutes ahead of")] {
        let words = [words, "set the clock right"];
        dated(minutes).assert_only("clock", &words, &skipped, &[]);
    }
    // A store that refuses because of it.
    let date = |answer: &mut Answer| {
        *answer = Answer::refusal(403, Form::Code("RequestTimeTooSkewed"));
        answer.set("Date", &date_in(17));
    };
    store.lie(Rule::on(all().collect::<Vec<_>>()).always(Lie::change(date)));
    let examined = Examined::through(&site, &store);
    examined.assert_only("clock", &["17 minutes behind"], &skipped, &[]);
}

/// A lifecycle with one rule.
fn lifecycle(prefix: &str, id: &str, what: &str) -> Lie {
    let xml = format!(
        "<?xml version=\"1.0\"?><LifecycleConfiguration><Rule><ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter>\
         <Status>Enabled</Status>{what}</Rule></LifecycleConfiguration>"
    );
    Lie::change(move |answer| *answer = Answer::xml(xml.clone()))
}

#[test]
fn lifecycle_rules_that_would_hurt_are_named_and_others_are_not() {
    const EXPIRES: &str = "<Expiration><Days>30</Days></Expiration>";
    const COLD: &str =
        "<Transition><Days>9</Days><StorageClass>GLACIER</StorageClass></Transition>";
    const COOL: &str =
        "<Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>";
    const TIDY: &str = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
                        </AbortIncompleteMultipartUpload>";
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let with = |lie: Lie| {
        let told = store.lie(Rule::on([Op::Lifecycle]).always(lie));
        let examined = Examined::through(&site, &store);
        store.heal();
        assert!(told.count() > 0, "{}", examined.said);
        examined
    };
    let words = ["'month'", "after 30 days", "remove that rule"];
    for prefix in ["", "lap", "laptop/data/"] {
        let examined = with(lifecycle(prefix, "month", EXPIRES));
        examined.assert_only("lifecycle rules", &words, &[], &[]);
    }
    let examined = with(lifecycle("", "cold", COLD));
    examined.assert_only("lifecycle rules", &["'cold'", "GLACIER"], &[], &[]);
    let examined = with(lifecycle("", "cool", COOL));
    assert_eq!(
        examined.checks("warning"),
        ["lifecycle rules"],
        "{}",
        examined.said
    );
    assert_eq!(examined.code, Some(0));
    for (prefix, what) in [("", TIDY), ("logs/", EXPIRES)] {
        let examined = with(lifecycle(prefix, "harmless", what));
        assert_eq!(examined.checks("ok"), CHECKS, "{}", examined.said);
    }
}

#[test]
fn versions_that_are_kept_for_ever_are_a_warning() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let on = |answer: &mut Answer| {
        let xml = "<?xml version=\"1.0\"?><VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        *answer = Answer::xml(xml.to_owned());
    };
    store.lie(Rule::on([Op::Versioning]).always(Lie::change(on)));
    let examined = Examined::through(&site, &store);
    assert_eq!(
        examined.checks("warning"),
        ["versioning"],
        "{}",
        examined.said
    );
    assert_eq!(examined.checks("failure"), [""; 0], "{}", examined.said);
    assert_eq!(examined.code, Some(0), "{}", examined.said);
    let text = examined.text("versioning");
    assert!(
        text.contains("paid for") && text.contains("noncurrent"),
        "{text}"
    );
    let old = "<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>";
    store.lie(Rule::on([Op::Lifecycle]).always(lifecycle("laptop/", "old", old)));
    let examined = Examined::through(&site, &store);
    assert_eq!(examined.checks("ok"), CHECKS, "{}", examined.said);
}

#[test]
fn a_request_that_is_never_answered_is_a_failure_and_no_hang() {
    let site = Site::start(Transport::Plain);
    let store = LyingStore::before(site.server().local_addr());
    let before = site.bucket().sizes();
    store.lie(Rule::on([Op::Versioning]).always(Lie::Withhold));
    let mut command = doctor(&site, &[&site.url(), "--timeout", "3s"]);
    let began = Instant::now();
    let examined = Examined::by(command.env("AWS_ENDPOINT_URL_S3", store.endpoint()));
    let took = began.elapsed();
    store.heal();
    let words = ["did not answer within 3 s", "--timeout"];
    examined.assert_only("versioning", &words, &[], &[]);
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_nothing_left(&site, &before, &examined.said);
}

#[test]
fn a_header_that_does_not_read_is_a_failure_and_one_of_two_a_warning() {
    let site = Site::start(Transport::Plain);
    site.bucket().put("laptop/strongroom.json", b"{}".to_vec());
    let examined = Examined::by(&mut doctor(&site, &[&site.url()]));
    assert_eq!(examined.checks("warning"), ["volume"], "{}", examined.said);
    let text = examined.text("volume");
    assert!(text.contains("strongroom.json is unusable"), "{text}");
    site.bucket()
        .put("laptop/strongroom.copy.json", b"{}".to_vec());
    let examined = Examined::by(&mut doctor(&site, &[&site.url()]));
    examined.assert_only("volume", &["damaged in both copies", "restore"], &[], &[]);
}
