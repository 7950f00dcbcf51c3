//! Fuzz targets of the texts that the command line and the control socket read, and of notes.

use std::{
    io::Write,
    os::unix::net::UnixStream,
    sync::{Arc, LazyLock},
    time::Duration,
};

use clap::Parser;

use super::{
    mount_args::MountArgs,
    mount_options, status_table,
    values::{parse_duration, parse_follow_every, parse_size},
};
use crate::{
    seal::keys::{VolumeId, VolumeKeys},
    session::{
        Exit, Failure, Fingerprint,
        control::{Answers, Progress, Request, Sent},
        lease::LeaseRecord,
        state::fuzz as places,
        status::StatusReport,
    },
    store::S3Url,
    telemetry::{human_size, shown_json},
};

/// A request to the control socket, or a socket's answer, by the first byte.
pub(crate) fn control(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match what {
        b'q' => {
            if let Ok(request) = serde_json::from_str::<Request>(&text) {
                let again = serde_json::to_string(&request).unwrap();
                assert_eq!(serde_json::from_str::<Request>(&again).unwrap(), request);
            }
        }
        b'p' => {
            if let Ok(progress) = serde_json::from_str::<Progress>(&text) {
                let again = serde_json::to_string(&progress).unwrap();
                assert_eq!(serde_json::from_str::<Progress>(&again).unwrap(), progress);
                if let Progress::Finished {
                    exit, what, advice, ..
                } = progress
                {
                    let exit = Exit::from_code(exit).unwrap_or(Exit::Unexpected);
                    fits_a_terminal(&Failure::new(exit, what, advice).to_string(), false);
                }
            }
        }
        b's' => {
            if let Ok(report) = serde_json::from_str::<StatusReport>(&text) {
                let again = serde_json::to_string_pretty(&report).unwrap();
                assert_eq!(
                    serde_json::from_str::<StatusReport>(&again).unwrap(),
                    report
                );
                fits_a_terminal(&shown_json(&again), true);
                fits_a_terminal(&status_table::render(&report), true);
            }
        }
        _ => lines(rest),
    }
}

/// The lines of an answer equal the ones sent, up to where it ends or breaks off.
fn lines(sent: &[u8]) {
    // A socket's buffer takes this much without a reader.
    let sent = &sent[..sent.len().min(64 << 10)];
    let (mut far, near) = UnixStream::pair().unwrap();
    far.write_all(sent).unwrap();
    drop(far);
    let mut answers = Answers::over(near, Duration::from_secs(10));
    let mut rest = sent;
    loop {
        match answers.next_line() {
            Ok(Some(line)) => {
                let (first, tail) = rest.split_at(line.len());
                assert_eq!(line.as_bytes(), first);
                assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
                rest = tail;
            }
            Ok(None) => return assert!(rest.is_empty()),
            Err(_) => {
                let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap();
                assert!(!line.ends_with(b"\n") || std::str::from_utf8(line).is_err());
                return;
            }
        }
    }
}

fn fits_a_terminal(text: &str, has_lines: bool) {
    let obeyed = |character: char| character.is_control() && !(has_lines && character == '\n');
    assert!(!text.chars().any(obeyed), "{text:?}");
}

pub(crate) fn control_seeds() -> Vec<Vec<u8>> {
    let json =
        |kind: &str, value: &dyn erased::Json| format!("{kind}{}", value.text()).into_bytes();
    let draining = Progress::Draining {
        dirty_bytes: 5,
        uploads_in_flight: u64::MAX,
        trouble: Some("\u{1b}[2J".to_owned()),
        sent: Some(Sent {
            sent_bytes: 3,
            total_bytes: u64::MAX,
        }),
    };
    vec![
        json("q", &Request::Status),
        json("q", &Request::FollowDrain),
        json("p", &Progress::Mounted),
        json("p", &draining),
        json(
            "p",
            &Progress::finished(&Err(Failure::usage("what", "advice"))),
        ),
        json("p", &Progress::finished(&Ok(Some("sr1-a-1-b".to_owned())))),
        json("s", &StatusReport::default()),
        b"l{}\n{\"a\":1}\n\xff\nrest".to_vec(),
        b"l\n\n".to_vec(),
    ]
}

