//! Both sides of the control socket, over real ones.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::PermissionsExt, net},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::session::{activity::Activity, diagnosis::Diagnosis, status::StatusReport};

/// Lines of an answer, more than wait to be sent.
const LINES: usize = 40;

struct Draining;

/// A question that is never answered to the end, as long as somebody holds it.
struct Endless(Arc<()>);

impl Source for Endless {
    fn status(&self) -> StatusReport {
        StatusReport::default()
    }
    fn activity(&self) -> Activity {
        Activity::default()
    }
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis {
            log_names_paths: true,
            ..Diagnosis::default()
        }
    }
    fn progress(&self) -> Progress {
        Progress::Mounted
    }
    fn look(&self, look: Look, told: mpsc::Sender<Told>) -> BoxFuture<'static, ()> {
        let held = Arc::clone(&self.0);
        Box::pin(async move {
            assert_eq!(look, Look::Which(b"/caf\xe9".to_vec()));
            let _held = held;
            loop {
                // A failed send is no reason to end here.
                let _ = told.send(Told::Done).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }
}

impl Source for Draining {
    fn status(&self) -> StatusReport {
        StatusReport::default()
    }
    fn activity(&self) -> Activity {
        Activity {
            bounds_us: vec![1],
            ..Activity::default()
        }
    }
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis {
            log_names_paths: true,
            ..Diagnosis::default()
        }
    }
    fn progress(&self) -> Progress {
        Progress::Draining {
            dirty_bytes: 5,
            uploads_in_flight: 1,
            trouble: None,
            sent: None,
        }
    }
    fn look(&self, _: Look, told: mpsc::Sender<Told>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for _ in 0..LINES {
                let _ = told.send(Told::Done).await;
            }
        })
    }
}

fn lines(mut answers: Answers) -> Vec<Progress> {
    let mut seen = Vec::new();
    while let Some(line) = answers.next_line().expect("a line") {
        seen.push(serde_json::from_str(&line).expect("progress"));
    }
    seen
}

/// A listener that sends `piece` again and again, `pause` apart, until nobody reads.
fn endless(path: &Path, piece: &'static [u8], pause: Duration) {
    let listener = net::UnixListener::bind(path).expect("bound");
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        while stream.write_all(piece).is_ok() {
            std::thread::sleep(pause);
        }
    });
}

#[test]
fn an_answer_without_end_is_given_up_however_it_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let patience = Duration::from_millis(500);
    for (name, piece, pause, kind) in [
        (
            "flood",
            &[b'x'; 4096][..],
            Duration::ZERO,
            io::ErrorKind::InvalidData,
        ),
        (
            "drip",
            b"x",
            Duration::from_millis(20),
            io::ErrorKind::TimedOut,
        ),
    ] {
        let path = dir.path().join(name);
        endless(&path, piece, pause);
        let began = Instant::now();
        let error = ask_status(&Address::trusted(path), patience).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(began.elapsed() < patience * 10, "{name}");
    }
}

