//! A store that answers the bytes a test chooses, and passes other requests on to a real one.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A request as it came.
pub struct Request {
    /// `GET /bucket/key?query HTTP/1.1` and the header fields.
    pub head: String,
    body: Vec<u8>,
}

impl Request {
    /// Method and target.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// First and last byte asked for.
    pub fn range(&self) -> Option<(u64, u64)> {
        let field = self.head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("range: bytes=")
                .map(str::to_owned)
        })?;
        let (first, last) = field.split_once('-')?;
        Some((first.parse().ok()?, last.trim().parse().ok()?))
    }
}

/// The store's answer to a request.
pub enum Answer {
    /// The answer of the real store.
    Pass,
    /// These bytes; then the connection is closed.
    Say(Vec<u8>),
    /// The head, and then the piece again and again, `pause` apart, until nobody takes it.
    Endless {
        head: Vec<u8>,
        piece: Vec<u8>,
        pause: Duration,
    },
}

impl Answer {
    /// An answer with a body of chunks that never ends.
    pub fn endless_chunks(status: &str, start: &str, piece: &[u8]) -> Answer {
        let chunk =
            |data: &[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut head = head.into_bytes();
        if !start.is_empty() {
            head.extend(chunk(start.as_bytes()));
        }
        Answer::Endless {
            head,
            piece: chunk(piece),
            pause: Duration::ZERO,
        }
    }

    /// A whole answer.
    pub fn whole(status: &str, fields: &str, body: &[u8]) -> Answer {
        let head = format!(
            "HTTP/1.1 {status}\r\nETag: \"x\"\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        Answer::Say([head.as_bytes(), body].concat())
    }
}

type Rule = Box<dyn FnMut(&Request) -> Answer + Send>;

struct Shared {
    rule: Mutex<Rule>,
    upstream: Option<String>,
    asked: AtomicU64,
    sent_bytes: AtomicU64,
}

/// The store. Its threads end with the test's process.
pub struct RawStore {
    shared: Arc<Shared>,
    port: u16,
}

impl RawStore {
    /// Listens; requests that the rule passes go to `upstream` (`http://127.0.0.1:9000`).
    pub fn start(
        upstream: Option<&str>,
        rule: impl FnMut(&Request) -> Answer + Send + 'static,
    ) -> RawStore {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(rule)),
            upstream: upstream.map(|url| url.trim_start_matches("http://").to_owned()),
            asked: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || {
                    // A client that goes away is what many tests are about.
                    let _ = serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        RawStore { shared, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on this is what is said.
    pub fn set_rule(&self, rule: impl FnMut(&Request) -> Answer + Send + 'static) {
        *self.shared.rule.lock().expect("no rule panicked") = Box::new(rule);
    }

    /// Requests that were not passed on.
    pub fn answered(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Bytes of endless answers that the client took, or that lie in the system's buffers.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::Relaxed)
    }
}

/// A store that takes every PUT, whatever its condition, and has nothing.
pub fn store_without_conditions() -> RawStore {
    RawStore::start(None, |request| {
        let mut words = request.line().split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let names_key = path.trim_matches('/').contains('/');
        let closes = "Connection: close\r\n";
        match method {
            "GET" | "HEAD" if names_key && !query.contains("list-type") => {
                let missing = b"<Error><Code>NoSuchKey</Code></Error>";
                let body = if method == "GET" { &missing[..] } else { b"" };
                Answer::whole("404 Not Found", closes, body)
            }
            "GET" => {
                let listing =
                    "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
                Answer::whole("200 OK", closes, listing.as_bytes())
            }
            "POST" => Answer::whole("200 OK", closes, b"<DeleteResult></DeleteResult>"),
            _ => Answer::whole("200 OK", closes, b""),
        }
    })
}

fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let Some(request) = read_request(&mut reader)? else {
        return Ok(());
    };
    let answer = shared.rule.lock().expect("no rule panicked")(&request);
    if !matches!(answer, Answer::Pass) {
        shared.asked.fetch_add(1, Ordering::Relaxed);
    }
    match answer {
        Answer::Pass => pass(shared, &request, writer),
        Answer::Say(bytes) => writer.write_all(&bytes),
        Answer::Endless { head, piece, pause } => {
            writer.write_all(&head)?;
            loop {
                writer.write_all(&piece)?;
                shared
                    .sent_bytes
                    .fetch_add(piece.len() as u64, Ordering::Relaxed);
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        })
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { head, body }))
}

/// One connection a request: the real store closes it after its answer.
fn pass(shared: &Shared, request: &Request, mut writer: &TcpStream) -> std::io::Result<()> {
    let upstream = shared.upstream.as_deref().expect("a store behind");
    let mut upstream = TcpStream::connect(upstream)?;
    let (line, fields) = request.head.split_once("\r\n").expect("a request line");
    upstream.write_all(format!("{line}\r\nConnection: close\r\n{fields}").as_bytes())?;
    upstream.write_all(&request.body)?;
    std::io::copy(&mut upstream, &mut writer)?;
    Ok(())
}
