//! Who may ask, and what happens to who asks: the key pair, the operation's name, the faults.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::config::SecretString;
use super::faults::Verdict;
use super::http::RequestContext;
use super::stats::{self, Cut};

/// One key pair, all rights; anyone else none.
pub(super) struct KeyPair {
    access_key: String,
    secret_key: SecretString,
}

impl KeyPair {
    pub(super) fn new(access_key: String, secret_key: SecretString) -> Self {
        Self {
            access_key,
            secret_key,
        }
    }
}

#[async_trait::async_trait]
impl S3Auth for KeyPair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(SecretKey::from(self.secret_key.expose()))
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "The access key is not the one this server was started with."
            ))
        }
    }
}

/// Runs once for each request whose signature is good (or absent) and whose operation is known.
pub(super) struct Gate;

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = stats::known_operation(cx.s3_op().name());
        let signed = cx.credentials().is_some();
        let upload_bytes = match operation {
            "PutObject" | "UploadPart" => cx
                .headers()
                .get("content-length")
                .and_then(|length| length.to_str().ok()?.parse::<u64>().ok()),
            _ => None,
        };
        let Some(request) = cx.extensions_mut().get::<Arc<RequestContext>>().cloned() else {
            return Err(s3_error!(InternalError, "The request has no context."));
        };
        if !signed {
            return Err(s3_error!(AccessDenied, "The request is not signed."));
        }
        request.record.set_operation(operation);
        request.shared.stats.started(operation);
        match request.shared.faults.judge().await {
            Verdict::Pass => {}
            Verdict::SlowDown => {
                return Err(s3_error!(
                    SlowDown,
                    "Injected: please reduce your request rate."
                ));
            }
            Verdict::InternalError => {
                return Err(s3_error!(InternalError, "Injected: internal error."));
            }
            Verdict::Reset(choice) => {
                let (choice, heads) = (choice >> 1, choice & 1 == 0);
                match (operation, upload_bytes) {
                    ("GetObject", _) => request.record.set_cut(Cut::Answer(choice)),
                    (_, Some(bytes)) if heads => {
                        request.record.set_cut(Cut::Request(choice % bytes.max(1)))
                    }
                    (_, None) if heads => request.cut_connection().await,
                    _ => request.record.set_cut(Cut::BeforeAnswer),
                }
            }
        }
        Ok(())
    }
}
