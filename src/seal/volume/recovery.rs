//! The recovery key: 256 bits that a person can print and type, with a check in every group.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Secret, SecretError, read_secret_file};
use crate::seal::keys::{KEY_LEN, KeyBytes};

/// Crockford's base 32: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 8;
/// 4 key bytes and one check byte are 40 bits, 8 letters.
const GROUP_LETTERS: usize = 8;
const GROUP_KEY_BYTES: usize = KEY_LEN / GROUPS;
/// Bytes of a recovery key file, at most: the key and a few lines of comment.
const FILE_LEN_MAX: usize = 4096;

/// 256 random bits.
#[derive(Clone)]
pub struct RecoveryKey(pub(super) KeyBytes);

impl RecoveryKey {
    /// A new one.
    pub fn generate() -> RecoveryKey {
        RecoveryKey(KeyBytes::generate())
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Eight groups of eight letters and digits joined by dashes, each group with its own check.
    /// This *is* the secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_LETTERS + 1)));
        for (group, part) in self.0.expose().chunks(GROUP_KEY_BYTES).enumerate() {
            if group > 0 {
                text.push('-');
            }
            let bits = part
                .iter()
                .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte))
                << 8
                | u64::from(check(group, part));
            for letter in (0..GROUP_LETTERS).rev() {
                let digit = (bits >> (5 * letter)) as usize & 31;
                text.push(char::from(ALPHABET.get(digit).copied().unwrap_or_default()));
            }
        }
        text
    }

    /// Reads the text of [`RecoveryKey::to_text`], with any changes of case, spaces, dashes, line
    /// ends, and letters that look alike (`O` for `0`, `I` and `L` for `1`, `U` for `V`). Lines
    /// that begin with `#` are skipped.
    ///
    /// # Errors
    /// The error names the group that has the typing error.
    pub fn parse(text: &str) -> Result<RecoveryKey, SecretError> {
        let mut digits = Zeroizing::new(Vec::with_capacity(GROUPS * GROUP_LETTERS));
        let letters = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(str::chars);
        let mut found = 0;
        for letter in letters.filter(|letter| {
            !letter.is_whitespace() && !matches!(letter, '-' | '\u{2010}'..='\u{2015}' | '_' | '.')
        }) {
            found += 1;
            if found <= GROUPS * GROUP_LETTERS {
                digits.push(digit(letter).ok_or(SecretError::RecoveryCharacter)?);
            }
        }
        if found != GROUPS * GROUP_LETTERS {
            return Err(SecretError::RecoveryLength { found });
        }
        let mut key = KeyBytes::zero();
        let parts = key.expose_mut().chunks_mut(GROUP_KEY_BYTES);
        for (group, (letters, part)) in digits.chunks(GROUP_LETTERS).zip(parts).enumerate() {
            let bits = letters
                .iter()
                .fold(0u64, |bits, digit| bits << 5 | u64::from(*digit));
            for (i, byte) in part.iter_mut().rev().enumerate() {
                *byte = (bits >> (8 * (i + 1))) as u8;
            }
            if check(group, part) != bits as u8 {
                return Err(SecretError::RecoveryGroup { group: group + 1 });
            }
        }
        Ok(RecoveryKey(key))
    }

    /// Writes a new file, readable by its owner only, and makes it durable. An existing file is not
    /// touched.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write_file(&self, path: &Path, comment: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let text = self.to_text();
        let mut content = Zeroizing::new(String::with_capacity(FILE_LEN_MAX));
        for line in comment.lines() {
            content.push_str("# ");
            content.push_str(line);
            content.push('\n');
        }
        // Two lines of four groups fit on paper.
        let (first, second) = text
            .split_at_checked(4 * (GROUP_LETTERS + 1))
            .unwrap_or((&text, ""));
        for half in [first, second] {
            content.push_str(half.trim_end_matches('-'));
            content.push('\n');
        }
        file.write_all(content.as_bytes())?;
        file.sync_all()
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// The file cannot be read or holds no recovery key.
    pub fn read_file(path: &Path) -> Result<RecoveryKey, SecretError> {
        let bytes = read_secret_file(path, FILE_LEN_MAX)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::RecoveryCharacter)?;
        RecoveryKey::parse(text)
    }
}

impl From<RecoveryKey> for Secret {
    fn from(key: RecoveryKey) -> Secret {
        Secret::RecoveryKey(key)
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(..)")
    }
}

/// The check byte of a group. It also notices groups that changed places.
fn check(group: usize, part: &[u8]) -> u8 {
    let hash = Sha256::new()
        .chain_update(b"strongroom/1/recovery-check")
        .chain_update([group as u8])
        .chain_update(part)
        .finalize();
    hash.first().copied().unwrap_or_default()
}

fn digit(letter: char) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        'U' => 'V',
        other => other,
    };
    let position = ALPHABET
        .iter()
        .position(|known| char::from(*known) == letter)?;
    u8::try_from(position).ok()
}
