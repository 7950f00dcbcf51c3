//! Causes in words: credentials that were not found, TLS that failed, sockets.
//!
//! Promises: what a program that gives credentials printed is never repeated.

use std::{error::Error, io};

use aws_credential_types::provider::error::CredentialsError;
use rustls::CertificateError as Certificate;

use super::causes::{chain, innermost};

/// An event in words, and the advice that fits.
pub(super) type Explained = (String, &'static str);

/// The start of the SDK's words where all providers together took too long.
const TIMED_OUT: &str = "identity resolver timed out";

const SET_CREDENTIALS: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a --profile";

/// Why there are no credentials.
pub(super) fn credentials(error: &CredentialsError) -> Explained {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            ("no S3 credentials found".to_owned(), SET_CREDENTIALS)
        }
        CredentialsError::ProviderTimedOut(_) => late(),
        other => {
            let why = innermost(other);
            credential_process(&why).unwrap_or_else(|| {
                let why = why.trim_end_matches('.');
                (format!("no S3 credentials found ({why})"), SET_CREDENTIALS)
            })
        }
    }
}

/// Whether credentials were waited for in vain.
pub(super) fn credentials_are_late(error: &(dyn Error + 'static)) -> Option<Explained> {
    chain(error)
        .any(|error| error.to_string().starts_with(TIMED_OUT))
        .then(late)
}

fn late() -> Explained {
    (
        "no S3 credentials came in time".to_owned(),
        "see why the credential_process, the login or the metadata service takes so long",
    )
}

/// The failure of a `credential_process`. The SDK's words hold what the program printed, which may
/// be secret, so no more than the exit code is taken from them.
fn credential_process(why: &str) -> Option<Explained> {
    if !why.contains("external process") {
        return None;
    }
    let ended = why
        .split_once("exited with code ")
        .and_then(|(_, rest)| rest.split_once(". "))
        .and_then(|(status, _)| {
            let (kind, number) = status.split_once(": ")?;
            let number = number.split(' ').next()?.parse::<u8>().ok()?;
            match kind {
                "exit status" => Some(format!("failed with exit code {number}")),
                "signal" => Some(format!("was ended by signal {number}")),
                _ => None,
            }
        });
    let what = match ended {
        Some(ended) => ended,
        None if why.contains("could not parse") || why.contains("could not decode") => {
            "did not print credentials in their JSON form".to_owned()
        }
        None => "cannot be run".to_owned(),
    };
    Some((
        format!("the credential_process of the AWS profile {what}"),
        "run that command by hand to see why; what it prints may be secret and is not shown here",
    ))
}

/// Why TLS failed.
pub(super) fn tls(error: &rustls::Error) -> Explained {
    let rustls::Error::InvalidCertificate(fault) = error else {
        return (
            error.to_string(),
            "check --endpoint-url, and the TLS settings of the store",
        );
    };
    let (what, advice) = match fault {
        // An authority of the same name but with another key leads to a bad signature.
        Certificate::UnknownIssuer | Certificate::BadSignature => (
            "is from an unknown authority",
            "name the authority that signed it with --ca-bundle",
        ),
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => (
            "is for another name",
            "write the name that it is for into --endpoint-url, or give the store one for this name",
        ),
        Certificate::Expired | Certificate::ExpiredContext { .. } => (
            "has expired",
            "renew it; if it is not that old, set this machine's clock",
        ),
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            ("is not valid yet", "set this machine's clock")
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "is that of an authority (self-signed with CA:TRUE), which no server may have",
            "make it with basicConstraints=CA:FALSE and give that one with --ca-bundle, or sign it by an authority of yours; docs/operations.md has the commands",
        ),
        other => {
            return (
                format!("the server's certificate is refused: {other}"),
                "give the store a certificate that is right",
            );
        }
    };
    (format!("the server's certificate {what}"), advice)
}

/// A failed socket.
pub(super) fn io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_credential_process_that_failed_the_exit_code_is_told_and_nothing_that_it_printed() {
        let failed = |status: &str| {
            let sdk = format!(
                "Error retrieving credentials: external process exited with code {status}. Stderr: hunter2. exited with code exit status: 9. x"
            );
            let error = CredentialsError::provider_error(sdk);
            let (what, advice) = credentials(&error);
            assert!(
                !what.contains("hunter2") && !advice.contains("hunter2"),
                "{what}"
            );
            what
        };
        assert!(failed("exit status: 3").ends_with("failed with exit code 3"));
        assert!(failed("signal: 9 (SIGKILL)").ends_with("was ended by signal 9"));
        assert!(failed("hunter2").ends_with("cannot be run"));
        let (what, _) = credentials(&CredentialsError::provider_error(
            "Error retrieving credentials from external process, could not parse response: hunter2",
        ));
        assert!(what.ends_with("JSON form"), "{what}");
    }
}
