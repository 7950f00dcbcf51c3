//! Answers that do not end.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Shared, answer::Answer, request::Request};

/// The length of the piece that is sent again and again, without end.
const PIECE_LEN: usize = 64 << 10;

/// Entries of a page of a listing.
const PAGE_LEN: usize = 1000;

/// An answer without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endless {
    /// An error of this status with a body that goes on.
    Error(u16),
    /// The object, of a length that no disk holds.
    Object,
    /// The object, of no length that is told.
    ChunkedObject,
    /// One header after the other.
    Headers,
    /// A page of a listing that goes on.
    Listing,
    /// Pages of a listing, each of which says that there is another.
    Pages,
    /// Pages of a listing, each of which says that there is another and holds the same keys.
    SamePages,
    /// Pages of unfinished uploads, each of which says that there is another.
    UploadPages,
}

impl Endless {
    /// The pages are whole answers each.
    pub(super) fn page(self, request: &Request) -> Option<Answer> {
        let prefix = &request.key;
        let number = match self {
            Endless::SamePages => 0,
            _ => request.number,
        };
        let entries = |entry: &dyn Fn(String) -> String| -> String {
            (0..PAGE_LEN)
                .map(|n| entry(format!("{prefix}{number:010}{n:010}.sst")))
                .collect()
        };
        match self {
            Endless::Pages | Endless::SamePages => Some(Answer::xml(format!(
                "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>t{number}</NextContinuationToken>{}</ListBucketResult>",
                entries(&entry)
            ))),
            Endless::UploadPages => Some(Answer::xml(format!(
                "<?xml version=\"1.0\"?><ListMultipartUploadsResult><IsTruncated>true</IsTruncated>\
                 <NextKeyMarker>k{number}</NextKeyMarker><NextUploadIdMarker>u{number}</NextUploadIdMarker>{}\
                 </ListMultipartUploadsResult>",
                entries(&|key| format!("<Upload><Key>{key}</Key><UploadId>u</UploadId></Upload>"))
            ))),
            _ => None,
        }
    }

    /// Sends until the client has enough.
    pub(super) async fn send(
        self,
        to: &mut (impl AsyncWrite + Unpin),
        shared: &Shared,
    ) -> std::io::Result<()> {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        let huge = 99_999_999_999_u64;
        let head = match self {
            Endless::Error(status) => {
                format!("HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\n{chunked}")
            }
            Endless::Object => format!(
                "HTTP/1.1 206 X\r\nETag: \"x\"\r\nContent-Range: bytes 0-{}/{huge}\r\nContent-Length: {huge}\r\n\r\n",
                huge - 1
            ),
            Endless::ChunkedObject => format!("HTTP/1.1 200 X\r\nETag: \"x\"\r\n{chunked}"),
            Endless::Headers => "HTTP/1.1 200 X\r\n".to_owned(),
            _ => format!("HTTP/1.1 200 X\r\nContent-Type: application/xml\r\n{chunked}"),
        };
        to.write_all(head.as_bytes()).await?;
        let content = match self {
            Endless::Listing => entry("laptop/meta/wal/00000000000000099999.sst".to_owned()),
            _ => "x".to_owned(),
        };
        let content = content.repeat(PIECE_LEN / content.len());
        let piece = match self {
            Endless::Object => content,
            Endless::Headers => format!("X-Y: {}\r\n", "x".repeat(1000)),
            _ => format!("{:x}\r\n{content}\r\n", content.len()),
        };
        if self == Endless::Listing {
            let opening = "<?xml version=\"1.0\"?><ListBucketResult>";
            let opening = format!("{:x}\r\n{opening}\r\n", opening.len());
            to.write_all(opening.as_bytes()).await?;
        }
        loop {
            to.write_all(piece.as_bytes()).await?;
            shared
                .endless_bytes
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

fn entry(key: String) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>100</Size><ETag>\"x\"</ETag>\
         <LastModified>2026-11-21T15:57:05.000Z</LastModified></Contents>"
    )
}
