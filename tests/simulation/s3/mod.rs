//! An S3 in memory: strongly consistent, deterministic, and a witness of what is written.
//!
//! It knows the requests that the client sends, and answers as S3 does. It also watches what must
//! never happen, whoever asks for it: sealed bytes under a salt that other bytes had, and another
//! object under a key that names its contents for ever.

mod multipart;
mod objects;
mod witness;
mod xml;

use std::collections::BTreeMap;

use bytes::Bytes;

use multipart::Upload;
pub use objects::Object;
use witness::Witness;

/// The one bucket.
pub const BUCKET: &str = "bucket";

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Within the bucket; empty for the bucket itself.
    pub key: String,
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

impl Request {
    pub fn parse(
        method: &str,
        uri: &str,
        headers: BTreeMap<String, String>,
        body: Bytes,
    ) -> Request {
        let after_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let path = after_scheme.split_once('/').map_or("", |(_, path)| path);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let key = path
            .strip_prefix(BUCKET)
            .expect("requests go to the one bucket")
            .trim_start_matches('/');
        let query = query.split('&').filter(|field| !field.is_empty());
        let query = query.map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            (decoded(name), decoded(value))
        });
        Request {
            method: method.to_owned(),
            key: decoded(key),
            query: query.collect(),
            headers,
            body,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// S3's name of it.
    pub fn operation(&self) -> Operation {
        use Operation::*;
        let has = |name| self.query.contains_key(name);
        match (self.method.as_str(), self.key.is_empty()) {
            ("PUT", true) => CreateBucket,
            ("HEAD", true) => HeadBucket,
            ("GET", true) if has("uploads") => ListMultipartUploads,
            ("GET", true) => List,
            ("POST", true) => DeleteObjects,
            ("PUT", false) if has("partNumber") => UploadPart,
            ("PUT", false) => Put,
            ("POST", false) if has("uploads") => CreateMultipartUpload,
            ("POST", false) => CompleteMultipartUpload,
            ("DELETE", false) if has("uploadId") => AbortMultipartUpload,
            ("DELETE", false) => Delete,
            ("GET", false) if has("uploadId") => ListParts,
            ("GET", false) => Get,
            ("HEAD", false) => Head,
            other => panic!("a request that this S3 does not know: {other:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    CreateBucket,
    HeadBucket,
    Put,
    Get,
    Head,
    Delete,
    DeleteObjects,
    List,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    fn ok() -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn xml(body: String) -> Answer {
        Answer::ok()
            .with("content-type", "application/xml")
            .body(body.into())
    }

    pub fn error(status: u16, code: &str) -> Answer {
        let mut answer = Answer::xml(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <Error><Code>{code}</Code><Message>simulated</Message></Error>"
        ));
        answer.status = status;
        answer
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, body: Bytes) -> Answer {
        self.body = body;
        self
    }
}

/// The store.
#[derive(Default)]
pub struct S3 {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Makes ETags and upload ids.
    next: u64,
    pub witness: Witness,
}

impl S3 {
    pub fn objects(&self) -> &BTreeMap<String, Object> {
        &self.objects
    }

    /// Uploads under way: their keys, and whether they have parts.
    pub fn uploads(&self) -> impl Iterator<Item = (&str, bool)> {
        let uploads = self.uploads.values();
        uploads.map(|upload| (upload.key.as_str(), upload.has_parts()))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Does what is asked for, at once.
    pub fn carry_out(&mut self, request: &Request, now_seconds: u64) -> Answer {
        use Operation::*;
        let operation = request.operation();
        let mut answer = match operation {
            CreateBucket | HeadBucket => Answer::ok(),
            Put => self.put(request, now_seconds),
            Get | Head => self.get(request),
            Delete => {
                self.objects.remove(&request.key);
                let mut answer = Answer::ok();
                answer.status = 204;
                answer
            }
            DeleteObjects => self.delete_objects(request),
            List => self.list(request),
            CreateMultipartUpload => self.create_upload(request),
            UploadPart => self.upload_part(request),
            CompleteMultipartUpload => self.complete(request, now_seconds),
            AbortMultipartUpload => self.abort(request),
            ListParts => self.list_parts(request),
            ListMultipartUploads => self.list_uploads(request),
        };
        if operation == Head {
            answer.body = Bytes::new();
        }
        answer
    }
}

/// Without percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap(), rest.next().unwrap()];
        let digits = std::str::from_utf8(&digits).unwrap();
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// The CRC-32 that the client has put into a header is that of what came.
fn is_intact(request: &Request) -> bool {
    request
        .header("x-amz-checksum-crc32")
        .is_none_or(|header| header == checksum(&request.body))
}

fn checksum(bytes: &Bytes) -> String {
    strongroom::store::checksum(bytes)
}

/// S3's name for something that it does not find.
pub fn not_found(operation: Operation) -> &'static str {
    match operation {
        Operation::UploadPart | Operation::CompleteMultipartUpload | Operation::ListParts => {
            "NoSuchUpload"
        }
        _ => "NoSuchKey",
    }
}
