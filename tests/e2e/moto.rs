//! Backup tools against an S3 implementation that is not ours: moto, which `mount-scripts/test.sh`
//! installs from PyPI.
//!
//! moto has limits: it keeps everything in memory and answers one request at a time, so the trees
//! are small; it checks no signatures, so a wrong secret cannot be told; it does not survive being
//! killed.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::battery;
use crate::support::{
    site::{Site, Transport},
    wait::block_until,
};

struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_moto(site: &Site) -> (Moto, String) {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("a free port")
        .port();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/moto/bin/moto_server");
    let log = std::fs::File::create(site.path().join("moto.log")).expect("log");
    let child = Command::new(&installed)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error} (mount-scripts/test.sh installs it)",
                installed.display()
            )
        });
    let moto = Moto(child);
    block_until("moto starts", Duration::from_secs(60), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (moto, format!("http://127.0.0.1:{port}"))
}

#[test]
fn backup_tools_work_on_a_store_that_is_not_ours() {
    let mut site = Site::without_volume(Transport::Plain);
    let (_moto, endpoint) = start_moto(&site);
    site.endpoint = endpoint;
    site.make_volume();
    battery::small_battery(&site);
}
