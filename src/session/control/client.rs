//! The side of `status`, `top`, `umount` and `doctor`, which ask a mount over its control socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::DeserializeOwned;

use super::{Request, connect};
use crate::session::{activity::Activity, diagnosis::Diagnosis, status::StatusReport};

/// The longest line of an answer; a status report has some 4 KiB, an activity 40 KiB at most, a
/// diagnosis with its metrics some 100 KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// A control socket, and the user who must listen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The socket.
    pub path: PathBuf,
    /// The user whose process it must be; `None` where the path itself is trusted.
    pub owner: Option<u32>,
}

impl Address {
    /// A socket whose path is trusted: from the state directory, or from the sealed lease.
    pub fn trusted(path: PathBuf) -> Address {
        Address { path, owner: None }
    }
}

/// Sends a request. The returned [`Answers`] give the answers line by line, each within `patience`.
///
/// # Errors
/// The mount does not take it; `PermissionDenied` if another user's process listens there.
pub fn request(address: &Address, request: Request, patience: Duration) -> io::Result<Answers> {
    let mut stream = connect(&address.path)?;
    if let Some(owner) = address.owner {
        let listens = getsockopt(&stream, PeerCredentials)?.uid();
        if listens != owner {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("user {listens} listens on its socket, and user {owner} mounted it"),
            ));
        }
    }
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(Answers {
        reader: BufReader::new(stream),
        patience,
    })
}

/// The answers to a request.
#[derive(Debug)]
pub struct Answers {
    reader: BufReader<UnixStream>,
    patience: Duration,
}

impl Answers {
    #[cfg(any(fuzzing, test))]
    pub(crate) fn over(stream: UnixStream, patience: Duration) -> Answers {
        Answers {
            reader: BufReader::new(stream),
            patience,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// `TimedOut` if the line is not whole in time, however it comes; `InvalidData` if it is longer
    /// than [`ANSWER_BYTES_MAX`].
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let deadline = Instant::now() + self.patience;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.reader.get_ref().set_read_timeout(Some(left))?;
            let piece = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                piece => piece?,
            };
            if piece.is_empty() {
                return match line.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(piece.len(), |end| end + 1);
            line.extend_from_slice(piece.get(..taken).unwrap_or(piece));
            self.reader.consume(taken);
            if line.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its answer is too long",
                ));
            }
            if end.is_some() {
                return String::from_utf8(line).map(Some).map_err(io::Error::other);
            }
        }
    }
}

/// Asks a mount for its status.
///
/// # Errors
/// It does not answer within `patience`, or in a form that this version does not know.
pub fn ask_status(address: &Address, patience: Duration) -> io::Result<StatusReport> {
    let line = request(address, Request::Status, patience)?.next_line()?;
    let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(&line)?)
}

/// Asks a mount for its activity. One of a version that does not know the request is asked for its
/// status, and the rest is empty.
///
/// # Errors
/// As [`ask_status`].
pub fn ask_activity(address: &Address, patience: Duration) -> io::Result<Activity> {
    ask_or_status(address, Request::Activity, patience, |status| Activity {
        status,
        ..Activity::default()
    })
}

/// Asks a mount for its diagnosis. One of a version that does not know the request is asked for its
/// status, and the rest is empty.
///
/// # Errors
/// As [`ask_status`].
pub fn ask_diagnosis(address: &Address, patience: Duration) -> io::Result<Diagnosis> {
    ask_or_status(address, Request::Diagnosis, patience, |status| Diagnosis {
        status,
        ..Diagnosis::default()
    })
}

fn ask_or_status<T: DeserializeOwned>(
    address: &Address,
    asked: Request,
    patience: Duration,
    only: fn(StatusReport) -> T,
) -> io::Result<T> {
    match request(address, asked, patience)?.next_line() {
        Ok(Some(line)) => Ok(serde_json::from_str(&line)?),
        // Bytes of the request that it did not read make it a reset.
        Ok(None) => ask_status(address, patience).map(only),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            ask_status(address, patience).map(only)
        }
        Err(error) => Err(error),
    }
}
