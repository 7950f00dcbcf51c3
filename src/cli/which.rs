//! `strongroom which`: the objects of a file, the files of an object, the path of an inode.

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use clap::Args;

use super::{look, visit::OpenArgs};
use crate::{
    check::Answer,
    session::{Failure, control::Look},
    telemetry::{human_size, shown, shown_json},
};

/// A path may have 4,096 bytes, and each of them may take several characters.
const TEXT_CHARS_MAX: usize = 20_000;

/// `strongroom which URL|DIR PATH|OBJECT|ino:N`
#[derive(Args, Debug)]
#[command(
    long_about = "For a path in the volume: its inode, and each object with how many of its bytes are in there. For an \
                  object (its key as a log line or the bucket shows it): the files that have bytes in it, or what \
                  else it is. For ino:N, as log lines name files: all paths of that inode, and its objects. It looks \
                  at what is committed. A running mount answers by itself, without a secret.",
    after_help = "\
Examples:
  strongroom which /mnt/vault /letters/2026.txt
  strongroom which /mnt/vault ino:149173
  strongroom which s3://bucket/laptop /letters/2026.txt --passphrase-file pass
  strongroom which /mnt data/552c35140e2e60318950bbef79115e29/0000000000000003"
)]
pub struct WhichArgs {
    /// The volume (s3://bucket/prefix), or the directory that it is mounted on
    #[arg(value_name = "URL|DIR")]
    place: String,

    /// A path from the volume's root or one that begins with DIR, an object's key, or ino:N; a path
    /// that looks like a key begins with a slash
    #[arg(value_name = "PATH|OBJECT|ino:N")]
    target: OsString,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    open: OpenArgs,
}

/// Runs the command.
pub fn run(args: &WhichArgs) -> Result<(), Failure> {
    let question = Look::Which(from_the_root(&args.place, &args.target));
    look::ask(&args.place, &args.open, question, &mut |answer| {
        let text = match args.json {
            true => serde_json::to_string(&answer)
                .map_or_else(|_| String::new(), |json| shown_json(&json)),
            false => as_text(&answer),
        };
        // A reader that has gone (`which | head`) is no error.
        let _ = writeln!(std::io::stdout(), "{text}");
    })
}

/// The target; a path that begins with the directory, as a shell completes it, counts from there.
fn from_the_root(place: &str, target: &OsStr) -> Vec<u8> {
    match Path::new(target).strip_prefix(place) {
        Ok(below) if !place.starts_with("s3://") => {
            let mut path = b"/".to_vec();
            path.extend_from_slice(below.as_os_str().as_bytes());
            path
        }
        _ => target.as_bytes().to_vec(),
    }
}

fn as_text(answer: &Answer) -> String {
    match answer {
        Answer::File {
            ino,
            is,
            size,
            allocated_bytes,
            inline_bytes,
            paths,
        } => {
            let mut text = format!("{}: {is}, ino:{ino}", named(paths));
            if is == "file" {
                text.push_str(&format!(
                    ", {size} bytes, of which {allocated_bytes} are stored"
                ));
            }
            if *inline_bytes > 0 {
                text.push_str(&format!(", {inline_bytes} of these in the metadata itself"));
            }
            text
        }
        Answer::Object {
            object,
            bytes,
            extents,
        } => format!(
            "{bytes:>14} bytes in {extents:>6} extents  {}",
            plain(object)
        ),
        Answer::Key {
            object,
            what,
            stored_bytes,
            live_bytes,
            dead_bytes,
            ..
        } => {
            let mut text = format!("{}: {}", plain(object), plain(what));
            if let Some(bytes) = stored_bytes {
                text.push_str(&format!(" ({bytes} bytes, {})", human_size(*bytes)));
            }
            if live_bytes + dead_bytes > 0 {
                text.push_str(&format!(
                    "; {live_bytes} bytes of it are of files, {dead_bytes} are not any more"
                ));
            }
            text
        }
        Answer::Holder {
            ino,
            bytes,
            extents,
            paths,
        } => format!(
            "{bytes:>14} bytes in {extents:>6} extents  {} (ino:{ino})",
            named(paths)
        ),
        Answer::Paths { paths, .. } => format!("{:>35}{}", "also ", named(paths)),
        Answer::Usage(_) => String::new(),
    }
}

/// All paths of one file.
fn named(paths: &[String]) -> String {
    match paths {
        [] => "a file without a name".to_owned(),
        paths => {
            let shown: Vec<String> = paths.iter().map(|path| plain(path)).collect();
            shown.join(", ")
        }
    }
}

fn plain(text: &str) -> String {
    shown(text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_as_a_shell_completes_it_counts_from_the_directory() {
        let from_the_root = |place, target: &str| {
            let path = from_the_root(place, OsStr::new(target));
            String::from_utf8(path).expect("UTF-8")
        };
        assert_eq!(from_the_root("vault", "vault/docs/letter"), "/docs/letter");
        assert_eq!(from_the_root("vault/", "vault/docs"), "/docs");
        assert_eq!(from_the_root("/mnt/vault", "/mnt/vault/docs"), "/docs");
        for as_it_is in ["/vault/docs", "docs/vault", "vaults/docs", "ino:7", "lease"] {
            assert_eq!(from_the_root("vault", as_it_is), as_it_is);
        }
        let key = "s3://bucket/laptop/lease";
        assert_eq!(from_the_root("s3://bucket/laptop", key), key);
    }
}
