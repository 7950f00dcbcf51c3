//! The control socket of a running mount.
//!
//! A Unix socket (mode 0600) below the state directory; the extended attribute
//! `user.strongroom.control` of the mount's root names it. Each connection carries one request, a
//! JSON line, and its answer:
//!
//! | request | answer |
//! |---|---|
//! | `{"request":"status"}` | one line, [`StatusReport`] |
//! | `{"request":"follow-drain"}` | a line of [`Progress`] every 200 ms, the last one `finished` |
//!
//! Promises: a slow or silent client holds nothing but its connection, and there are at most
//! [`CONNECTIONS_MAX`]; `finished` is sent after all is durable and the lease is given back; a
//! client takes no line that is longer or comes more slowly than it has patience for, and talks to
//! no process of another user than the one that it expects.
//! Never: accepts a request that changes data.

use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt, net},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    failure::{Exit, Failure},
    status::StatusReport,
};

/// Clients at once; more wait in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 16;

/// The longest request.
const REQUEST_BYTES_MAX: u64 = 1024;

/// How long a client may take over its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// The longest line of an answer; a status report has some 4 KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How long a client may leave a line unread before it is dropped.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How often followers hear of the drain.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The longest path that fits `sockaddr_un`, its NUL left aside.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// One [`StatusReport`].
    Status,
    /// [`Progress`] until it is over.
    FollowDrain,
}

/// How far a mount is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Progress {
    /// The kernel still has it.
    Mounted,
    /// The kernel has let go; what is dirty is on its way.
    Draining {
        /// Bytes that are not yet in the store.
        dirty_bytes: u64,
        /// Uploads under way.
        uploads_in_flight: u64,
        /// What holds it up, if something does.
        trouble: Option<String>,
    },
    /// Over.
    Finished {
        /// The code the process is about to exit with.
        exit: u8,
        /// What went wrong, if something did.
        what: String,
        /// What to do about it.
        advice: String,
        /// The state that is in the store, if it could be closed.
        #[serde(default)]
        fingerprint: Option<String>,
    },
}

impl Progress {
    /// The last line for an outcome; one that succeeded may tell the fingerprint of what is in the
    /// store.
    pub fn finished(outcome: &Result<Option<String>, Failure>) -> Progress {
        match outcome {
            Ok(fingerprint) => Progress::Finished {
                exit: Exit::Ok.code(),
                what: String::new(),
                advice: String::new(),
                fingerprint: fingerprint.clone(),
            },
            Err(error) => Progress::Finished {
                exit: error.exit.code(),
                what: error.what.clone(),
                advice: error.advice.clone(),
                fingerprint: None,
            },
        }
    }
}

/// What the socket tells about.
pub trait Source: Send + Sync + 'static {
    /// The present state.
    fn status(&self) -> StatusReport;
    /// The present phase. The last one comes through the channel given to [`serve`].
    fn progress(&self) -> Progress;
}

/// A socket being served. Dropping it stops that and removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    accepting: JoinHandle<()>,
    connections: Arc<Semaphore>,
}

/// Listens at `path`. `finished` becomes `Some` when the mount is over.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(
    path: &Path,
    source: Arc<dyn Source>,
    finished: watch::Receiver<Option<Progress>>,
) -> io::Result<ControlServer> {
    let listener = listen(path)?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let slots = Arc::clone(&connections);
    let accepting = tokio::spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (source, finished) = (Arc::clone(&source), finished.clone());
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, source.as_ref(), finished).await {
                            tracing::debug!("control connection: {error}");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(ControlServer {
        path: path.to_path_buf(),
        accepting,
        connections,
    })
}

