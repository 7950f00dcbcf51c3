//! The embedded server as a process of its own, which can be stopped, killed and started again.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    commands::BINARY,
    credentials::{ACCESS_KEY, SECRET_KEY},
};

/// `strongroom serve`; killed with its owner.
pub struct ServerProcess {
    dir: PathBuf,
    child: Child,
    pub address: SocketAddr,
}

impl ServerProcess {
    pub fn start(dir: PathBuf, listen: &str) -> ServerProcess {
        ServerProcess::start_with(dir, listen, &[])
    }

    pub fn start_with(dir: PathBuf, listen: &str, options: &[&str]) -> ServerProcess {
        let mut child = Command::new(BINARY)
            .arg("serve")
            .arg(&dir)
            .args(["--listen", listen, "--no-sync"])
            .args(options)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("serve");
        let mut line = String::new();
        let out = child.stdout.take().expect("stdout");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let address = line
            .trim()
            .rsplit("//")
            .next()
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server says: {line}");
        };
        ServerProcess {
            dir,
            child,
            address,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal");
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// At the same address.
    pub fn start_again(&mut self) {
        let listen = self.address.to_string();
        *self = ServerProcess::start(self.dir.clone(), &listen);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}
