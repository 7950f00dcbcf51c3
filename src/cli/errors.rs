//! From the errors of the layers below to one line and an exit code.

use std::fmt::Display;

use super::exit::{CliError, Exit};
use crate::{
    data::DataError,
    fuse::MountError,
    meta::MetaError,
    store::{S3Url, StoreError, StoreErrorKind},
};

/// A failed request to the store that the command needed.
pub fn store(error: &StoreError, url: &S3Url) -> CliError {
    use StoreErrorKind as Kind;
    let said = &error.message;
    match error.kind {
        Kind::NoBucket => CliError::new(
            Exit::NoBucket,
            format!("bucket {} does not exist", url.bucket),
            "check the name and the endpoint, or make it: strongroom init --create-bucket",
        ),
        Kind::NoCredentials => CliError::new(
            Exit::NoCredentials,
            "no S3 credentials found",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a --profile",
        ),
        Kind::BadCredentials => CliError::new(
            Exit::BadCredentials,
            format!("the store refuses the credentials ({said})"),
            "check the access key, its secret and the profile",
        ),
        Kind::Denied => CliError::new(
            Exit::Denied,
            format!("access to {url} is denied ({said})"),
            "grant this key s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload there",
        ),
        Kind::Unreachable => CliError::new(
            Exit::Unreachable,
            format!("the store does not answer ({said})"),
            "check --endpoint-url, the network, and that the store runs",
        ),
        Kind::Tls => CliError::new(
            Exit::Tls,
            format!("no trusted connection to the store ({said})"),
            "name the authority that signed its certificate with --ca-bundle",
        ),
        Kind::Unavailable => CliError::new(
            Exit::Unreachable,
            format!("the store is out of order ({said})"),
            "try again later",
        ),
        Kind::NotFound | Kind::Precondition | Kind::Range | Kind::Nonsense | Kind::Other => {
            CliError::new(
                Exit::Unexpected,
                format!("{} {}: {said}", error.operation, error.key),
                "see what the store says",
            )
        }
    }
}

/// A failure of the metadata while a volume is opened or closed.
pub fn meta(error: &MetaError, doing: &str) -> CliError {
    match error {
        MetaError::Fenced => taken_over(),
        other => CliError::new(
            Exit::Damaged,
            format!("{doing}: {other}"),
            "see the log for the object at fault; restore it, or the volume, from a copy",
        ),
    }
}

/// The kernel does not take the mount.
pub fn mount(error: &MountError) -> CliError {
    let (exit, advice) = match error {
        MountError::Missing(_) => (Exit::MountPointMissing, "make the directory first"),
        MountError::NotADirectory(_) => (Exit::MountPointNotDirectory, "name a directory"),
        MountError::AlreadyMounted(_) | MountError::DeadMount(_) => (
            Exit::MountPointInUse,
            "unmount what is there (fusermount3 -u), or name another directory",
        ),
        MountError::NoFuseDevice => (
            Exit::NoFuse,
            "load the module with 'modprobe fuse', or give the container the device",
        ),
        MountError::NoFusermount => (Exit::NoFuse, "install it: apt-get install fuse3"),
        MountError::AllowOtherRefused => (
            Exit::NoFuse,
            "root must put the line user_allow_other into /etc/fuse.conf",
        ),
        MountError::NotPermitted { .. } => (Exit::NoFuse, "choose a directory that you own"),
        MountError::Busy(_) | MountError::NoAnswer(_) | MountError::Io { .. } => {
            (Exit::Unexpected, "see the log")
        }
    };
    // The text ends with advice of its own, behind a semicolon.
    let text = error.to_string();
    let what = text
        .split_once("; ")
        .map_or(text.as_str(), |(what, _)| what);
    CliError::new(exit, what, advice)
}

/// Contents that did not become durable.
pub fn not_durable(error: &DataError, dirty_bytes: u64) -> CliError {
    if let DataError::Meta(MetaError::Fenced) = error {
        return taken_over();
    }
    lost(error, dirty_bytes)
}

/// What is lost when a mount ends before everything is durable.
pub fn lost(why: impl Display, dirty_bytes: u64) -> CliError {
    CliError::new(
        Exit::NotDurable,
        format!("not everything became durable, {dirty_bytes} bytes are lost ({why})"),
        "what was fsynced is safe; check what was written last",
    )
}

/// Another mount has the volume now.
pub fn taken_over() -> CliError {
    CliError::new(
        Exit::TakenOver,
        "another mount has taken this volume over",
        "what was fsynced here is safe; mount again when the other one has ended",
    )
}