impl ControlServer {
    /// Waits until everybody who follows has been told how it ended, at most `patience`.
    pub async fn finish(self, patience: Duration) {
        self.accepting.abort();
        // The accepting task may hold one slot; it gives it back when it is gone.
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = timeout(patience, self.connections.acquire_many(all)).await;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = ShortPath::of(path)?;
    let listener = net::UnixListener::bind(&short.path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn answer(
    stream: UnixStream,
    source: &dyn Source,
    mut finished: watch::Receiver<Option<Progress>>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_BYTES_MAX));
    timeout(REQUEST_WITHIN, reader.read_line(&mut line)).await??;
    let request: Request = serde_json::from_str(&line)?;
    if request == Request::Status {
        return send(&mut writer, &source.status()).await;
    }
    loop {
        let last = finished.borrow_and_update().clone();
        if let Some(last) = last {
            return send(&mut writer, &last).await;
        }
        send(&mut writer, &source.progress()).await?;
        tokio::select! {
            () = tokio::time::sleep(PROGRESS_EVERY) => {}
            changed = finished.changed() => changed.map_err(io::Error::other)?,
        }
    }
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    timeout(WRITE_WITHIN, writer.write_all(&text)).await?
}

/// Connects to a control socket.
///
/// # Errors
/// `ConnectionRefused` if nobody listens any more, `NotFound` if it is gone.
pub fn connect(path: &Path) -> io::Result<net::UnixStream> {
    let short = ShortPath::of(path)?;
    net::UnixStream::connect(&short.path)
}

/// A control socket, and who must listen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The socket.
    pub path: PathBuf,
    /// The user whose process it must be; `None` where the path itself is trusted.
    pub owner: Option<u32>,
}

impl Address {
    /// A socket whose path is trusted: from the state directory, or from the sealed lease.
    pub fn trusted(path: PathBuf) -> Address {
        Address { path, owner: None }
    }
}

/// Sends a request; the answers come line by line from what is returned, each within `patience`.
///
/// # Errors
/// The mount does not take it; `PermissionDenied` if another user's process listens there.
pub fn request(address: &Address, request: Request, patience: Duration) -> io::Result<Answers> {
    let mut stream = connect(&address.path)?;
    if let Some(owner) = address.owner {
        let listens = getsockopt(&stream, PeerCredentials)?.uid();
        if listens != owner {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("user {listens} listens on its socket, and user {owner} mounted it"),
            ));
        }
    }
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(Answers {
        reader: BufReader::new(stream),
        patience,
    })
}

/// The answers to a request.
#[derive(Debug)]
pub struct Answers {
    reader: BufReader<net::UnixStream>,
    patience: Duration,
}

impl Answers {
    #[cfg(any(fuzzing, test))]
    pub(crate) fn over(stream: net::UnixStream, patience: Duration) -> Answers {
        Answers {
            reader: BufReader::new(stream),
            patience,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// `TimedOut` if the line is not whole in time, however it comes; `InvalidData` if it is longer
    /// than [`ANSWER_BYTES_MAX`].
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let deadline = Instant::now() + self.patience;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.reader.get_ref().set_read_timeout(Some(left))?;
            let piece = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                piece => piece?,
            };
            if piece.is_empty() {
                return match line.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(piece.len(), |end| end + 1);
            line.extend_from_slice(piece.get(..taken).unwrap_or(piece));
            self.reader.consume(taken);
            if line.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its answer is too long",
                ));
            }
            if end.is_some() {
                return String::from_utf8(line).map(Some).map_err(io::Error::other);
            }
        }
    }
}

/// Asks a mount for its status.
///
/// # Errors
/// It does not answer within `patience`, or in a form that this version does not know.
pub fn ask_status(address: &Address, patience: Duration) -> io::Result<StatusReport> {
    let line = request(address, Request::Status, patience)?.next_line()?;
    let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(&line)?)
}

/// A name for a socket that fits `sockaddr_un` however long its path is: through `/proc/self/fd`.
struct ShortPath {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<ShortPath> {
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(ShortPath {
                path: path.to_path_buf(),
                _directory: None,
            });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = OwnedFd::from(fs::File::open(parent)?);
        Ok(ShortPath {
            path: PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name),
            _directory: Some(directory),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Draining;

    impl Source for Draining {
        fn status(&self) -> StatusReport {
            StatusReport::default()
        }
        fn progress(&self) -> Progress {
            Progress::Draining {
                dirty_bytes: 5,
                uploads_in_flight: 1,
                trouble: None,
            }
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
        let error =
            ask_status(&Address { path, owner }, Duration::from_secs(5)).expect_err("other");
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
        let report =
            tokio::task::spawn_blocking(move || ask_status(&address, Duration::from_secs(10)))
                .await
                .expect("asked")
                .expect("answered");
        assert_eq!(report, StatusReport::default());
    }
}
