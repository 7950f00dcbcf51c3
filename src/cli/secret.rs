//! Where passphrases and keys come from.
//!
//! Promises: a secret is never an argument or an environment variable, only its place is; errors
//! name the place, never the content. Secrets are wiped when dropped ([`Secret`]).

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use super::{
    args::{NewSecretArgs, SecretArgs},
    strength,
};
use crate::{
    seal::volume::{PASSPHRASE_LEN_MAX, RecoveryKey, Secret, SecretError, SlotKind, UnlockError},
    session::{Exit, Failure},
    telemetry::shown,
};

/// Longer paths are cut in messages.
const PATH_CHARS_MAX: usize = 200;

/// Names the file that holds the passphrase, when no option does.
const PASSPHRASE_FILE_VARIABLE: &str = "STRONGROOM_PASSPHRASE_FILE";

/// The name of the systemd credential.
const SYSTEMD_CREDENTIAL: &str = "strongroom.passphrase";

/// How often a passphrase is asked for before a command gives up.
const TRIES: usize = 3;

/// Does `work` with the secret that unlocks a volume. When nothing names one it is asked for on the
/// terminal; one that opens no slot is asked for again, twice.
///
/// # Errors
/// Those of `work`; there is no source, or the named one cannot be read or holds no such secret.
pub fn with_secret<T>(
    args: &SecretArgs,
    mut work: impl FnMut(Secret) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some(secret) = named_secret(args)? {
        return work(secret);
    }
    let wrong = UnlockError::WrongSecret(SlotKind::Passphrase).to_string();
    let mut ask = || work(passphrase(prompt("Passphrase: ")?)?);
    for _ in 1..TRIES {
        match ask() {
            // A mount that went into the background has no terminal: the process that stayed asks.
            Err(failure) if failure.what == wrong && has_terminal() => {
                let _ = writeln!(io::stderr(), "strongroom: {}; try again", failure.what);
            }
            outcome => return outcome,
        }
    }
    ask()
}

/// The secret that an option, the environment or systemd names.
///
/// # Errors
/// It cannot be read, or holds no such secret.
pub fn named_secret(args: &SecretArgs) -> Result<Option<Secret>, Failure> {
    if let Some(file) = &args.key_file {
        return key_file(file).map(Some);
    }
    if let Some(file) = &args.recovery_key_file {
        warn_if_others_read(file);
        let secret = Secret::recovery_key_from_file(file);
        return secret.map(Some).map_err(|error| refused(&error));
    }
    named_passphrase(
        args.passphrase_file.as_deref(),
        args.passphrase_command.as_deref(),
    )
}

/// The passphrase of a new volume; asked for twice when it is asked for.
///
/// # Errors
/// As [`named_secret`]; there is no terminal to ask on.
pub fn first_passphrase(file: Option<&Path>, command: Option<&str>) -> Result<Secret, Failure> {
    let new = match named_passphrase(file, command)? {
        Some(passphrase) => passphrase,
        None => prompt_twice()?,
    };
    warn_if_weak(&new);
    Ok(new)
}

/// Reads a key file.
///
/// # Errors
/// The file cannot be read or holds no key.
pub fn key_file(file: &Path) -> Result<Secret, Failure> {
    warn_if_others_read(file);
    Secret::key_file_from(file).map_err(|error| refused(&error))
}

/// The secret of a slot to be added. A recovery key is made, and written to its file at once.
///
/// # Errors
/// As [`first_passphrase`], or the recovery key cannot be written.
pub fn new_secret(args: &NewSecretArgs, volume: &str) -> Result<Secret, Failure> {
    if let Some(file) = &args.new_key_file {
        return key_file(file);
    }
    if let Some(file) = &args.new_recovery_key_file {
        return make_recovery_key(file, volume);
    }
    let new = match (&args.new_passphrase_file, &args.new_passphrase_command) {
        (Some(file), _) => passphrase_file(file)?,
        (None, Some(command)) => from_command(command).and_then(passphrase)?,
        (None, None) => prompt_twice()?,
    };
    warn_if_weak(&new);
    Ok(new)
}

/// The kind of secret that [`new_secret`] will give.
pub fn new_kind(args: &NewSecretArgs) -> SlotKind {
    if args.new_key_file.is_some() {
        SlotKind::KeyFile
    } else if args.new_recovery_key_file.is_some() {
        SlotKind::RecoveryKey
    } else {
        SlotKind::Passphrase
    }
}

