//! Stores that cannot be reached: one line says why, and the others are skipped.

use std::time::{Duration, Instant};

use strongroom::server::{Faults, Outage};

use crate::support::{
    raw_store::{Answer, RawStore},
    site::{Site, Transport},
};

use super::{Examined, denied::after, doctor};

#[test]
fn an_endpoint_that_cannot_be_used_fails_its_line_alone() {
    let site = Site::without_volume(Transport::Plain);
    let page = RawStore::start(None, |request| {
        let fields = "Content-Type: text/html\r\nConnection: close\r\n";
        match request.line().starts_with("HEAD") {
            true => Answer::Say(
                format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 9\r\n\r\n").into_bytes(),
            ),
            false => Answer::whole("200 OK", fields, b"<p>Hi</p>"),
        }
    });
    let skipped: Vec<_> = after("endpoint");
    for (endpoint, words) in [
        ("http://127.0.0.1:1", ["does not answer", "--endpoint-url"]),
        ("127.0.0.1:9000", ["is not a URL", "https://host:port"]),
        (page.url().as_str(), ["web page", "--endpoint-url"]),
    ] {
        let mut command = doctor(&site, &[&site.url(), "--endpoint-url", endpoint]);
        let examined = Examined::by(&mut command);
        examined.assert_only("endpoint", &words, &skipped, &[]);
    }
    let tls = Site::without_volume(Transport::Tls);
    let mut command = doctor(&tls, &[&tls.url()]);
    let examined = Examined::by(command.env_remove("AWS_CA_BUNDLE"));
    examined.assert_only(
        "endpoint",
        &["unknown authority", "--ca-bundle"],
        &skipped,
        &[],
    );
}

#[test]
fn a_store_that_hangs_is_a_failure_in_the_time_of_one_check() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    let hang = Faults {
        outage: Outage::Hang,
        ..Faults::default()
    };
    site.server().set_faults(hang).unwrap();
    let began = Instant::now();
    let examined = Examined::by(&mut doctor(&site, &[&site.url(), "--timeout", "2s"]));
    let took = began.elapsed();
    site.server().set_faults(Faults::default()).unwrap();
    let words = ["did not answer within 2 s", "--timeout"];
    examined.assert_only("endpoint", &words, &after("endpoint"), &[]);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
