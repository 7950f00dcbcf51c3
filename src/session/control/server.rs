//! The mount's side of the control socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Look, Progress, Request, Told, socket};
use crate::session::{activity::Activity, diagnosis::Diagnosis, status::StatusReport};

/// Clients at once; more wait in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 16;

/// The longest request: a path of 4,096 bytes in hexadecimal.
const REQUEST_BYTES_MAX: u64 = 9 << 10;

/// Lines of an answer that wait to be sent.
const LINES_WAITING_MAX: usize = 16;

/// How long a client may take over its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How long a client may leave a line unread before it is dropped.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How often clients that follow a drain hear of it.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The session that the socket tells about.
pub trait Source: Send + Sync + 'static {
    /// The present state.
    fn status(&self) -> StatusReport;
    /// The same, and what a live view needs besides.
    fn activity(&self) -> Activity;
    /// The same, and what a report of a fault needs besides.
    fn diagnosis(&self) -> Diagnosis;
    /// The present phase. The last one comes through the channel given to [`serve`].
    fn progress(&self) -> Progress;
    /// Answers a question about the places of contents, line by line. Dropping it ends that.
    fn look(&self, look: Look, told: mpsc::Sender<Told>) -> BoxFuture<'static, ()>;
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
    /// Waits until all clients that follow the drain have been told how it ended, at most
    /// `patience`.
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
    let listener = socket::bind(path)?;
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
    match &request {
        Request::Status => return send(&mut writer, &source.status()).await,
        Request::Activity => return send(&mut writer, &source.activity()).await,
        Request::Diagnosis => return send(&mut writer, &source.diagnosis()).await,
        _ => {}
    }
    if let Some(look) = Look::of(&request) {
        return tell(&mut writer, look, source, finished).await;
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

/// Sends the answer to a question about the places of contents. It ends early with the mount, or
/// if the client reads no more.
async fn tell(
    writer: &mut (impl AsyncWriteExt + Unpin),
    look: Look,
    source: &dyn Source,
    mut finished: watch::Receiver<Option<Progress>>,
) -> io::Result<()> {
    let (told, mut lines) = mpsc::channel(LINES_WAITING_MAX);
    let send_lines = async {
        while let Some(line) = lines.recv().await {
            send(writer, &line).await?;
        }
        Ok(())
    };
    let work = async {
        source.look(look, told).await;
        Ok(())
    };
    tokio::select! {
        // The lines end when the work has; the work is dropped when nobody takes the lines.
        both = async { tokio::try_join!(send_lines, work) } => both.map(|_| ()),
        _ = finished.wait_for(Option::is_some) => Ok(()),
    }
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    timeout(WRITE_WITHIN, writer.write_all(&text)).await?
}
