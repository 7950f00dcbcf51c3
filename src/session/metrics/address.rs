//! The addresses that metrics can be had at, and listening there.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, fchmod},
};
use tokio::net::{TcpListener, UnixListener};

use crate::session::{exit::Exit, failure::Failure};

/// Clients that wait to be accepted, at most: in the kernel, not in this process.
const BACKLOG: i32 = 64;

/// Where metrics can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket in the filesystem.
    Unix(PathBuf),
}

impl MetricsAddress {
    /// The path, of a socket in the filesystem.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            MetricsAddress::Tcp(_) => None,
            MetricsAddress::Unix(path) => Some(path),
        }
    }
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<MetricsAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err("unix: needs a path, such as unix:/run/strongroom.sock".to_owned()),
                false => Ok(MetricsAddress::Unix(PathBuf::from(path))),
            };
        }
        // A port alone would have to mean either this machine or all the world.
        text.parse().map(MetricsAddress::Tcp).map_err(|_| {
            format!("'{text}' is neither IP:PORT, such as 127.0.0.1:9464, nor unix:PATH")
        })
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Tcp(address) => write!(f, "http://{address}/metrics"),
            MetricsAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that is listened at. Clients wait until it is served.
#[derive(Debug)]
pub struct MetricsListener {
    /// With the port that the system chose, if 0 was asked for.
    pub(super) address: MetricsAddress,
    pub(super) socket: Socket,
    /// The file of a socket in the filesystem.
    pub(super) file: Option<SocketFile>,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl MetricsListener {
    /// Listens at `address`. A socket in the filesystem that nobody listens on any more is
    /// replaced. Call inside of the runtime.
    ///
    /// # Errors
    /// [`Exit::MetricsAddress`]: the address is taken, not this machine's, or not permitted.
    pub fn bind(address: &MetricsAddress) -> Result<MetricsListener, Failure> {
        let bound = match address {
            MetricsAddress::Tcp(address) => tcp(*address),
            MetricsAddress::Unix(path) => unix(path),
        };
        bound.map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => "choose another one: somebody listens there",
                io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
                io::ErrorKind::PermissionDenied => {
                    "choose a port from 1024 on, or a path where you may write"
                }
                _ => "choose another one",
            };
            Failure::new(
                Exit::MetricsAddress,
                format!("cannot listen for metrics at {address}: {error}"),
                advice,
            )
        })
    }
}

fn tcp(address: SocketAddr) -> io::Result<MetricsListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(MetricsListener {
        address: MetricsAddress::Tcp(listener.local_addr()?),
        socket: Socket::Tcp(TcpListener::from_std(listener)?),
        file: None,
    })
}

fn unix(path: &Path) -> io::Result<MetricsListener> {
    remove_dead(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Linux makes the file with the mode that the socket has, so it is never open to others.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let file = SocketFile::of(path)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    Ok(MetricsListener {
        address: MetricsAddress::Unix(path.to_path_buf()),
        socket: Socket::Unix(UnixListener::from_std(listener)?),
        file: Some(file),
    })
}

/// Removes the socket that a process left which was killed. Anything else stays.
fn remove_dead(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is there",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A socket of ours in the filesystem. Dropping this removes it, unless another one is there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_path_buf(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(path: &Path) -> MetricsAddress {
        MetricsAddress::Unix(path.to_path_buf())
    }

    #[test]
    fn addresses_are_an_ip_address_with_a_port_or_a_path() {
        let parse = |text: &str| text.parse::<MetricsAddress>();
        assert_eq!(
            parse("[::1]:9464"),
            Ok(MetricsAddress::Tcp("[::1]:9464".parse().expect("parsed")))
        );
        assert_eq!(parse("unix:/run/m.sock"), Ok(at(Path::new("/run/m.sock"))));
        for text in ["", "9464", ":9464", "localhost:9464", "127.0.0.1", "unix:"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("such as"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_ours_is_private_and_goes_with_us() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let listener = MetricsListener::bind(&at(&path)).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = MetricsListener::bind(&at(&path)).expect_err("taken");
        assert_eq!(taken.exit, Exit::MetricsAddress);
        assert!(taken.advice.contains("somebody listens"), "{taken}");
        assert!(path.exists(), "a living socket is left alone");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_of_ours_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, b"precious").expect("written");
        let error = MetricsListener::bind(&at(&path)).expect_err("no socket");
        assert!(error.what.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"precious");

        let path = dir.path().join("m.sock");
        let listener = MetricsListener::bind(&at(&path)).expect("bound");
        fs::remove_file(&path).expect("removed");
        let _other = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        drop(listener);
        assert!(path.exists(), "it is another one's");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_an_error_of_its_own() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("an address");
        let far = "192.0.2.1:9464".parse().expect("parsed");
        for (address, word) in [(address, "somebody"), (far, "this machine")] {
            let error = MetricsListener::bind(&MetricsAddress::Tcp(address)).expect_err("refused");
            assert_eq!(error.exit, Exit::MetricsAddress);
            assert!(error.advice.contains(word), "{error}");
        }
    }
}
