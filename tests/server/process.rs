//! A server in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strongroom::server::{Server, SyncPolicy};

use crate::support::server::server_config;

/// Set for that process: the directory to serve.
const CHILD_DIR: &str = "STRONGROOM_TEST_SERVE_DIR";

/// Not a test of its own: a server in a process of its own, for the tests that kill or measure it.
#[tokio::test(flavor = "multi_thread")]
async fn served_until_killed() {
    let Some(root) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let mut config = server_config(root.into());
    config.sync = SyncPolicy::Always;
    let server = Server::start(config).await.unwrap();
    println!("\nlistening at {}", server.endpoint_url());
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// A server process; killed with its owner.
pub struct ServerProcess(Child);

impl ServerProcess {
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// The most memory it ever had, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _already_reaped = self.0.wait();
    }
}

/// Starts it; returns it with its endpoint's URL.
pub fn spawn(root: &Path) -> (ServerProcess, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process::served_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_DIR, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(ServerProcess)
        .unwrap();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    loop {
        let line = lines
            .next()
            .expect("the server says where it listens")
            .unwrap();
        if let Some(url) = line.strip_prefix("listening at ") {
            return (child, url.to_owned());
        }
    }
}
