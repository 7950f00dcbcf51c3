//! A request: its operation, its key, the kind of object that it is about.

use super::http::Head;

/// An S3 operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Put,
    Create,
    UploadPart,
    Complete,
    Abort,
    ListParts,
    Get,
    List,
    ListUploads,
    Delete,
    DeleteMany,
    Head,
    HeadBucket,
    /// GetBucketLifecycleConfiguration, which only `doctor` sends.
    Lifecycle,
    /// GetBucketVersioning, which only `doctor` sends.
    Versioning,
    Other,
}

/// Operations that change what is stored.
pub const WRITES: [Op; 6] = [
    Op::Put,
    Op::Create,
    Op::UploadPart,
    Op::Complete,
    Op::Delete,
    Op::DeleteMany,
];

/// Writes that a store may carry out twice: the second time changes nothing.
pub const REPEATABLE: [Op; 5] = [
    Op::Put,
    Op::UploadPart,
    Op::Complete,
    Op::Delete,
    Op::DeleteMany,
];

/// Every operation that a mount sends.
pub const ALL: [Op; 13] = [
    Op::Get,
    Op::Head,
    Op::HeadBucket,
    Op::List,
    Op::ListUploads,
    Op::ListParts,
    Op::Abort,
    WRITES[0],
    WRITES[1],
    WRITES[2],
    WRITES[3],
    WRITES[4],
    WRITES[5],
];

impl Op {
    pub fn is_write(self) -> bool {
        WRITES.contains(&self) || self == Op::Abort
    }
}

/// The kind of object that a key (or a listing's prefix) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Data,
    Log,
    Manifest,
    Table,
    /// SlateDB's `gc/*.boundary`.
    Boundary,
    /// Anything else below `meta/`.
    Meta,
    Lease,
    Header,
    Other,
}

/// A request, read in full.
pub struct Request {
    pub head: Head,
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub op: Op,
    pub kind: Kind,
    pub bucket: String,
    /// The key; for listings the prefix.
    pub key: String,
    pub number: u64,
}

impl Request {
    pub(super) fn new(head: Head, body: Vec<u8>, number: u64) -> Option<Request> {
        let mut words = head.first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = decoded(path);
        let (bucket, key) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path.trim_start_matches('/'), ""));
        let has = |name: &str| value(query, name).is_some();
        let op = match (method.as_str(), key.is_empty()) {
            ("PUT", false) if has("partNumber") => Op::UploadPart,
            ("PUT", false) => Op::Put,
            ("POST", false) if has("uploads") => Op::Create,
            ("POST", false) if has("uploadId") => Op::Complete,
            ("POST", true) if has("delete") => Op::DeleteMany,
            ("DELETE", false) if has("uploadId") => Op::Abort,
            ("DELETE", false) => Op::Delete,
            ("GET", true) if has("uploads") => Op::ListUploads,
            ("GET", true) if has("list-type") => Op::List,
            ("GET", true) if has("lifecycle") => Op::Lifecycle,
            ("GET", true) if has("versioning") => Op::Versioning,
            ("GET", false) if has("uploadId") => Op::ListParts,
            ("GET", false) => Op::Get,
            ("HEAD", false) => Op::Head,
            ("HEAD", true) => Op::HeadBucket,
            _ => Op::Other,
        };
        let key = match op {
            Op::List | Op::ListUploads => value(query, "prefix").unwrap_or_default(),
            _ => key.to_owned(),
        };
        Some(Request {
            kind: Kind::of(&key),
            bucket: bucket.to_owned(),
            key,
            op,
            method,
            target: target.clone(),
            head,
            body,
            number,
        })
    }

    /// A value of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        value(self.target.split_once('?')?.1, name)
    }

    /// The number of the part that it sends.
    pub fn part(&self) -> Option<String> {
        self.query("partNumber")
    }

    pub fn is_conditional(&self) -> bool {
        self.head.get("if-none-match").is_some() || self.head.get("if-match").is_some()
    }

    /// So many bytes are asked for, with a range.
    pub fn asked_bytes(&self) -> u64 {
        let range = self.range(u64::MAX);
        range.map_or(0, |range| range.end - range.start)
    }

    /// The range asked for, of an object of `len` bytes.
    pub fn range(&self, len: u64) -> Option<std::ops::Range<u64>> {
        let (first, last) = self
            .head
            .get("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let range = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => first..(last + 1).min(len),
            (Ok(first), Err(_)) => first..len,
            (Err(_), Ok(suffix)) => len.saturating_sub(suffix)..len,
            _ => return None,
        };
        (range.start < range.end).then_some(range)
    }
}

impl Kind {
    /// The kind of object under a key with any prefix.
    pub fn of(key: &str) -> Kind {
        let key = format!("/{key}");
        let below = |dir: &str| key.contains(dir);
        match () {
            () if below("/data/") => Kind::Data,
            () if below("/meta/wal/") => Kind::Log,
            () if below("/meta/manifest/") => Kind::Manifest,
            () if below("/meta/compacted/") => Kind::Table,
            () if below("/meta/gc/") => Kind::Boundary,
            () if below("/meta") => Kind::Meta,
            () if key.ends_with("/lease") => Kind::Lease,
            () if below("/strongroom.") => Kind::Header,
            () => Kind::Other,
        }
    }
}

fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
        let digits = std::str::from_utf8(&digits).unwrap_or("00");
        out.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
    }
    String::from_utf8_lossy(&out).into_owned()
}