#[test]
fn a_socket_of_another_user_is_told_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let listener = net::UnixListener::bind(&path).expect("bound");
    let owner = Some(nix::unistd::geteuid().as_raw() + 1);
    let error = ask_status(&Address { path, owner }, Duration::from_secs(5)).expect_err("other");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    let (mut stream, _) = listener.accept().expect("connected");
    let mut told = Vec::new();
    io::Read::read_to_end(&mut stream, &mut told).expect("closed");
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_the_drain_and_of_its_end_over_a_path_of_any_length() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("d".repeat(120));
    fs::create_dir(&deep).expect("made");
    let path = deep.join("1.sock");
    let (finish, finished) = watch::channel(None);
    let server = serve(&path, Arc::new(Draining), finished).expect("listening");
    assert_eq!(
        fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o600
    );

    let client = path.clone();
    let follower = tokio::task::spawn_blocking(move || {
        lines(
            request(
                &Address::trusted(client),
                Request::FollowDrain,
                Duration::from_secs(10),
            )
            .expect("connected"),
        )
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    finish.send_replace(Some(Progress::finished(&Ok(None))));
    server.finish(Duration::from_secs(5)).await;
    let seen = follower.await.expect("followed");
    assert_eq!(seen.first(), Some(&Draining.progress()));
    assert_eq!(seen.last(), Some(&Progress::finished(&Ok(None))));
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let (_finish, finished) = watch::channel(None);
    let _server = serve(&path, Arc::new(Draining), finished).expect("listening");
    let owner = Some(nix::unistd::geteuid().as_raw());
    let address = Address { path, owner };
    let report = tokio::task::spawn_blocking(move || ask_status(&address, Duration::from_secs(10)))
        .await
        .expect("asked")
        .expect("answered");
    assert_eq!(report, StatusReport::default());
}

/// Sends a question and returns the lines that come.
fn asked(path: &Path, look: &Look) -> Answers {
    let address = Address::trusted(path.to_path_buf());
    request(&address, look.request(), Duration::from_secs(10)).expect("connected")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_lines_of_an_answer_arrive() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let (_finish, finished) = watch::channel(None);
    let _server = serve(&path, Arc::new(Draining), finished).expect("listening");
    let counted = tokio::task::spawn_blocking(move || {
        let mut answers = asked(&path, &Look::Usage);
        let mut lines = 0;
        while let Some(line) = answers.next_line().expect("a line") {
            assert_eq!(
                serde_json::from_str::<Told>(&line).expect("told"),
                Told::Done
            );
            lines += 1;
        }
        lines
    });
    assert_eq!(counted.await.expect("asked"), LINES);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_up_when_its_asker_has_gone_or_the_mount_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let held = Arc::new(());
    let (finish, finished) = watch::channel(None);
    let source = Arc::new(Endless(Arc::clone(&held)));
    let _server = serve(&path, source, finished).expect("listening");
    let look = Look::Which(b"/caf\xe9".to_vec());
    let ask = move || {
        let mut answers = asked(&path, &look);
        answers.next_line().expect("a line").expect("there is one");
        answers
    };
    let given_up = async || {
        let began = Instant::now();
        while Arc::strong_count(&held) > 2 {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first = tokio::task::spawn_blocking(ask.clone());
    let first = first.await.expect("asked");
    assert_eq!(Arc::strong_count(&held), 3);
    drop(first);
    given_up().await;
    let _second = tokio::task::spawn_blocking(ask).await.expect("asked");
    finish.send_replace(Some(Progress::finished(&Ok(None))));
    given_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_and_diagnosis_are_one_line_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let (_finish, finished) = watch::channel(None);
    let _server = serve(&path, Arc::new(Draining), finished).expect("listening");
    let asked = tokio::task::spawn_blocking(move || {
        let (address, patience) = (Address::trusted(path), Duration::from_secs(10));
        let activity = ask_activity(&address, patience);
        (activity, ask_diagnosis(&address, patience))
    });
    let (activity, diagnosis) = asked.await.expect("asked");
    assert_eq!(activity.expect("answered"), Draining.activity());
    assert_eq!(diagnosis.expect("answered"), Draining.diagnosis());
}

/// Mounts of earlier versions close the connection at a request that they do not know.
#[test]
fn a_mount_that_knows_neither_activity_nor_diagnosis_is_asked_for_its_status() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("1.sock");
    let listener = net::UnixListener::bind(&path).expect("bound");
    let old = std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let mut stream = stream.expect("connected");
            let mut line = String::new();
            let mut reader = io::BufReader::new(&stream);
            io::BufRead::read_line(&mut reader, &mut line).expect("a request");
            if line.contains("status") {
                let mut report = serde_json::to_vec(&StatusReport::default()).expect("JSON");
                report.push(b'\n');
                stream.write_all(&report).expect("sent");
            }
        }
    });
    let (address, patience) = (Address::trusted(path), Duration::from_secs(10));
    let activity = ask_activity(&address, patience);
    assert_eq!(activity.expect("answered"), Activity::default());
    let diagnosis = ask_diagnosis(&address, patience);
    assert_eq!(diagnosis.expect("answered"), Diagnosis::default());
    old.join().expect("no panic");
}
