//! Secrets as a person has them, and reading them from files.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{RecoveryKey, SlotKind};

/// Bytes of a passphrase, at most.
pub const PASSPHRASE_LEN_MAX: usize = 4096;
/// Bytes of a key file, at least: 256 bits.
pub const KEY_FILE_LEN_MIN: usize = 32;
/// Bytes of a key file, at most.
pub const KEY_FILE_LEN_MAX: usize = 64 * 1024;

/// A secret that unlocks a volume. Zeroized on drop; `Debug` shows the kind only.
#[derive(Clone)]
pub enum Secret {
    /// Bytes, not necessarily UTF-8. Make it with [`Secret::passphrase`].
    Passphrase(Zeroizing<Vec<u8>>),
    /// The contents of a key file. Make it with [`Secret::key_file`].
    KeyFile(Zeroizing<Vec<u8>>),
    /// A recovery key.
    RecoveryKey(RecoveryKey),
}

/// Reasons why something is not usable as a secret. They never hold any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than a secret can be.
    #[error("{}: more than {max} bytes, too large for a secret: is it the right file?", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that would have been accepted.
        max: usize,
    },
    /// An empty passphrase.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A passphrase longer than [`PASSPHRASE_LEN_MAX`].
    #[error("the passphrase is longer than {PASSPHRASE_LEN_MAX} bytes")]
    LongPassphrase,
    /// A key file shorter or longer than it may be, or plainly not random.
    #[error(
        "a key file holds {KEY_FILE_LEN_MIN} to {KEY_FILE_LEN_MAX} random bytes, this one does not: make one with `head -c 64 /dev/urandom`"
    )]
    KeyFile,
    /// A recovery key with a typing error in this group (counted from 1).
    #[error("the recovery key has a typing error in group {group} of 8")]
    RecoveryGroup {
        /// The group, counted from 1.
        group: usize,
    },
    /// Not as many letters as a recovery key has.
    #[error("a recovery key is 8 groups of 8 letters and digits, this has {found}")]
    RecoveryLength {
        /// Letters and digits that were found.
        found: usize,
    },
    /// A character that no recovery key has.
    #[error("the recovery key has a character that cannot be in one")]
    RecoveryCharacter,
}

impl Secret {
    /// A passphrase as it was typed or read; a trailing newline must be gone already.
    ///
    /// # Errors
    /// Empty or longer than [`PASSPHRASE_LEN_MAX`].
    pub fn passphrase(bytes: Zeroizing<Vec<u8>>) -> Result<Secret, SecretError> {
        match bytes.len() {
            0 => Err(SecretError::EmptyPassphrase),
            len if len > PASSPHRASE_LEN_MAX => Err(SecretError::LongPassphrase),
            _ => Ok(Secret::Passphrase(bytes)),
        }
    }

    /// The contents of a key file, as they are.
    ///
    /// # Errors
    /// [`SecretError::KeyFile`].
    pub fn key_file(bytes: Zeroizing<Vec<u8>>) -> Result<Secret, SecretError> {
        let one_byte_repeated = bytes
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a == b));
        if !(KEY_FILE_LEN_MIN..=KEY_FILE_LEN_MAX).contains(&bytes.len()) || one_byte_repeated {
            return Err(SecretError::KeyFile);
        }
        Ok(Secret::KeyFile(bytes))
    }

    /// Reads a passphrase from a file (a regular one, a pipe, `/dev/stdin`); exactly one trailing
    /// newline is not part of it.
    ///
    /// # Errors
    /// The file cannot be read; it is no passphrase.
    pub fn passphrase_from_file(path: &Path) -> Result<Secret, SecretError> {
        let bytes = read_secret_file(path, PASSPHRASE_LEN_MAX + 1)?;
        Secret::passphrase(without_newline(bytes))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read; it is no key file.
    pub fn key_file_from(path: &Path) -> Result<Secret, SecretError> {
        Secret::key_file(read_secret_file(path, KEY_FILE_LEN_MAX)?)
    }

    /// Reads a recovery key from a file such as [`RecoveryKey::write_file`] makes.
    ///
    /// # Errors
    /// The file cannot be read; it holds no recovery key.
    pub fn recovery_key_from_file(path: &Path) -> Result<Secret, SecretError> {
        RecoveryKey::read_file(path).map(Secret::RecoveryKey)
    }

    /// The kind of slots that it may open.
    pub fn kind(&self) -> SlotKind {
        match self {
            Secret::Passphrase(_) => SlotKind::Passphrase,
            Secret::KeyFile(_) => SlotKind::KeyFile,
            Secret::RecoveryKey(_) => SlotKind::RecoveryKey,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.kind().name())
    }
}

/// Takes one trailing newline away, if there is one.
pub(crate) fn without_newline(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}

/// Reads a file of at most `max` bytes; of a larger one no more than that is read.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_secret_file(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io_error = |source| SecretError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io_error)?;
    // The buffer has its full size from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; max + 1]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error(error)),
        }
    }
    if len > max {
        return Err(SecretError::FileTooLarge {
            path: path.to_owned(),
            max,
        });
    }
    bytes.truncate(len);
    Ok(bytes)
}
