//! A server with a bucket, and clients of it.

use std::{path::Path, sync::Arc, sync::Once, time::Duration};

use bytes::Bytes;
use strongroom::{
    server::{Faults, Server, ServerConfig, SyncPolicy, TlsFiles},
    store::{Retry, Store, StoreConfig, StoreError},
    telemetry::Metrics,
};
use tempfile::TempDir;

pub const ACCESS_KEY: &str = "store-test";
pub const SECRET_KEY: &str = "store-test-secret";

/// Gives this process its credentials, and keeps the machine's own settings out.
pub fn set_environment() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        for name in names
            .iter()
            .filter_map(|name| name.to_str())
            .filter(|name| name.starts_with("AWS_"))
        {
            // SAFETY: before any other thread of this process reads the environment.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ] {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    });
}

pub struct Fixture {
    pub server: Server,
    pub directory: TempDir,
}

impl Fixture {
    pub async fn start() -> Fixture {
        Fixture::start_with(|_, _| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ServerConfig, &Path)) -> Fixture {
        set_environment();
        let directory = TempDir::new().unwrap();
        let mut config =
            ServerConfig::new(directory.path().join("s3"), ACCESS_KEY, SECRET_KEY.into());
        config.sync = SyncPolicy::Never;
        change(&mut config, directory.path());
        Fixture {
            server: Server::start(config).await.unwrap(),
            directory,
        }
    }

    pub fn config(&self) -> StoreConfig {
        StoreConfig {
            endpoint_url: Some(self.server.endpoint_url()),
            ..unconnected()
        }
    }

    pub async fn connect(
        &self,
        change: impl FnOnce(&mut StoreConfig),
    ) -> Result<Store, StoreError> {
        let mut config = self.config();
        change(&mut config);
        Store::connect(config, Arc::new(Metrics::default())).await
    }

    /// A client whose bucket is there.
    pub async fn store(&self) -> Store {
        self.store_with(|_| {}).await
    }

    pub async fn store_with(&self, change: impl FnOnce(&mut StoreConfig)) -> Store {
        let store = self.connect(change).await.unwrap();
        store.create_bucket().await.unwrap();
        store
    }

    pub fn set_faults(&self, faults: Faults) {
        self.server.set_faults(faults).unwrap();
    }

    pub fn clear_faults(&self) {
        self.set_faults(Faults::default());
    }
}

/// A configuration that points nowhere yet.
pub fn unconnected() -> StoreConfig {
    StoreConfig {
        url: "s3://bucket/some/volume".parse().unwrap(),
        endpoint_url: None,
        region: None,
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: Duration::from_secs(10),
        connections_max: 16,
        retry: Retry::Attempts(3),
    }
}

/// A certificate for 127.0.0.1 under an authority of its own, written to `directory`: the server's
/// files, and the authority's.
pub fn certificates(directory: &Path) -> (TlsFiles, std::path::PathBuf) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let files = TlsFiles {
        cert: directory.join("server.pem"),
        key: directory.join("server.key"),
    };
    let authority_file = directory.join("authority.pem");
    std::fs::write(&files.cert, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    std::fs::write(&authority_file, authority_pem).unwrap();
    (files, authority_file)
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Bytes {
    (0..len)
        .map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

/// Waits until `condition` holds, for 10 s at most.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}
