//! Answers that no S3 store gives: something else listens at the endpoint, or a proxy answers in
//! the store's place.
//!
//! Such an answer is an outage, not a fact about an object: a login page with status 200 is not the
//! object that was asked for, and the 404 of a web server does not say that an object is gone.

use std::error::Error;

use aws_smithy_runtime_api::client::{interceptors::Intercept, orchestrator::HttpResponse};

use super::{
    StoreError,
    StoreErrorKind::Foreign,
    causes::{chain, find},
    layer::on_answer,
};

/// An answer is a web page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answers with a web page (HTTP {status})")]
struct WebPage {
    status: u16,
}

/// Refuses answers that are web pages, before anything is read from them.
pub(super) fn no_web_pages() -> impl Intercept {
    on_answer(|answer| match is_web_page(answer) {
        true => Err(WebPage {
            status: answer.status().as_u16(),
        }
        .into()),
        false => Ok(()),
    })
}

/// S3 stores answer errors in XML, and mark their answers with header fields of their own. Some
/// call an answer without a body HTML. A gateway's page about a passing failure stays what its
/// status says.
fn is_web_page(answer: &HttpResponse) -> bool {
    let headers = answer.headers();
    let is_html = headers
        .get("content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    if !is_html {
        return false;
    }
    let status = answer.status().as_u16();
    let is_passing = status >= 500 || matches!(status, 408 | 429);
    let has_body = match headers.get("content-length") {
        Some(length) => length != "0",
        None => answer.status().is_success() || headers.contains_key("transfer-encoding"),
    };
    let is_marked = headers
        .iter()
        .any(|(name, _)| name.starts_with("x-amz") || name.starts_with("x-goog-"));
    has_body && !is_passing && !is_marked
}

/// The error for an answer that came from no S3 store; `None` if nothing says so.
pub(super) fn foreign(
    error: &(dyn Error + 'static),
    operation: &'static str,
    key: &str,
    endpoint: &str,
) -> Option<StoreError> {
    let explained = |message: String, advice: &str| {
        Some(StoreError::new(Foreign, operation, key, message).advising(advice))
    };
    if let Some(page) = find::<WebPage>(error) {
        let advice = match (page.status, endpoint.starts_with("http://")) {
            // Web servers that expect TLS answer plain HTTP so.
            (400, true) => PERHAPS_HTTPS,
            _ => "check --endpoint-url: it must name an S3 store, and no proxy may answer for it",
        };
        return explained(format!("{endpoint} {page}, which no S3 store does"), advice);
    }
    if let Some(rustls::Error::InvalidMessage(_)) = find(error) {
        return explained(
            format!("{endpoint} does not speak TLS"),
            "write http:// in the endpoint's URL, or the port that speaks TLS",
        );
    }
    // hyper's words for bytes that do not begin as an answer does.
    let is_not_http =
        chain(error).any(|error| error.to_string().starts_with("invalid HTTP version parsed"));
    is_not_http
        .then(|| {
            explained(
                format!("{endpoint} does not speak plain HTTP"),
                PERHAPS_HTTPS,
            )
        })
        .flatten()
}

/// The advice where an answer looks as if the port expected TLS.
pub(super) const PERHAPS_HTTPS: &str =
    "write https:// in the endpoint's URL if this port speaks TLS, else check the port";

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> HttpResponse {
        let status = StatusCode::try_from(status).unwrap();
        let mut answer = HttpResponse::new(status, SdkBody::empty());
        for (name, value) in fields {
            answer.headers_mut().insert(*name, *value);
        }
        answer
    }

    #[test]
    fn a_page_in_html_is_told_from_the_answers_of_stores() {
        let html = ("content-type", "text/html; charset=utf-8");
        let length = ("content-length", "42");
        for status in [200, 302, 400, 403, 404] {
            assert!(is_web_page(&answer(status, &[html, length])), "{status}");
        }
        assert!(is_web_page(&answer(200, &[html])), "of unknown length");
        for (status, fields) in [
            // Passing failures.
            (502, vec![html, length]),
            (429, vec![html, length]),
            // Stores written in Python call an answer to HEAD so.
            (404, vec![html, ("content-length", "0")]),
            (404, vec![html]),
            (404, vec![html, length, ("x-amzn-requestid", "1")]),
            (200, vec![html, length, ("x-amz-request-id", "1")]),
            (404, vec![("content-type", "application/xml"), length]),
            (200, vec![length]),
        ] {
            assert!(
                !is_web_page(&answer(status, &fields)),
                "{status} {fields:?}"
            );
        }
    }
}
