//! The settings of a server.
//!
//! Plain data, no behaviour. The secret key is wiped when dropped and never printed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::faults::Faults;

/// The secret half of the key pair. It is wiped on drop; `Debug` shows that it is there, but not
/// its value.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretString(String);

impl SecretString {
    /// Takes the secret over.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the signature check.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl From<&str> for SecretString {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(..)")
    }
}

/// PEM files of the server's certificate chain and private key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// When an acknowledged change is on the disk, not just in the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// The file and its directory are fsynced before the answer: survives a power cut. The default.
    #[default]
    Always,
    /// Never fsynced: survives `kill -9` of the server, not a power cut. For benchmarks on slow
    /// disks.
    Never,
}

/// Where the request log goes: one line a request, `operation path range status bytes_in bytes_out
/// ms`.
#[derive(Clone, Debug, Default)]
pub enum RequestLog {
    /// Nowhere.
    #[default]
    Off,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

/// Everything a server needs to start.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The directory that holds the buckets; made when missing. One server at a time.
    pub root: PathBuf,
    /// Where the S3 port listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where statistics and fault control listen, if at all. It has no authentication: loopback
    /// only.
    pub stats_listen: Option<SocketAddr>,
    /// The access key that clients must sign with.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
    /// Certificate and key; `None` speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The faults to begin with.
    pub faults: Faults,
    /// A recording of `mount --record` whose fates requests are to meet.
    pub replay: Option<PathBuf>,
    /// Durability of acknowledged changes.
    pub sync: SyncPolicy,
    /// The request log.
    pub request_log: RequestLog,
}

impl ServerConfig {
    /// A server for `root` on a free loopback port, plain HTTP, no faults, every change fsynced.
    #[must_use]
    pub fn new(
        root: impl Into<PathBuf>,
        access_key: impl Into<String>,
        secret_key: SecretString,
    ) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            root: root.into(),
            listen: loopback,
            stats_listen: None,
            access_key: access_key.into(),
            secret_key,
            tls: None,
            faults: Faults::default(),
            replay: None,
            sync: SyncPolicy::default(),
            request_log: RequestLog::default(),
        }
    }
}
