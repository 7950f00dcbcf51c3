//! Sockets whose paths may be longer than the system allows.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

/// The longest path that fits `sockaddr_un`, its NUL left aside.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Listens at a path where nothing is.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let short = ShortPath::of(path)?;
    UnixListener::bind(&short.path)
}

/// Connects to a control socket.
///
/// # Errors
/// `ConnectionRefused` if nobody listens any more, `NotFound` if it is gone.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::of(path)?;
    UnixStream::connect(&short.path)
}

/// A name for a socket that fits `sockaddr_un` however long its path is: through `/proc/self/fd`.
struct ShortPath {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<ShortPath> {
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(ShortPath {
                path: path.to_path_buf(),
                _directory: None,
            });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = OwnedFd::from(fs::File::open(parent)?);
        Ok(ShortPath {
            path: PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name),
            _directory: Some(directory),
        })
    }
}
