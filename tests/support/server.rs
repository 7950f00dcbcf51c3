//! The embedded server in a temporary directory, and clients of it.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use strongroom::{
    server::{Faults, Server, ServerConfig, SyncPolicy},
    store::{Rates, Retry, Store, StoreConfig, StoreError},
    telemetry::Metrics,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    certificates::certificates,
    credentials::{ACCESS_KEY, SECRET_KEY, set_environment},
};

/// A server with the tests' key pair. It does not sync: the tests kill clients, never the machine.
pub fn server_config(root: PathBuf) -> ServerConfig {
    let mut config = ServerConfig::new(root, ACCESS_KEY, SECRET_KEY.into());
    config.sync = SyncPolicy::Never;
    config
}

/// A running server. Its directory goes with it.
pub struct TestServer {
    pub server: Server,
    pub directory: TempDir,
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::start_with(|_, _| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ServerConfig, &Path)) -> TestServer {
        set_environment();
        let directory = TempDir::new().unwrap();
        let mut config = server_config(directory.path().join("s3"));
        change(&mut config, directory.path());
        TestServer {
            server: Server::start(config).await.unwrap(),
            directory,
        }
    }

    /// A server over TLS, and the file of the authority that a client has to trust.
    pub async fn start_tls() -> (TestServer, Option<PathBuf>) {
        let mut authority = None;
        let server = TestServer::start_with(|config, directory| {
            let (files, path) = certificates(directory);
            config.tls = Some(files);
            authority = Some(path);
        })
        .await;
        (server, authority)
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

    /// The server ends and comes back at the same address, with another secret key if one is given.
    pub async fn restart(&mut self, secret: Option<&str>) {
        let address = self.server.local_addr();
        let config = |root: &str| {
            let mut config = server_config(self.directory.path().join(root));
            config.secret_key = secret.unwrap_or(SECRET_KEY).into();
            config
        };
        let between = Server::start(config("nothing")).await.unwrap();
        std::mem::replace(&mut self.server, between)
            .shutdown()
            .await;
        let again = Server::start(ServerConfig {
            listen: address,
            ..config("s3")
        })
        .await
        .unwrap();
        std::mem::replace(&mut self.server, again).shutdown().await;
    }
}

impl Deref for TestServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A server with a runtime of its own, for tests that have none.
pub struct ServerThread {
    runtime: Runtime,
    server: Option<Server>,
}

impl ServerThread {
    pub fn start(config: ServerConfig) -> ServerThread {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let server = runtime.block_on(Server::start(config)).expect("server");
        ServerThread {
            runtime,
            server: Some(server),
        }
    }

    /// Waits for work on the server's runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

impl Deref for ServerThread {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("runs until this is dropped")
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
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
        rates: Rates::default(),
        retry: Retry::Attempts(3),
    }
}