/// Every type that `serde` can write.
mod erased {
    pub trait Json {
        fn text(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn text(&self) -> String {
            serde_json::to_string(self).unwrap()
        }
    }
}

#[derive(Parser)]
struct Mount {
    #[command(flatten)]
    args: MountArgs,
}

/// The value of `-o`.
pub(crate) fn options(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let parsed = |options: Vec<String>| {
        let mut args = Mount::parse_from(["mount", "s3://bucket/x", "/mnt"]).args;
        args.options = options;
        mount_options::apply(&mut args).map(|()| {
            assert!(args.options.is_empty());
            format!("{args:?}")
        })
    };
    let as_one = parsed(vec![text.clone()]);
    // Options mean the same in one list and in several.
    let apart = parsed(text.split(',').map(str::to_owned).collect());
    assert_eq!(as_one, apart);
    if let Err(error) = as_one {
        assert_eq!(error.exit, Exit::Usage);
        fits_a_terminal(&error.to_string(), false);
    }
}

pub(crate) fn options_seeds() -> Vec<Vec<u8>> {
    [
        &b"rw,passphrase-file=/etc/pass,memory=256MiB,allow_other,_netdev,nofail,x-systemd.automount,noexec,timeout=5m"[..],
        b"ro,read-only,takeover,allow-rollback,allow-other-volume,path-style,nosuid,suid,nodev,dev",
        b"durability=close,upload-delay=3s,refusal-timeout=0,follow-every=1s,state-dir=/x,log-level=debug",
        b"expect=sr1-aaaaaaaaaaaaa-1-pvki,endpoint-url=http://127.0.0.1:9000,region=x,profile=y",
        b"memory=,frobnicate=1,,=",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Single values: sizes, durations, fingerprints, places of volumes.
pub(crate) fn values(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(bytes) = parse_size(&text) {
        assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
        assert!(human_size(bytes).len() <= 10, "{}", human_size(bytes));
    }
    if let Ok(duration) = parse_duration(&text) {
        let milliseconds = format!("{}ms", duration.as_millis());
        assert_eq!(parse_duration(&milliseconds), Ok(duration));
    }
    if let Ok(every) = parse_follow_every(&text) {
        assert!(every >= Duration::from_millis(100) && every <= Duration::from_secs(30));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        let shown = fingerprint.to_string();
        assert_eq!(shown.parse(), Ok(fingerprint));
        assert_eq!(
            shown,
            text.trim().to_ascii_lowercase(),
            "two texts of one state"
        );
    }
    match text.parse::<S3Url>() {
        Ok(url) => assert_eq!(url.to_string().parse(), Ok(url)),
        Err(error) => drop(error.to_string()),
    }
}

pub(crate) fn values_seeds() -> Vec<Vec<u8>> {
    [
        "512MiB",
        " 2 GB",
        "18446744073709551615",
        "16777216TiB",
        "250ms",
        "1h",
        "30",
        "99999999999h",
        "sr1-aaaaaaaaaaaaa-1-pvki",
        "s3://bucket/a/b",
        "s3://b.-1/",
        "s3://bucket//x",
        "0kB",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

static KEYS: LazyLock<Arc<VolumeKeys>> = LazyLock::new(|| VolumeKeys::generate(VolumeId([1; 16])));

/// The lease, once it has authenticated, and this machine's notes of a place.
pub(crate) fn note(kind: u8, bytes: &[u8]) {
    match kind {
        b'l' => {
            if let Ok(record) = serde_json::from_slice::<LeaseRecord>(bytes) {
                let sealed = record.seal(&KEYS).unwrap();
                assert_eq!(LeaseRecord::open(&KEYS, &sealed).unwrap(), record);
                let _ = record.process.is_alive();
            }
        }
        b'j' => places::file(bytes),
        b's' => places::line(bytes),
        _ => {}
    }
}

pub(crate) fn note_seeds() -> Vec<Vec<u8>> {
    let lease = r#"l{"format":1,"holder":"00ff","machine":{"host":"h","boot_id":"b","pid_namespace":"p"},
        "process":{"pid":1,"started_ticks":2},"socket":"/s","state":"mounted",
        "acquired_unix_seconds":-1,"renewal":3}"#;
    let mut seeds = places::seeds();
    seeds.push(lease.as_bytes().to_vec());
    seeds
}
