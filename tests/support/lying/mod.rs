//! An S3 store that lies: a proxy between Strongroom and an honest S3 server.
//!
//! It speaks HTTP/1.1 over real sockets and passes each request on as it came, the client's `Host`
//! included, so signatures stay valid. Rules say which requests are treated otherwise: refused, cut
//! off, delayed, done twice, answered from another state or with other bytes. Where a lie needs a
//! request of its own (a condition that is to be ignored, another range of an object), the proxy
//! signs it with the tests' key pair.
//!
//! Its memory is bounded: [`CONNECTIONS_MAX`] connections with one request each, bodies of at most
//! [`http::BODY_LEN_MAX`] bytes, and a log of [`LOG_LEN_MAX`] lines. What it sends without end is
//! made of one piece.
//!
//! ```text
//! request   what a request is: its operation, the kind of object
//! rule      which requests, how often
//! lie       what is done to them
//! answer    answers and their changes
//! endless   bodies without an end
//! http      reading and writing HTTP/1.1
//! serve     the connections
//! ```
pub mod answer;
pub mod endless;
mod http;
pub mod lie;
pub mod request;
pub mod rule;
mod serve;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, runtime::Runtime, sync::watch};

use super::wait::holds;

pub use endless::Endless;
pub use lie::{Form, Lie};
pub use request::{Kind, Op};
pub use rule::{Fired, Rule};

/// Connections served at once; more wait to be accepted. One mount opens at most 32.
const CONNECTIONS_MAX: usize = 128;

/// Requests that are remembered; the oldest go first.
const LOG_LEN_MAX: usize = 100_000;

/// A request that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub op: Op,
    pub kind: Kind,
    pub key: String,
    pub part: Option<String>,
    /// Whether a rule treated it.
    pub lied: bool,
    /// The status that went back; `None` if the connection was cut.
    pub status: Option<u16>,
    pub number: u64,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    rules: Mutex<Vec<Arc<rule::Active>>>,
    seen: Mutex<VecDeque<Seen>>,
    connections: AtomicU64,
    requests: AtomicU64,
    endless_bytes: AtomicU64,
    /// Counts healings: whoever hangs goes on when it changes.
    healed: watch::Sender<u64>,
    /// Tells of each answer.
    answered: watch::Sender<u64>,
}

/// The proxy, for as long as it lives.
pub struct LyingStore {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl LyingStore {
    /// Starts one in front of the server at `upstream`, honest until told otherwise.
    pub fn before(upstream: SocketAddr) -> LyingStore {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lying-store")
            .enable_all()
            .build()
            .expect("runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            rules: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            endless_bytes: AtomicU64::new(0),
            healed: watch::Sender::new(0),
            answered: watch::Sender::new(0),
        });
        runtime.spawn(serve::accept(listener, shared.clone()));
        LyingStore {
            shared,
            address,
            runtime: Some(runtime),
        }
    }

    /// For `AWS_ENDPOINT_URL_S3`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests go to the server at `upstream`.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// Puts a rule in force, behind those that are: the first that fits a request decides.
    pub fn lie(&self, rule: Rule) -> Fired {
        let active = Arc::new(rule::Active::new(rule));
        self.shared.rules.lock().unwrap().push(active.clone());
        Fired(active)
    }

    /// `keys` are not there: neither listed nor found.
    pub fn hide(&self, keys: impl Fn(&str) -> bool + Send + Sync + 'static) -> [Fired; 2] {
        let keys: lie::KeyFilter = Arc::new(keys);
        let there = keys.clone();
        [
            self.lie(
                Rule::on([Op::Get, Op::Head])
                    .keys(move |key| there(key))
                    .always(Lie::refuse(404, Form::Code("NoSuchKey"))),
            ),
            self.lie(Rule::on([Op::List]).always(Lie::Unlist(keys))),
        ]
    }

    /// Honest from now on; whatever hangs goes on.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
        self.shared.healed.send_modify(|count| *count += 1);
    }

    /// Requests seen since [`LyingStore::forget`], oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().cloned().collect()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// Connections that clients made, ever.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Requests that came, ever.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Counts the requests of a kind that were seen.
    pub fn count(&self, op: Op, kind: Option<Kind>) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        let fits = |seen: &&Seen| seen.op == op && kind.is_none_or(|kind| seen.kind == kind);
        seen.iter().filter(fits).count()
    }

    /// Bytes of bodies without end that the client took.
    pub fn endless_bytes(&self) -> u64 {
        self.shared.endless_bytes.load(Ordering::Relaxed)
    }

    /// Waits until `enough` says so of what was seen.
    pub fn wait_seen(&self, patience: Duration, enough: impl Fn(&[Seen]) -> bool) -> bool {
        holds(patience, || {
            enough(self.shared.seen.lock().unwrap().make_contiguous())
        })
    }
}

impl Drop for LyingStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
