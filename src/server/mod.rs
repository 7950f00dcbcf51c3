//! The embedded S3 server of the demo and the tests: a directory served as S3.
//!
//! The protocol and its signatures are `s3s`'s, the transport is hyper's, the storage is ours. Held
//! to the standard of the store it stands in for:
//!
//! - A change is whole or absent: readers see the old object or the new one, never a mixture, also
//!   while it is overwritten or deleted under them; so does a server that starts after `kill
//!   -9`.
//! - Conditional writes have exactly one winner, under any race, on multipart completion too.
//! - A body that fails its checksum, its length or its signature changes nothing.
//! - Bodies stream both ways in bounded memory; a GET reads the range it was asked for and stops
//!   reading when its client goes away.
//! - An acknowledged change is on the disk ([`SyncPolicy`]).
//!
//! It keeps an index of all keys in memory (some 300 bytes an object). It has one key pair, no
//! versions, no lifecycle, no ACLs. ETags are unique per write and are not MD5 sums.
//!
//! ```text
//! net     sockets: counting, throttling, TLS, cutting        admin   the statistics port
//! http    one request: context, bodies                       faults  faults on demand
//! access  key pair, operation, faults                        stats   counters, request log
//! replay  a recording of another store, met again
//! s3      S3 operations in terms of storage
//! storage buckets, objects and uploads in a directory
//! ```

mod access;
mod admin;
mod chunked;
mod config;
mod faults;
mod http;
mod net;
mod replay;
mod s3;
mod stats;
mod storage;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use s3s::service::S3ServiceBuilder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{RequestLog, SecretString, ServerConfig, SyncPolicy, TlsFiles};
pub use faults::{Faults, Outage};
pub use stats::StatsSnapshot;
pub use storage::StorageError;

use faults::FaultControl;
use replay::Replay;
use stats::{LogSink, Stats};
use storage::Storage;

use crate::record::Script;

/// How long requests in flight may take to end when the server is shut down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The directory can't be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Certificate or key can't be used.
    #[error("cannot use {path} for TLS: {reason}")]
    Tls {
        /// The file at fault.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The request log can't be opened.
    #[error("cannot open the request log: {0}")]
    RequestLog(std::io::Error),
    /// The faults asked for make no sense.
    #[error("cannot inject these faults: {0}")]
    Faults(String),
    /// The recording can't be replayed.
    #[error("cannot replay {path}: {source}")]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: crate::record::ScriptError,
    },
}

/// The state that all connections share.
struct Shared {
    stats: Stats,
    faults: FaultControl,
    replay: Option<Replay>,
    log: LogSink,
    /// No new connections, no new requests.
    shutdown: CancellationToken,
    /// The end of those that are left.
    abort: CancellationToken,
}

/// A running server. Dropping it ends it at once; [`Server::shutdown`] lets answers end first.
pub struct Server {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    local_addr: SocketAddr,
    stats_addr: Option<SocketAddr>,
    is_tls: bool,
}

impl Server {
    /// Opens the directory, binds the ports and serves in background tasks of the current Tokio
    /// runtime.
    ///
    /// # Errors
    /// See [`ServerError`]. Nothing runs then.
    pub async fn start(config: ServerConfig) -> Result<Self, ServerError> {
        config.faults.validate().map_err(ServerError::Faults)?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let replay = config.replay.as_deref().map(script).transpose()?;
        let log = LogSink::open(&config.request_log).map_err(ServerError::RequestLog)?;
        let (root, sync) = (config.root.clone(), config.sync);
        let storage = tokio::task::spawn_blocking(move || Storage::open(&root, sync))
            .await
            .map_err(|error| StorageError::new(&config.root, std::io::Error::other(error)))??;
        let bind = |address| {
            let listener =
                net::listen(address).map_err(|source| ServerError::Listen { address, source })?;
            let local = listener
                .local_addr()
                .map_err(|source| ServerError::Listen { address, source })?;
            Ok::<_, ServerError>((listener, local))
        };
        let (listener, local_addr) = bind(config.listen)?;
        let stats_listener = config.stats_listen.map(bind).transpose()?;
        let stats_addr = stats_listener.as_ref().map(|(_, address)| *address);

        let shared = Arc::new(Shared {
            stats: Stats::default(),
            faults: FaultControl::new(config.faults),
            replay,
            log,
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let mut service = S3ServiceBuilder::new(s3::Operations::new(Arc::new(storage)));
        service.set_auth(access::KeyPair::new(config.access_key, config.secret_key));
        service.set_access(access::Gate);
        let is_tls = tls.is_some();
        let tasks = TaskTracker::new();
        tasks.spawn(net::accept_loop(
            listener,
            tls,
            service.build(),
            Arc::clone(&shared),
            tasks.clone(),
        ));
        if let Some((listener, _)) = stats_listener {
            tasks.spawn(admin::accept_loop(
                listener,
                Arc::clone(&shared),
                tasks.clone(),
            ));
        }
        Ok(Self {
            shared,
            tasks,
            local_addr,
            stats_addr,
            is_tls,
        })
    }

    /// Where the S3 port listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the statistics port listens, if there is one.
    #[must_use]
    pub fn stats_addr(&self) -> Option<SocketAddr> {
        self.stats_addr
    }

    /// The URL for `--endpoint-url` and `AWS_ENDPOINT_URL_S3`; addresses buckets by path. Over TLS
    /// the certificate must name the address.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.local_addr)
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// Sets all counts to zero.
    pub fn reset_stats(&self) {
        self.shared.stats.reset();
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults.get()
    }

    /// Changes the faults, for requests in flight too.
    ///
    /// # Errors
    /// Faults that make no sense; the old ones stay in force then.
    pub fn set_faults(&self, faults: Faults) -> Result<(), ServerError> {
        faults.validate().map_err(ServerError::Faults)?;
        self.shared.faults.set(faults);
        Ok(())
    }

    /// Stops accepting, lets requests in flight end for up to 5 s, then ends them.
    pub async fn shutdown(self) {
        self.shared.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.tasks.wait())
            .await
            .is_err()
        {
            self.shared.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

fn script(path: &Path) -> Result<Replay, ServerError> {
    let script = Script::read(path).map_err(|source| ServerError::Replay {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Replay::new(script))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
        self.shared.abort.cancel();
    }
}
