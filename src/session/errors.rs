//! From the errors of the layers below to one line and an exit code.

use std::{fmt::Display, path::Path};

use super::{exit::Exit, failure::Failure};
use crate::{
    data::DataError,
    fuse::MountError,
    meta::MetaError,
    seal::object_store::LogFault,
    store::{S3Url, StoreError, StoreErrorKind},
};

/// A failed request to the store that the command needed.
pub fn store(error: &StoreError, url: &S3Url) -> Failure {
    use StoreErrorKind as Kind;
    let said = &error.message;
    let (exit, what, usual_advice) = match error.kind {
        Kind::NoBucket => (
            Exit::NoBucket,
            format!("bucket {} does not exist", url.bucket),
            "check the name and the endpoint, or make it: strongroom init --create-bucket",
        ),
        Kind::NoCredentials => (
            Exit::NoCredentials,
            said.clone(),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        Kind::BadCredentials => (
            Exit::BadCredentials,
            format!("the store refuses the credentials ({said})"),
            "check the access key, its secret and the profile",
        ),
        Kind::Denied => (
            Exit::Denied,
            format!("access to {url} is denied ({said})"),
            "grant this key s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload there",
        ),
        Kind::Unreachable => (
            Exit::Unreachable,
            format!("the store does not answer ({said})"),
            "check --endpoint-url, the network, and that the store runs",
        ),
        Kind::Foreign => (Exit::Unreachable, said.clone(), "check --endpoint-url"),
        Kind::Tls => (
            Exit::Tls,
            format!("no trusted connection to the store ({said})"),
            "check its certificate and --ca-bundle",
        ),
        Kind::Unavailable => (
            Exit::Unreachable,
            format!("the store is out of order ({said})"),
            "try again later",
        ),
        Kind::Settings => (Exit::Usage, said.clone(), "correct that setting"),
        Kind::NotFound
        | Kind::Precondition
        | Kind::WrongParts
        | Kind::Range
        | Kind::Nonsense
        | Kind::Other => (
            Exit::Unexpected,
            format!("{} {}: {said}", error.operation, error.key),
            "look for that request in the store's log",
        ),
    };
    let advice = error.advice.as_deref();
    Failure::new(exit, what, advice.map_or(usual_advice, String::as_str))
}

/// A failure of the metadata while a volume is opened or closed.
pub fn meta(error: &MetaError, doing: &str) -> Failure {
    match error {
        MetaError::Fenced => taken_over(),
        MetaError::Missing => Failure::new(
            Exit::NoMetadata,
            "the volume's header is there, its metadata is not",
            "find out who removed it or hides it, and restore it from a copy of the bucket; nothing was written",
        ),
        MetaError::Older { .. } => Failure::new(
            Exit::RolledBack,
            format!("the volume went back in time while it was opened: {error}"),
            "the store contradicts itself: do not write to it before its operator explains that",
        ),
        other => Failure::new(
            Exit::Damaged,
            format!("{doing}: {other}"),
            "see the log for the object at fault; restore it, or the volume, from a copy",
        ),
    }
}

/// The log does not hold together, or not with the newest object of it that this machine has seen.
pub fn log(fault: &LogFault, seen: Option<u64>) -> Failure {
    let what = format!("log object {} {fault}", fault.number());
    match fault {
        LogFault::Missing { later, .. } if seen == Some(*later) => Failure::new(
            Exit::RolledBack,
            format!(
                "the volume went back in time: this machine has seen log object {later}; {what}"
            ),
            "find out who put an old state back; use --allow-rollback if it was you",
        ),
        LogFault::Missing { .. } => Failure::new(
            Exit::Damaged,
            format!("the volume's metadata cannot be opened: {what}"),
            "restore that object from a copy of the bucket",
        ),
        _ => Failure::new(
            Exit::Forked,
            format!("the volume has two histories: {what}"),
            "find out which of them is yours; use --allow-rollback to go on with the one that is there",
        ),
    }
}

/// The kernel does not take the mount.
pub fn mount(error: &MountError) -> Failure {
    let exit = match error {
        MountError::Missing(_) => Exit::MountPointMissing,
        MountError::NotADirectory(_) => Exit::MountPointNotDirectory,
        MountError::AlreadyMounted(_) | MountError::DeadMount(_) => Exit::MountPointInUse,
        MountError::NoFuseDevice
        | MountError::DeviceRefused(_)
        | MountError::NoFusermount
        | MountError::AllowOtherRefused
        | MountError::NotPermitted { .. } => Exit::NoFuse,
        MountError::Busy(_) => Exit::Busy,
        MountError::NoAnswer(_) | MountError::Io { .. } => Exit::Unexpected,
    };
    // The text ends with advice of its own, behind a semicolon.
    let text = error.to_string();
    let (what, advice) = text.split_once("; ").unwrap_or((&text, "see the log"));
    Failure::new(exit, what, advice)
}

/// The process that served a mount is gone, and the mount is still there.
pub fn dead_mount(dir: &Path) -> Failure {
    let dir = dir.display();
    Failure::new(
        Exit::NotDurable,
        format!(
            "the process that served the mount at {dir} has died; fsynced data is in the store"
        ),
        format!(
            "clear it with 'strongroom umount {dir}' or 'fusermount3 -u {dir}', or mount there again"
        ),
    )
}

/// The kernel lets only `owner` into a mount, and no process of that user's answers for it here.
pub fn mount_of_another(dir: &Path, owner: u32) -> Failure {
    let (is_root, dir) = (nix::unistd::geteuid().is_root(), dir.display());
    match is_root {
        true => Failure::new(
            Exit::Unexpected,
            format!(
                "no process of user {owner} answers for the mount at {dir}: it has died, or runs in a container"
            ),
            format!(
                "ask there or as that user; if it has died, clear it with 'fusermount3 -u {dir}'"
            ),
        ),
        false => Failure::new(
            Exit::Unexpected,
            format!("the mount at {dir} is user {owner}'s"),
            "only that user and root may ask",
        ),
    }
}

/// Contents that did not become durable.
pub fn not_durable(error: &DataError, dirty_bytes: u64) -> Failure {
    if let DataError::Meta(MetaError::Fenced) = error {
        return taken_over();
    }
    lost(error, dirty_bytes)
}

/// The loss when a mount ends before everything is durable.
pub fn lost(why: impl Display, dirty_bytes: u64) -> Failure {
    let what = match dirty_bytes {
        // Changes of names and attributes were lost, or contents that the failure already took out
        // of the count.
        0 => format!("the last changes did not become durable ({why})"),
        _ => format!("not everything became durable, {dirty_bytes} bytes are lost ({why})"),
    };
    Failure::new(
        Exit::NotDurable,
        what,
        "fsynced data is safe; check the last writes",
    )
}

/// Another mount has the volume now.
pub fn taken_over() -> Failure {
    Failure::new(
        Exit::TakenOver,
        "another mount has taken this volume over",
        "data that was fsynced here is safe; mount again when the other one has ended",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_durable_is_counted_unless_it_is_no_bytes() {
        let some = lost("the store refuses", 4096).to_string();
        assert!(
            some.contains("4096 bytes are lost (the store refuses)"),
            "{some}"
        );
        let names = lost("the store refuses", 0).to_string();
        assert!(
            names.contains("the last changes did not become durable (the store refuses)"),
            "{names}"
        );
        assert!(!names.contains(" 0 "), "{names}");
    }
}
