//! Sockets: accepting, counting, throttling, TLS, and one task a connection.
//!
//! Promises: at most [`MAX_CONNECTIONS`] at once (further ones wait in the kernel's queue), none of
//! which a silent client can hold; every byte that a socket moved is counted; a cut connection and
//! an outage take effect at once, also in the middle of a body; a shutdown ends idle connections at
//! once and busy ones with their answer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::faults::{Outage, Throttle};
use super::http;

/// Connections at once: far above what clients open (the AWS SDK's pool grows to the requests in
/// flight), and with an open file each still half of the usual 1,024 descriptors.
const MAX_CONNECTIONS: usize = 512;
/// A TLS handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head must be whole within this; so a connection without a request is closed, too.
/// Longer than clients keep theirs idle (the AWS SDK 20 s), so that they close first.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// The kernel's buffer for an answer (it takes twice this). It bounds the bytes that are read,
/// counted and thrown away when a client goes away in the middle: 0.4 MB, where the default came to
/// 4 MB. Four times as much was no faster on loopback.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Binds a listening socket.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts S3 connections until shutdown.
pub(super) async fn accept_loop(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: S3Service,
    shared: Arc<Shared>,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some((stream, slot)) = accept(&listener, &slots, &shared).await {
        shared
            .stats
            .connections_accepted
            .fetch_add(1, Ordering::Relaxed);
        if shared.faults.get().outage == Outage::Refuse {
            // Closes with a reset, as near as an accepted connection comes to a refused one.
            let _already_gone = stream.set_zero_linger();
            continue;
        }
        // Without it small answers wait for the client's delayed acknowledgement, 40 ms each.
        let _already_gone = stream.set_nodelay(true);
        let connection = connection(stream, tls.clone(), service.clone(), Arc::clone(&shared));
        tasks.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
}

/// The next connection, and its place among those that may be open at once; `None` at shutdown.
pub(super) async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shared: &Shared,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        let accepted = tokio::select! {
            () = shared.shutdown.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection from its first byte to its last, under the faults in force.
async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: S3Service,
    shared: Arc<Shared>,
) {
    let _open = OpenConnection::new(&shared);
    let cut = CancellationToken::new();
    let socket = Socket {
        stream,
        shared: Arc::clone(&shared),
        reading: None,
        writing: None,
    };
    let mut work = pin!(work(socket, tls, service, Arc::clone(&shared), cut.clone()));
    let mut faults = shared.faults.subscribe();
    loop {
        let outage = faults.borrow_and_update().outage;
        let running = async {
            match outage {
                Outage::None => work.as_mut().await,
                // Not polled, nothing moves.
                Outage::Hang => std::future::pending().await,
                Outage::Refuse => {}
            }
        };
        tokio::select! {
            () = running => return,
            () = cut.cancelled() => return,
            () = shared.abort.cancelled() => return,
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}

async fn work(
    socket: Socket,
    tls: Option<TlsAcceptor>,
    service: S3Service,
    shared: Arc<Shared>,
    cut: CancellationToken,
) {
    let Some(tls) = tls else {
        return serve(socket, service, shared, cut).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => {
            shared.stats.tls_handshakes.fetch_add(1, Ordering::Relaxed);
            serve(stream, service, shared, cut).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake timed out"),
    }
}

async fn serve<S>(stream: S, service: S3Service, shared: Arc<Shared>, cut: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(|request| http::handle(&service, &shared, &cut, request));
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), handler)
    );
    let mut stopping = pin!(shared.shutdown.cancelled());
    let mut stopped = false;
    let result = std::future::poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Counts the open connections.
struct OpenConnection<'a>(&'a Shared);

impl<'a> OpenConnection<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared
            .stats
            .connections_open
            .fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0
            .stats
            .connections_open
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// A TCP stream that counts its bytes and keeps to the bandwidth limit.
struct Socket {
    stream: TcpStream,
    shared: Arc<Shared>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

/// Ready when the pause, if any, is over.
fn poll_pause(pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = pause {
        ready!(sleep.as_mut().poll(cx));
        *pause = None;
    }
    Poll::Ready(())
}

impl Socket {
    fn wrote(&mut self, bytes: usize) {
        self.shared
            .stats
            .socket_bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.writing = self.pause_for(bytes);
    }

    fn pause_for(&self, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        let until = self.shared.faults.throttle().book(bytes)?;
        Some(Box::pin(tokio::time::sleep_until(until)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(poll_pause(&mut this.reading, cx));
        let before = buf.filled().len();
        if this.shared.faults.throttle().is_limited() {
            let mut slice = ReadBuf::new(
                buf.initialize_unfilled_to(Throttle::SLICE_BYTES.min(buf.remaining())),
            );
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut slice))?;
            let read = slice.filled().len();
            buf.advance(read);
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        let read = buf.filled().len() - before;
        this.shared
            .stats
            .socket_bytes_read
            .fetch_add(read as u64, Ordering::Relaxed);
        this.reading = this.pause_for(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(poll_pause(&mut this.writing, cx));
        if this.shared.faults.throttle().is_limited() {
            buf = buf.get(..Throttle::SLICE_BYTES).unwrap_or(buf);
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.shared.faults.throttle().is_limited() {
            let first = bufs
                .iter()
                .find(|buf| !buf.is_empty())
                .map_or(&[][..], |buf| &**buf);
            return self.poll_write(cx, first);
        }
        let this = &mut *self;
        ready!(poll_pause(&mut this.writing, cx));
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
