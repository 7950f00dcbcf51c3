//! Access to the server: the key pair, the operation's name, the faults.

use std::sync::Arc;

use hyper::{HeaderMap, Uri, header};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::config::SecretString;
use super::faults::Verdict;
use super::http::RequestContext;
use super::replay::kind_in;
use super::stats::{self, Cut};

/// One key pair with all rights; other keys have none.
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

/// Signature version 2: HMAC-SHA-1 over a few headers, without region and date, so a signature can
/// be replayed and moved. No client needs it. In a header it is `AWS key:signature`; in a URL its
/// parameters have no `X-Amz-` before them.
fn is_version_2(headers: &HeaderMap, uri: &Uri) -> bool {
    let in_header = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    let mut fields = uri.query().unwrap_or_default().split('&');
    in_header || fields.any(|field| field.starts_with("AWSAccessKeyId="))
}

/// A browser's upload, whose signature of either version is one of its fields.
fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"multipart/form-data"))
}

/// Runs once for each request whose signature is good (or absent) and whose operation is known.
pub(super) struct Gate;

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = stats::known_operation(cx.s3_op().name());
        let signed = cx.credentials().is_some();
        let is_form = is_form(cx.headers());
        let signed_by_version_2 = is_version_2(cx.headers(), cx.uri());
        let upload_bytes = match operation {
            "PutObject" | "UploadPart" => cx
                .headers()
                .get("content-length")
                .and_then(|length| length.to_str().ok()?.parse::<u64>().ok()),
            _ => None,
        };
        let kind = kind_in(cx);
        let Some(request) = cx.extensions_mut().get::<Arc<RequestContext>>().cloned() else {
            return Err(s3_error!(InternalError, "The request has no context."));
        };
        if !signed {
            return Err(s3_error!(AccessDenied, "The request is not signed."));
        }
        if is_form {
            return Err(s3_error!(
                NotImplemented,
                "Uploads by HTML form are not accepted."
            ));
        }
        if signed_by_version_2 {
            return Err(s3_error!(
                InvalidRequest,
                "Signature version 2 is not accepted. Please use AWS4-HMAC-SHA256."
            ));
        }
        request.record.set_operation(operation);
        request.shared.stats.started(operation);
        if let Some(replay) = &request.shared.replay {
            replay.befall(operation, kind, &request).await?;
        }
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
