//! The little of HTTP/1 that a scrape needs: the head of a request, and the answer to it.

/// The longest head of a request. Prometheus sends some 300 bytes.
pub(super) const HEAD_BYTES_MAX: usize = 4096;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The meaning of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The metrics.
    Metrics,
    /// The head of the answer alone.
    MetricsHead,
    /// Something that gets this status.
    Refused(Status),
}

/// A status other than 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLong,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::HeadTooLong => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Whether the head of a request is whole: it ends at an empty line.
pub(super) fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// Reads the first line of a request. Nothing else in the head matters here.
pub(super) fn parse(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().trim_end().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Refused(Status::BadRequest);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Asked::Refused(Status::BadRequest);
    }
    let path = target.split('?').next();
    match (path, method) {
        (Some("/metrics"), "GET") => Asked::Metrics,
        (Some("/metrics"), "HEAD") => Asked::MetricsHead,
        (Some("/metrics"), _) => Asked::Refused(Status::MethodNotAllowed),
        _ => Asked::Refused(Status::NotFound),
    }
}

/// The head of the answer with metrics.
pub(super) fn head(body_bytes: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {OPENMETRICS}\r\nContent-Length: {body_bytes}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
}

/// A whole answer without metrics.
pub(super) fn refusal(status: Status) -> String {
    let line = status.line();
    let allow = match status {
        Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         {allow}Connection: close\r\n\r\n{line}\n",
        line.len() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metrics_are_given() {
        for (line, asked) in [
            ("GET /metrics HTTP/1.1", Asked::Metrics),
            ("GET /metrics?name=x HTTP/1.0", Asked::Metrics),
            ("HEAD /metrics HTTP/1.1", Asked::MetricsHead),
            (
                "POST /metrics HTTP/1.1",
                Asked::Refused(Status::MethodNotAllowed),
            ),
            ("GET / HTTP/1.1", Asked::Refused(Status::NotFound)),
            ("GET /metrics/ HTTP/1.1", Asked::Refused(Status::NotFound)),
            ("GET /../metrics HTTP/1.1", Asked::Refused(Status::NotFound)),
            ("GET metrics HTTP/1.1", Asked::Refused(Status::BadRequest)),
            ("GET /metrics HTTP/2", Asked::Refused(Status::BadRequest)),
            ("GET  /metrics HTTP/1.1", Asked::Refused(Status::BadRequest)),
            ("GET /metrics", Asked::Refused(Status::BadRequest)),
            ("", Asked::Refused(Status::BadRequest)),
            ("\u{0}\u{1}", Asked::Refused(Status::BadRequest)),
        ] {
            for end in ["\r\n\r\n", "\n\n", "\r\nHost: x\r\n\r\n"] {
                let head = format!("{line}{end}");
                assert!(is_whole(head.as_bytes()), "{head:?}");
                assert_eq!(parse(head.as_bytes()), asked, "{head:?}");
            }
        }
        assert_eq!(
            parse(b"\xff\xfe /metrics HTTP/1.1\r\n\r\n"),
            Asked::Refused(Status::BadRequest)
        );
        assert!(!is_whole(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"));
    }

    #[test]
    fn a_refusal_is_as_long_as_it_says() {
        for status in [
            Status::NotFound,
            Status::MethodNotAllowed,
            Status::HeadTooLong,
        ] {
            let answer = refusal(status);
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            let length = format!("Content-Length: {}", body.len());
            assert!(head.contains(&length), "{answer}");
        }
    }
}
