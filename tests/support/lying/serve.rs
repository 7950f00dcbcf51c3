//! The connections: each request is read, looked up in the rules, passed on or lied about, and
//! noted.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::super::bucket::sdk_client;
use super::{
    CONNECTIONS_MAX, LOG_LEN_MAX, Seen, Shared,
    answer::Answer,
    http::Head,
    lie::{Form, Lie},
    request::Request,
};

/// The time that a late request waits for the client's next try.
const LATE_MAX: Duration = Duration::from_secs(90);

/// Headers that belong to one connection, or are made anew.
const OWN_HEADERS: [&str; 4] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
];

/// The outcome of a request.
enum Outcome {
    Answer(Answer),
    Reset,
    Drip(Answer, Duration),
    Endless(super::Endless),
}

type Stream = BufStream<TcpStream>;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        tokio::spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            // A client that goes away is no error here.
            let _ = Connection {
                shared,
                upstream: None,
            }
            .serve(BufStream::new(stream))
            .await;
        });
    }
}

struct Connection {
    shared: Arc<Shared>,
    /// Kept between requests.
    upstream: Option<(SocketAddr, Stream)>,
}

impl Connection {
    async fn serve(mut self, mut client: Stream) -> io::Result<()> {
        while let Some(head) = Head::read(&mut client).await? {
            if head.get("expect").is_some() {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                client.flush().await?;
            }
            let body = head.read_body(&mut client).await?;
            let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
            let Some(request) = Request::new(head, body, number) else {
                return Ok(());
            };
            let request = Arc::new(request);
            let lie = {
                let rules = self.shared.rules.lock().unwrap();
                let taken = rules.iter().find(|active| active.takes(&request));
                taken.map(|active| active.rule.lie.clone())
            };
            let lied = lie.is_some();
            let outcome = match lie {
                None => self.pass(&request).await,
                // A client that is withheld an answer for ever gives up some time, and its place
                // becomes free.
                Some(Lie::Withhold) => tokio::select! {
                    outcome = self.tell(&request, Lie::Withhold) => outcome,
                    () = gone(&client) => return Ok(()),
                },
                Some(lie) => self.tell(&request, lie).await,
            };
            // The answer is noted before it is sent: who has it can rely on finding it noted.
            let status = match &outcome {
                Ok(Outcome::Answer(answer) | Outcome::Drip(answer, _)) => Some(answer.status),
                _ => None,
            };
            self.note(&request, lied, status);
            match outcome {
                Ok(Outcome::Answer(answer)) => {
                    if !send(&mut client, &request, answer, None).await? {
                        return Ok(());
                    }
                }
                Ok(Outcome::Drip(answer, pause)) => {
                    send(&mut client, &request, answer, Some(pause)).await?;
                }
                Ok(Outcome::Endless(endless)) => {
                    return endless.send(&mut client, &self.shared).await;
                }
                Ok(Outcome::Reset) | Err(_) => {
                    // An RST instead of an orderly end.
                    let _ = client.get_ref().set_zero_linger();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn note(&self, request: &Request, lied: bool, status: Option<u16>) {
        let mut seen = self.shared.seen.lock().unwrap();
        if seen.len() == LOG_LEN_MAX {
            seen.pop_front();
        }
        seen.push_back(Seen {
            at: Instant::now(),
            op: request.op,
            kind: request.kind,
            key: request.key.clone(),
            part: request.part(),
            lied,
            status,
            number: request.number,
        });
        drop(seen);
        self.shared.answered.send_modify(|count| *count += 1);
    }

    async fn pass(&mut self, request: &Request) -> io::Result<Outcome> {
        let to = *self.shared.upstream.lock().unwrap();
        self.forward(to, request).await.map(Outcome::Answer)
    }

    async fn honest(&mut self, request: &Request) -> io::Result<Answer> {
        let to = *self.shared.upstream.lock().unwrap();
        self.forward(to, request).await
    }

    /// Sends it on as it came. A connection that was kept may have ended meanwhile: then once more
    /// over a new one.
    async fn forward(&mut self, to: SocketAddr, request: &Request) -> io::Result<Answer> {
        if let Some((_, mut stream)) = self.upstream.take_if(|(address, _)| *address == to)
            && let Ok(answer) = exchange(&mut stream, request).await
        {
            self.upstream = Some((to, stream));
            return Ok(answer);
        }
        let mut stream = connect(to).await?;
        let answer = exchange(&mut stream, request).await?;
        self.upstream = Some((to, stream));
        Ok(answer)
    }

    async fn tell(&mut self, request: &Arc<Request>, lie: Lie) -> io::Result<Outcome> {
        let answer = match lie {
            Lie::Refuse(status, form) => Answer::refusal(status, form),
            Lie::Pretend => Answer::acknowledgement(),
            Lie::RefuseAfter(status, form) => {
                self.honest(request).await?;
                Answer::refusal(status, form)
            }
            Lie::ResetBefore => return Ok(Outcome::Reset),
            Lie::ResetAfter => {
                self.honest(request).await?;
                return Ok(Outcome::Reset);
            }
            Lie::Hang(time) => {
                self.healed_within(time).await;
                self.honest(request).await?
            }
            Lie::Withhold => {
                self.healed_within(Duration::from_secs(86_400)).await;
                self.honest(request).await?
            }
            Lie::LateDuplicate => {
                self.honest(request).await?;
                tokio::spawn(deliver_late(self.shared.clone(), request.clone()));
                return Ok(Outcome::Reset);
            }
            Lie::Overtaken => {
                tokio::spawn(deliver_late(self.shared.clone(), request.clone()));
                return Ok(Outcome::Reset);
            }
            Lie::From(address) => self.forward(address, request).await?,
            Lie::IgnoreCondition => self.put_anyway(request).await?,
            Lie::Change(change) => {
                let mut answer = self.honest(request).await?;
                change(&mut answer);
                answer
            }
            Lie::Instead(object) => {
                let mut answer = self.honest(request).await?;
                answer.instead(request, &object);
                answer
            }
            Lie::OtherRange(by) => {
                let mut answer = self.honest(request).await?;
                let object = self.whole(request).await?;
                let len = object.len() as u64;
                if let Some(range) = request.range(len) {
                    let start = (range.start + by).min(len - (range.end - range.start)) as usize;
                    answer.body = object[start..][..(range.end - range.start) as usize].to_vec();
                }
                answer
            }
            Lie::Unlist(hidden) => {
                let mut answer = self.honest(request).await?;
                answer.unlist(&hidden);
                answer
            }
            Lie::Drip(pause) => return Ok(Outcome::Drip(self.honest(request).await?, pause)),
            Lie::Endless(endless) => match endless.page(request) {
                Some(page) => page,
                None => return Ok(Outcome::Endless(endless)),
            },
        };
        Ok(Outcome::Answer(answer))
    }

    /// Waits until the store is healed, or for this long.
    async fn healed_within(&self, time: Duration) {
        let mut healed = self.shared.healed.subscribe();
        let _ = tokio::time::timeout(time, healed.changed()).await;
    }

    /// A PUT without the condition that it came with.
    async fn put_anyway(&self, request: &Request) -> io::Result<Answer> {
        let mut put = client(&self.shared)
            .put_object()
            .bucket(&request.bucket)
            .key(&request.key)
            .body(request.body.clone().into());
        for (name, value) in &request.head.headers {
            if let Some(name) = name.to_ascii_lowercase().strip_prefix("x-amz-meta-") {
                put = put.metadata(name, value);
            }
        }
        let done = put.send().await.map_err(io::Error::other)?;
        let mut answer = Answer::refusal(200, Form::Empty);
        answer.set("ETag", done.e_tag().unwrap_or("\"x\""));
        Ok(answer)
    }

    async fn whole(&self, request: &Request) -> io::Result<Vec<u8>> {
        let get = client(&self.shared)
            .get_object()
            .bucket(&request.bucket)
            .key(&request.key);
        let object = get.send().await.map_err(io::Error::other)?;
        let body = object.body.collect().await.map_err(io::Error::other)?;
        Ok(body.to_vec())
    }
}

/// Ends when the client has closed its connection.
async fn gone(client: &Stream) {
    let mut byte = [0];
    match client.get_ref().peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Does a request again, or at last, once the client's next try of it was answered with success.
async fn deliver_late(shared: Arc<Shared>, request: Arc<Request>) {
    let mut answered = shared.answered.subscribe();
    let retried = async {
        loop {
            let is_retry = |seen: &Seen| {
                seen.number > request.number
                    && seen.op == request.op
                    && seen.key == request.key
                    && seen.part == request.part()
                    && seen.status.is_some_and(|status| status < 300)
            };
            if shared.seen.lock().unwrap().iter().rev().any(is_retry) {
                return;
            }
            let _ = answered.changed().await;
        }
    };
    let _ = tokio::time::timeout(LATE_MAX, retried).await;
    let to = *shared.upstream.lock().unwrap();
    if let Ok(mut stream) = connect(to).await {
        let _ = exchange(&mut stream, &request).await;
    }
}

async fn connect(to: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(BufStream::new(stream))
}

async fn exchange(stream: &mut Stream, request: &Request) -> io::Result<Answer> {
    let mut out = format!("{}\r\n", request.head.first);
    for (name, value) in &request.head.headers {
        if !OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            out += &format!("{name}: {value}\r\n");
        }
    }
    if !request.body.is_empty() || matches!(request.method.as_str(), "PUT" | "POST") {
        out += &format!("Content-Length: {}\r\n", request.body.len());
    }
    out += "\r\n";
    stream.write_all(out.as_bytes()).await?;
    stream.write_all(&request.body).await?;
    stream.flush().await?;
    loop {
        let head = Head::read(stream).await?;
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.first.contains(" 100 ") {
            continue;
        }
        let bodiless = request.method == "HEAD"
            || head.first.contains(" 204 ")
            || head.first.contains(" 304 ");
        let claimed = head.get("content-length").and_then(|len| len.parse().ok());
        let body = match bodiless {
            true => Vec::new(),
            false => head.read_body(stream).await?,
        };
        let mut answer = Answer::from_head(head, body).ok_or(io::ErrorKind::InvalidData)?;
        if bodiless {
            answer.claimed_len = claimed;
        }
        return Ok(answer);
    }
}

/// Sends an answer, byte by byte if there is a pause; false if the connection ends with it.
async fn send(
    client: &mut Stream,
    request: &Request,
    answer: Answer,
    pause: Option<Duration>,
) -> io::Result<bool> {
    let len = answer.claimed_len.unwrap_or(answer.body.len() as u64);
    let bodiless = request.method == "HEAD" || matches!(answer.status, 204 | 304);
    let mut out = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        if !OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            out += &format!("{name}: {value}\r\n");
        }
    }
    if answer.status != 204 {
        out += &format!("Content-Length: {len}\r\n");
    }
    out += "\r\n";
    client.write_all(out.as_bytes()).await?;
    if !bodiless {
        match pause {
            None => client.write_all(&answer.body).await?,
            Some(pause) => {
                for byte in &answer.body {
                    client.write_all(&[*byte]).await?;
                    client.flush().await?;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
    client.flush().await?;
    Ok(bodiless || len == answer.body.len() as u64)
}

/// A client of the server behind, with its key pair.
fn client(shared: &Shared) -> aws_sdk_s3::Client {
    let to = *shared.upstream.lock().unwrap();
    sdk_client(&format!("http://{to}"))
}