/// Makes a recovery key and writes it to a new file. `volume` is named in the file's comment.
///
/// # Errors
/// The file exists or cannot be written.
pub fn make_recovery_key(file: &Path, volume: &str) -> Result<Secret, Failure> {
    let key = RecoveryKey::generate();
    let comment = format!(
        "Strongroom recovery key of {volume}\nWhoever has it can read everything. Print it, then delete this file."
    );
    key.write_file(file, &comment).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AlreadyExists => "name a file that does not exist yet",
            _ => "name a file that you can write",
        };
        Failure::usage(
            format!(
                "cannot write the recovery key to {}: {error}",
                file.display()
            ),
            advice,
        )
    })?;
    Ok(Secret::RecoveryKey(key))
}

/// A passphrase from an option, the environment's file name, or systemd, in this order.
fn named_passphrase(file: Option<&Path>, command: Option<&str>) -> Result<Option<Secret>, Failure> {
    if let Some(file) = file {
        return passphrase_file(file).map(Some);
    }
    if let Some(command) = command {
        return from_command(command).and_then(passphrase).map(Some);
    }
    if let Some(file) = variable(PASSPHRASE_FILE_VARIABLE) {
        return passphrase_file(Path::new(&file)).map(Some);
    }
    let credential = variable("CREDENTIALS_DIRECTORY")
        .map(|directory| PathBuf::from(directory).join(SYSTEMD_CREDENTIAL));
    match credential.filter(|file| file.exists()) {
        Some(file) => passphrase_file(&file).map(Some),
        None => Ok(None),
    }
}

/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Says so if other users of this machine may read the file of a secret.
fn warn_if_others_read(file: &Path) {
    let Ok(metadata) = fs::metadata(file) else {
        return;
    };
    if metadata.is_file() && metadata.mode() & OTHERS != 0 {
        // Standard error may be closed; there is nobody to tell then.
        let _ = writeln!(
            io::stderr(),
            "strongroom: other users of this machine may use {}: chmod 600 it",
            shown(&file.display().to_string(), PATH_CHARS_MAX)
        );
    }
}

/// Says so if a new passphrase can be guessed. It is used all the same.
fn warn_if_weak(new: &Secret) {
    if let Secret::Passphrase(bytes) = new
        && let Some(hint) = strength::hint(bytes)
    {
        // Standard error may be closed; there is nobody to tell then.
        let _ = writeln!(io::stderr(), "strongroom: {hint}");
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn passphrase_file(file: &Path) -> Result<Secret, Failure> {
    warn_if_others_read(file);
    Secret::passphrase_from_file(file).map_err(|error| refused(&error))
}

fn passphrase(bytes: Zeroizing<Vec<u8>>) -> Result<Secret, Failure> {
    Secret::passphrase(bytes).map_err(|error| refused(&error))
}

fn refused(error: &SecretError) -> Failure {
    let what = error.to_string();
    match error {
        SecretError::Io { .. } => Failure::usage(what, "name a file that you can read"),
        SecretError::FileTooLarge { .. } => {
            Failure::usage(what, "name the file that holds the secret")
        }
        SecretError::EmptyPassphrase | SecretError::LongPassphrase => {
            Failure::usage(what, "choose another one")
        }
        SecretError::KeyFile => Failure::usage(what, "name the key file of this volume"),
        SecretError::RecoveryGroup { .. }
        | SecretError::RecoveryLength { .. }
        | SecretError::RecoveryCharacter => {
            Failure::new(Exit::WrongKey, what, "compare it with the printed one")
        }
    }
}

/// The output of a shell command, without one line break at its end. No copy of it stays in memory:
/// the buffer has its full size from the start.
fn from_command(command: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |why: String| {
        Failure::usage(
            format!("the passphrase command failed: {why}"),
            "run the command by hand and see",
        )
    };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let limit = PASSPHRASE_LEN_MAX + 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
    let read = match child.stdout.take() {
        Some(output) => output.take(limit as u64).read_to_end(&mut bytes),
        None => Ok(0),
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() == limit {
        return Err(failed("it printed too much".to_owned()));
    }
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| terminal.is_terminal())
}

fn prompt(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_terminal = || {
        Failure::usage(
            "no passphrase was given and there is no terminal to ask on",
            "use --passphrase-file, --passphrase-command, --key-file or a systemd credential",
        )
    };
    if !has_terminal() {
        return Err(no_terminal());
    }
    let text = rpassword::prompt_password(question).map_err(|_| no_terminal())?;
    Ok(Zeroizing::new(text.into_bytes()))
}

fn prompt_twice() -> Result<Secret, Failure> {
    let first = prompt("New passphrase: ")?;
    let second = prompt("The same again: ")?;
    if *first != *second {
        return Err(Failure::usage("the two passphrases differ", "try again"));
    }
    passphrase(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_prints_without_end_gives_no_passphrase() {
        assert!(from_command("echo secret; exit 3").is_err());
        assert!(from_command("yes").is_err());
        let printed = from_command("printf 'open sesame\\n'").expect("the command works");
        assert_eq!(*printed, b"open sesame");
    }
}
