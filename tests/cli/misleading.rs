//! Mistakes that look like something else: the line names the true cause, says what to do, and says
//! nothing twice.

use std::{fs, path::PathBuf, process::Command};

use strongroom::{
    server::{ServerConfig, TlsFiles},
    session::Exit,
};

use crate::{
    running::refused,
    support::{
        bucket::BUCKET,
        commands::{said, same_environment, text, tool},
        raw_store::{Answer, RawStore, Request},
        server::{ServerThread, server_config},
        site::{Site, Transport},
    },
};

/// As `assert_refused`, and no three words stand in the line twice.
fn assert_told(command: &mut Command, exit: Exit, words: &[&str]) -> String {
    let line = refused(command, exit, words);
    let plain: Vec<_> = line
        .split(|letter: char| !letter.is_alphanumeric() && letter != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let runs: Vec<_> = plain.windows(3).collect();
    for (index, run) in runs.iter().enumerate() {
        assert!(!runs[..index].contains(run), "{run:?} twice: {line}");
    }
    line
}

/// `info` at an endpoint.
fn info_at(site: &Site, endpoint: &str) -> Command {
    let mut command = site.strongroom(&["info", &site.url()]).command;
    command.env("AWS_ENDPOINT_URL_S3", endpoint);
    command
}

/// `info` with a file of AWS settings.
fn info_with(site: &Site, settings: &str) -> Command {
    let file = site.path().join("aws-config");
    fs::write(&file, settings).unwrap();
    let mut command = site.strongroom(&["info", &site.url()]).command;
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", file)
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

/// An answer in S3's form; none of its body to HEAD.
fn s3_error(request: &Request, status: &str, fields: &str, code: &str) -> Answer {
    let xml = format!("<Error><Code>{code}</Code><Message>No.</Message></Error>");
    let fields = format!("Content-Type: application/xml\r\nConnection: close\r\n{fields}");
    let body = if request.line().starts_with("HEAD") {
        ""
    } else {
        &xml
    };
    Answer::whole(status, &fields, body.as_bytes())
}

#[test]
fn https_and_http_that_are_mixed_up_are_told_apart_from_certificates() {
    let plain = Site::without_volume(Transport::Plain);
    let endpoint = plain.endpoint.replace("http://", "https://");
    assert_told(
        &mut info_at(&plain, &endpoint),
        Exit::Unreachable,
        &["does not speak TLS", "write http://", &endpoint],
    );
    let tls = Site::without_volume(Transport::Tls);
    let endpoint = tls.endpoint.replace("https://", "http://");
    assert_told(
        &mut info_at(&tls, &endpoint),
        Exit::Unreachable,
        &["does not speak plain HTTP", "write https://", &endpoint],
    );
}

#[test]
fn a_tls_port_that_answers_plain_http_with_400_is_suspected() {
    let site = Site::without_volume(Transport::Plain);
    // The answer of servers that are written in Go, and that of nginx.
    let go = RawStore::start(None, |_| {
        Answer::Say(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
                .to_vec(),
        )
    });
    let nginx = RawStore::start(None, |request| {
        let page = b"<html>400 The plain HTTP request was sent to HTTPS port</html>";
        let body = if request.line().starts_with("HEAD") {
            &b""[..]
        } else {
            page
        };
        let fields = "Content-Type: text/html\r\nConnection: close\r\n";
        Answer::whole("400 Bad Request", fields, body)
    });
    for server in [go, nginx] {
        assert_told(
            &mut info_at(&site, &server.url()),
            Exit::Unreachable,
            &["400", "write https://", "speaks TLS"],
        );
    }
}

#[test]
fn a_web_page_at_the_endpoint_is_neither_a_volume_nor_a_damaged_one() {
    let site = Site::without_volume(Transport::Plain);
    for status in ["200 OK", "302 Found", "403 Forbidden", "404 Not Found"] {
        let page = RawStore::start(None, move |request| {
            let fields = "Content-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
            let body = b"<!DOCTYPE html><title>Log in</title>";
            match (request.line().starts_with("HEAD"), status) {
                (true, "200 OK") => Answer::Say(
                    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 36\r\n\r\n").into_bytes(),
                ),
                (true, _) => Answer::whole(status, fields, b""),
                (false, _) => Answer::whole(status, fields, body),
            }
        });
        let words = ["web page", &status[..3], "--endpoint-url"];
        assert_told(&mut info_at(&site, &page.url()), Exit::Unreachable, &words);
        let mut init = site
            .strongroom(&["init", &site.url()])
            .with_passphrase(&site);
        init.command.env("AWS_ENDPOINT_URL_S3", page.url());
        assert_told(&mut init.command, Exit::Unreachable, &words);
    }
}

/// The time in so many minutes, as HTTP writes it.
pub fn date_in(minutes: i64) -> String {
    let moment = time::OffsetDateTime::now_utc() + time::Duration::minutes(minutes);
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    moment.format(format).unwrap()
}

#[test]
fn a_clock_that_differs_is_named_with_the_minutes() {
    let site = Site::without_volume(Transport::Plain);
    for (minutes, code, words) in [
        (17, "RequestTimeTooSkewed", "17 minutes behind"),
        (-90, "RequestTimeTooSkewed", "90 minutes ahead of"),
        // Stores that do not say why.
        (17, "AccessDenied", "17 minutes behind"),
        (17, "SignatureDoesNotMatch", "17 minutes behind"),
        (0, "RequestTimeTooSkewed", "RequestTimeTooSkewed"),
    ] {
        let store = RawStore::start(None, move |request| {
            let date = format!("Date: {}\r\n", date_in(minutes));
            s3_error(request, "403 Forbidden", &date, code)
        });
        let line = assert_told(
            &mut info_at(&site, &store.url()),
            Exit::Denied,
            &[words, "set the clock right"],
        );
        assert!(!line.contains("grant"), "{line}");
    }
    // A difference that no store minds.
    let store = RawStore::start(None, |request| {
        let date = format!("Date: {}\r\n", date_in(3));
        s3_error(request, "403 Forbidden", &date, "AccessDenied")
    });
    let line = assert_told(
        &mut info_at(&site, &store.url()),
        Exit::Denied,
        &["AccessDenied", "grant this key s3:ListBucket"],
    );
    assert!(!line.contains("clock"), "{line}");
}

#[test]
fn a_head_that_is_answered_400_is_explained_by_the_listing() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    // Another region than the request was signed for, as AWS answers it.
    let elsewhere = RawStore::start(None, |request| {
        let region = "x-amz-bucket-region: eu-north-9\r\n";
        let code = "AuthorizationHeaderMalformed";
        s3_error(request, "400 Bad Request", region, code)
    });
    assert_told(
        &mut info_at(&site, &elsewhere.url()),
        Exit::Unexpected,
        &["AuthorizationHeaderMalformed", "set --region eu-north-9"],
    );
    let expired = RawStore::start(None, |request| {
        s3_error(request, "400 Bad Request", "", "ExpiredToken")
    });
    assert_told(
        &mut info_at(&site, &expired.url()),
        Exit::BadCredentials,
        &["ExpiredToken", "log in again"],
    );
    // A store that does not know HEAD of a bucket, and is fine otherwise.
    let without_head = RawStore::start(Some(&site.endpoint), |request| {
        match request.line().starts_with(&format!("HEAD /{BUCKET} "))
            || request.line().starts_with(&format!("HEAD /{BUCKET}/ "))
        {
            true => s3_error(request, "400 Bad Request", "", ""),
            false => Answer::Pass,
        }
    });
    assert_told(
        &mut info_at(&site, &without_head.url()),
        Exit::NoVolume,
        &["no volume at", "strongroom init"],
    );
    assert!(without_head.answered() > 0);
}

/// A program that gives credentials prints these.
const CANARIES: [&str; 2] = ["canary-of-output", "canary-of-errors"];

#[test]
fn a_credential_process_that_fails_is_told_with_its_exit_code_and_without_its_output() {
    let site = Site::without_volume(Transport::Plain);
    let [out, err] = CANARIES;
    let prints = format!("echo {out}; echo {err} >&2");
    for (program, words) in [
        (format!("{prints}; exit 3"), "failed with exit code 3"),
        (format!("{prints}; kill -9 $$"), "was ended by signal 9"),
        (prints, "did not print credentials"),
    ] {
        let script = site.path().join("program");
        fs::write(&script, program).unwrap();
        let process = format!("credential_process = exec sh {}", text(&script));
        for (settings, options) in [
            (format!("[profile p]\n{process}\n"), &["--profile", "p"][..]),
            (format!("[default]\n{process}\n"), &[]),
        ] {
            let mut command = info_with(&site, &settings);
            command.args(options);
            let line = assert_told(
                &mut command,
                Exit::NoCredentials,
                &["the credential_process", words, "by hand"],
            );
            assert!(
                CANARIES.iter().all(|canary| !line.contains(canary)),
                "{line}"
            );

            // Nor does the log tell, however much it tells.
            let dir = site.scratch("mnt");
            let mut mount = site.strongroom(&["mount", &site.url(), text(&dir), "--foreground"]);
            mount
                .command
                .args(["--log-level", "trace", "--passphrase-file"])
                .arg(site.path().join("pass"))
                .args(options);
            same_environment(&mut mount.command, &command);
            let output = mount.output();
            assert_eq!(output.status.code(), Some(9), "{}", said(&output));
            let log = said(&output);
            let told = log
                .lines()
                .find(|line| CANARIES.iter().any(|canary| line.contains(canary)));
            assert_eq!(told, None);
        }
    }
}

#[test]
fn a_profile_that_is_not_there_is_named_with_the_files() {
    let site = Site::without_volume(Transport::Plain);
    let settings = "[default]\nregion = eu-central-1\n[profile work]\nregion = eu-central-1\n";
    let words = [
        "no profile nosuch",
        "aws-config or /dev/null",
        "there are default, work",
    ];
    let mut command = info_with(&site, settings);
    command.args(["--profile", "nosuch"]);
    assert_told(&mut command, Exit::NoCredentials, &words);
    // With AWS there is no region then.
    command.env_remove("AWS_ENDPOINT_URL_S3");
    assert_told(&mut command, Exit::NoCredentials, &words);
    let mut command = info_with(&site, settings);
    command.env("AWS_PROFILE", "nosuch");
    assert_told(&mut command, Exit::NoCredentials, &words);
    // Where there are no files at all.
    let mut command = info_with(&site, "");
    command
        .args(["--profile", "nosuch"])
        .env_remove("AWS_CONFIG_FILE");
    assert_told(
        &mut command,
        Exit::NoCredentials,
        &[
            "no profile nosuch",
            "~/.aws/config or /dev/null",
            "AWS_ACCESS_KEY_ID",
        ],
    );
}

#[test]
fn settings_that_cannot_be_used_are_refused_as_a_wrong_command_line_is() {
    let site = Site::without_volume(Transport::Plain);
    for endpoint in [
        "127.0.0.1:9000",
        "ftp://host",
        "https://host/?x=1",
        "http://a b",
    ] {
        assert_told(
            &mut info_at(&site, endpoint),
            Exit::Usage,
            &["the endpoint", "write https://host:port"],
        );
    }
    let mut command = info_with(&site, "");
    command.env_remove("AWS_ENDPOINT_URL_S3");
    assert_told(&mut command, Exit::Usage, &["no region is set", "--region"]);
}

/// The command of the docs for a certificate, for this address and into `dir`.
fn certificate_by_the_docs(site: &Site, authority: bool) -> (TlsFiles, PathBuf) {
    let docs = include_str!("../../docs/operations.md");
    let command = docs
        .lines()
        .find(|line| line.starts_with("openssl req -x509"))
        .expect("the command is in docs/operations.md");
    let dir = site.scratch(if authority { "authority" } else { "own" });
    let mut command = command
        .replace("DNS:s3.example.com", "IP:127.0.0.1")
        .replace("/etc/strongroom/", &format!("{}/", text(&dir)));
    assert!(command.contains("IP:127.0.0.1"), "{command}");
    if authority {
        command = command.replace("CA:FALSE", "CA:TRUE");
    }
    tool(&dir, "sh", &["-c", &command], &[]);
    let files = TlsFiles {
        cert: dir.join("s3.crt"),
        key: dir.join("s3.key"),
    };
    let bundle = files.cert.clone();
    (files, bundle)
}

#[test]
fn of_a_self_signed_certificate_in_the_bundle_the_line_says_which_kind_works() {
    let site = Site::without_volume(Transport::Plain);
    for authority in [true, false] {
        let (files, bundle) = certificate_by_the_docs(&site, authority);
        let config = ServerConfig {
            tls: Some(files),
            ..server_config(site.scratch("tls").join(if authority { "a" } else { "o" }))
        };
        let server = ServerThread::start(config);
        let mut command = info_at(&site, &server.endpoint_url());
        command.args(["--ca-bundle", text(&bundle)]);
        match authority {
            true => assert_told(
                &mut command,
                Exit::Tls,
                &[
                    "self-signed with CA:TRUE",
                    "basicConstraints=CA:FALSE",
                    "operations.md",
                ],
            ),
            false => assert_told(&mut command, Exit::NoBucket, &["does not exist"]),
        };
    }
}

#[test]
fn usual_failures_say_nothing_twice() {
    let tls = Site::without_volume(Transport::Tls);
    let mut stranger = info_at(&tls, &tls.endpoint);
    stranger.env_remove("AWS_CA_BUNDLE");
    assert_told(
        &mut stranger,
        Exit::Tls,
        &["unknown authority", "--ca-bundle"],
    );

    let site = Site::without_volume(Transport::Plain);
    assert_told(
        &mut info_at(&site, "http://127.0.0.1:1"),
        Exit::Unreachable,
        &[
            "does not answer",
            "127.0.0.1:1",
            "refused",
            "--endpoint-url",
        ],
    );
    assert_told(
        &mut info_at(&site, &site.endpoint),
        Exit::NoBucket,
        &["bucket vault does not exist"],
    );
    assert_told(
        &mut info_with(&site, ""),
        Exit::NoCredentials,
        &["no S3 credentials", "AWS_ACCESS_KEY_ID"],
    );
    let mut wrong = info_at(&site, &site.endpoint);
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_told(
        &mut wrong,
        Exit::BadCredentials,
        &["refuses the credentials"],
    );
    let mut url = site.strongroom(&["info", "vault/laptop"]).command;
    assert_told(&mut url, Exit::Usage, &["not an S3 URL", "write s3://"]);
    let mut bundle = info_at(&site, &site.endpoint);
    bundle.args(["--ca-bundle", "/nonexistent"]);
    assert_told(
        &mut bundle,
        Exit::Tls,
        &["/nonexistent", "correct --ca-bundle"],
    );
}

#[test]
fn a_level_that_is_no_level_is_refused_with_those_there_are() {
    let levels = "off, error, warn, info, debug, trace";
    for (command, exit) in [
        (&["mount", "s3://bucket/x", "/mnt"][..], Exit::Usage),
        (&["gc", "s3://bucket/x"], Exit::Usage),
        (&["serve", "/nonexistent"], Exit::Usage),
        (&["demo", "/nonexistent/demo"], Exit::Usage),
        // Its codes are those of e2fsck: 16 is a wrong command line there.
        (&["fsck", "s3://bucket/x"], Exit::Interrupted),
    ] {
        for level in ["wran", "info,strongroom=debgu", ""] {
            let mut command = crate::running::strongroom(command);
            command.args([&format!("--log-level={level}")]);
            assert_told(
                &mut command,
                exit,
                &["--log-level", levels, &format!("'{level}'")],
            );
        }
    }
    let mut command = crate::running::strongroom(&["mount", "s3://bucket/x", "/mnt"]);
    command.args(["-o", "log-level=wran"]);
    assert_told(&mut command, Exit::Usage, &["log-level", levels, "'wran'"]);
}
