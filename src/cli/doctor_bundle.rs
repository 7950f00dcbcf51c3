//! Writing the file of `doctor --bundle`, and telling what is in it.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write, stderr, stdout},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    session::{Exit, Failure, bundle::Packed},
    telemetry::human_size,
};

/// A file that is to be made.
pub struct BundleFile {
    /// `None`: standard output.
    path: Option<PathBuf>,
    /// Standard output is one JSON document.
    prints_json: bool,
}

impl BundleFile {
    /// Looks whether the file can be made, before anything else is done.
    ///
    /// # Errors
    /// It is there, or its directory is not; standard output is wanted twice, or is a terminal.
    pub fn check(path: &Path, prints_json: bool) -> Result<BundleFile, Failure> {
        if path == Path::new("-") {
            if prints_json {
                return Err(Failure::usage(
                    "--json and --bundle - would both go to standard output",
                    "leave out --json, which is in the bundle, or name a file",
                ));
            }
            if stdout().is_terminal() {
                return Err(Failure::usage(
                    "a bundle is nothing for a terminal",
                    "name a file with --bundle, or send standard output to one",
                ));
            }
            return Ok(BundleFile {
                path: None,
                prints_json,
            });
        }
        if path.symlink_metadata().is_ok() {
            let error = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(cannot_write(path, &error));
        }
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        let there = fs::metadata(directory.unwrap_or(Path::new(".")));
        match there {
            Ok(directory) if !directory.is_dir() => {
                let error = io::Error::from(io::ErrorKind::NotADirectory);
                Err(cannot_write(path, &error))
            }
            Ok(_) => Ok(BundleFile {
                path: Some(path.to_owned()),
                prints_json,
            }),
            Err(error) => Err(cannot_write(path, &error)),
        }
    }

    /// Whether standard output is the bundle, so that nothing else may be printed there.
    pub fn is_standard_output(&self) -> bool {
        self.path.is_none()
    }

    /// Writes the archive, for this user alone, and tells what is in it.
    ///
    /// # Errors
    /// It cannot be written; then nothing is left of it.
    pub fn write(
        &self,
        (archive, packed, left_out): &(Vec<u8>, Vec<Packed>, Vec<String>),
    ) -> Result<(), Failure> {
        match &self.path {
            None => stdout()
                .write_all(archive)
                .and_then(|()| stdout().flush())
                .map_err(|error| {
                    Failure::new(
                        Exit::Unexpected,
                        format!("cannot write the bundle: {error}"),
                        "send standard output to a file that can be written",
                    )
                })?,
            Some(path) => {
                let new = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path);
                let mut file = new.map_err(|error| cannot_write(path, &error))?;
                if let Err(error) = file.write_all(archive) {
                    let _ = fs::remove_file(path);
                    return Err(cannot_write(path, &error));
                }
            }
        }
        let size = human_size(archive.len() as u64);
        for file in packed {
            let size = human_size(file.size_bytes);
            self.tell(&format!(
                "{:<8} {:<20} {size}: {}",
                "packed", file.name, file.about
            ));
        }
        for line in left_out {
            self.tell(&format!("{:<8} {line}", "left out"));
        }
        let name = match &self.path {
            None => "standard output".to_owned(),
            Some(path) => path.display().to_string(),
        };
        self.tell(&format!(
            "{:<8} {name}, {size}: read what is in it before you send it",
            "bundle"
        ));
        Ok(())
    }

    /// Prints a line. A reader that has gone still gets the code.
    fn tell(&self, line: &str) {
        let _ = match self.prints_json || self.is_standard_output() {
            true => writeln!(stderr(), "{line}"),
            false => writeln!(stdout(), "{line}"),
        };
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AlreadyExists => "name a file that does not exist yet",
        _ => "name a file in a directory that you can write to",
    };
    Failure::usage(
        format!("cannot write the bundle to {}: {error}", path.display()),
        advice,
    )
}
