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
//! [`CONNECTIONS_MAX`]; `finished` is sent after all is durable and the lease is given back.
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
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    exit::{CliError, Exit},
    status::StatusReport,
};

/// Clients at once; more wait in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 16;

/// The longest request.
const REQUEST_BYTES_MAX: u64 = 1024;

/// How long a client may take over its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

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
    /// The last line for an outcome; one that succeeded may tell the fingerprint of what is in the store.
    pub fn finished(outcome: &Result<Option<String>, CliError>) -> Progress {
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

/// Sends a request; the answers come line by line from what is returned.
///
/// # Errors
/// The mount does not take it.
pub fn request(
    path: &Path,
    request: Request,
    patience: Duration,
) -> io::Result<BufReader<net::UnixStream>> {
    let mut stream = connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(BufReader::new(stream))
}

/// Asks a mount for its status.
///
/// # Errors
/// It does not answer within `patience`, or in a form that this version does not know.
pub fn ask_status(path: &Path, patience: Duration) -> io::Result<StatusReport> {
    let mut line = String::new();
    request(path, Request::Status, patience)?.read_line(&mut line)?;
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

    fn lines(mut reader: BufReader<net::UnixStream>) -> Vec<Progress> {
        let mut seen = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).expect("a line") > 0 {
            seen.push(serde_json::from_str(&line).expect("progress"));
            line.clear();
        }
        seen
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
                request(&client, Request::FollowDrain, Duration::from_secs(10)).expect("connected"),
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
        let report =
            tokio::task::spawn_blocking(move || ask_status(&path, Duration::from_secs(10)))
                .await
                .expect("asked")
                .expect("answered");
        assert_eq!(report, StatusReport::default());
    }
}
