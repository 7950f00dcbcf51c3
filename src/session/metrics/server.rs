//! The clients: few at once, each for a short time.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    MetricsListener,
    address::{Socket, SocketFile},
    http::{self, Asked, HEAD_BYTES_MAX, Status},
};

/// Clients at once; more wait in the socket's backlog, which is the kernel's.
pub const CONNECTIONS_MAX: usize = 4;

/// How long a client may take, from its connection to the last byte of its answer.
pub const SERVED_WITHIN: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted, for want of descriptors perhaps.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the text of the metrics; `None` if it cannot.
type Exposition = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A client's connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Metrics being served. Dropping it ends that and removes the socket.
pub struct MetricsServer {
    accepting: JoinHandle<()>,
    _file: Option<SocketFile>,
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer").finish_non_exhaustive()
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl MetricsListener {
    /// Serves what `text` gives, from now on.
    pub fn serve(self, text: impl Fn() -> Option<String> + Send + Sync + 'static) -> MetricsServer {
        tracing::info!("metrics are at {}", self.address);
        MetricsServer {
            accepting: tokio::spawn(accept_all(self.socket, Arc::new(text))),
            _file: self.file,
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Socket::Tcp(listener) => Box::new(listener.accept().await?.0),
            Socket::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Never returns. The clients are dropped with it.
async fn accept_all(socket: Socket, text: Exposition) {
    let mut clients = JoinSet::new();
    loop {
        while clients.len() >= CONNECTIONS_MAX {
            let _ = clients.join_next().await;
        }
        match socket.accept().await {
            Ok(stream) => {
                let text = Arc::clone(&text);
                clients.spawn(async move {
                    let served = timeout(SERVED_WITHIN, serve(stream, &text)).await;
                    if let Err(error) = served.map_err(io::Error::from).flatten() {
                        tracing::debug!("a client of the metrics: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("the socket of the metrics: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(mut stream: Box<dyn Stream>, text: &Exposition) -> io::Result<()> {
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    let asked = match read_head(&mut stream, &mut buffer).await? {
        Some(head) => http::parse(head),
        None => Asked::Refused(Status::HeadTooLong),
    };
    let body = match asked {
        Asked::Refused(_) => None,
        Asked::Metrics | Asked::MetricsHead => text(),
    };
    match (asked, body) {
        (Asked::Refused(status), _) => {
            let answer = http::refusal(status);
            stream.write_all(answer.as_bytes()).await?;
        }
        (_, None) => {
            let answer = http::refusal(Status::Unavailable);
            stream.write_all(answer.as_bytes()).await?;
        }
        (asked, Some(body)) => {
            let head = http::head(body.len());
            stream.write_all(head.as_bytes()).await?;
            if asked == Asked::Metrics {
                stream.write_all(body.as_bytes()).await?;
            }
        }
    }
    stream.shutdown().await?;
    if asked == Asked::Refused(Status::HeadTooLong) {
        // To close while bytes are unread would reset the connection, and the answer with it.
        while stream.read(&mut buffer).await? > 0 {}
    }
    Ok(())
}

/// The head of a request, and perhaps bytes behind it; `None` if it does not fit.
async fn read_head<'a>(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &'a mut [u8],
) -> io::Result<Option<&'a [u8]>> {
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        if room.is_empty() {
            return Ok(None);
        }
        let came = stream.read(room).await?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The empty line may have begun among the bytes that were there.
        let from = filled.saturating_sub(3);
        filled += came;
        let is_whole = buffer.get(from..filled).is_some_and(http::is_whole);
        if is_whole {
            return Ok(buffer.get(..filled));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpStream;

    use super::{super::MetricsAddress, *};

    fn start(
        text: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> (SocketAddr, MetricsServer) {
        let any = MetricsAddress::Tcp("127.0.0.1:0".parse().expect("parsed"));
        let listener = MetricsListener::bind(&any).expect("bound");
        let MetricsAddress::Tcp(address) = listener.address else {
            panic!("another kind");
        };
        (address, listener.serve(text))
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        // The server may answer and close before it has read all of it.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn each_request_gets_its_answer_and_a_head_without_end_is_refused() {
        let (address, _server) = start(|| Some("# EOF\n".to_owned()));
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: application/openmetrics-text; version=1.0.0"));
        assert!(
            answer.ends_with(
                "Content-Length: 6\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n# EOF\n"
            ),
            "{answer}"
        );
        let head = ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert_eq!(head, answer.strip_suffix("# EOF\n").expect("a body"));
        let elsewhere = ask(address, b"GET /status HTTP/1.1\r\n\r\n").await;
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        let endless = [b'x'; 3 * HEAD_BYTES_MAX];
        let refused = ask(address, &endless).await;
        assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    }

    #[tokio::test]
    async fn metrics_that_cannot_be_made_are_no_answer_of_200() {
        let (address, _server) = start(|| None);
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }

    #[tokio::test]
    async fn clients_that_say_nothing_keep_others_waiting_no_longer_than_they_may() {
        let (address, _server) = start(|| Some(String::new()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.expect("connected"));
        }
        let asked = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n");
        let answer = timeout(2 * SERVED_WITHIN, asked).await.expect("in time");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_server_that_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m.sock");
        let address = MetricsAddress::Unix(path.clone());
        let server = MetricsListener::bind(&address)
            .expect("bound")
            .serve(|| None);
        assert!(path.exists());
        drop(server);
        assert!(!path.exists());
    }
}
