//! The operation of a request and the key that it is about, from its method and its URL.

use super::exchange::Operation;

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The operation.
    pub operation: Operation,
    /// The whole key, or the prefix of a listing; empty where the request is about the bucket.
    pub key: String,
    /// The number of the part.
    pub part: Option<u32>,
}

/// The target of a request to S3. In `path_style` the path begins with the bucket.
pub fn target(method: &str, uri: &str, path_style: bool) -> Target {
    let (path, query) = path_and_query(uri);
    let path = path.trim_start_matches('/');
    let key = match path_style {
        true => path.split_once('/').map_or("", |(_, key)| key),
        false => path,
    };
    let has = |name: &str| value(query, name).is_some();
    let operation = match (method, key.is_empty()) {
        ("PUT", true) => Operation::CreateBucket,
        ("PUT", false) if has("partNumber") => Operation::UploadPart,
        ("PUT", false) => Operation::PutObject,
        ("POST", true) if has("delete") => Operation::DeleteObjects,
        ("POST", false) if has("uploads") => Operation::CreateMultipartUpload,
        ("POST", false) if has("uploadId") => Operation::CompleteMultipartUpload,
        ("DELETE", false) if has("uploadId") => Operation::AbortMultipartUpload,
        ("DELETE", false) => Operation::DeleteObject,
        ("GET", true) if has("uploads") => Operation::ListMultipartUploads,
        ("GET", true) if has("list-type") => Operation::ListObjectsV2,
        ("GET", false) if has("uploadId") => Operation::ListParts,
        ("GET", false) => Operation::GetObject,
        ("HEAD", true) => Operation::HeadBucket,
        ("HEAD", false) => Operation::HeadObject,
        _ => Operation::Other,
    };
    let key = match operation {
        Operation::ListObjectsV2 | Operation::ListMultipartUploads => {
            value(query, "prefix").unwrap_or_default()
        }
        _ => decoded(key),
    };
    let part = value(query, "partNumber").and_then(|number| number.parse().ok());
    Target {
        operation,
        key,
        part,
    }
}

/// The parts of a URL behind the host; of a target without a host, all of it.
fn path_and_query(uri: &str) -> (&str, &str) {
    let behind_host = match uri.split_once("://") {
        Some((_, rest)) => rest
            .find('/')
            .and_then(|at| rest.get(at..))
            .unwrap_or_default(),
        None => uri,
    };
    behind_host.split_once('?').unwrap_or((behind_host, ""))
}

/// A value of the query.
fn value(query: &str, wanted: &str) -> Option<String> {
    query.split('&').find_map(|field| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        (name == wanted).then(|| decoded(value))
    })
}

/// Text without percent signs. A sequence that is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if *byte == b'%' => {
                bytes.push(code);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str) -> (Operation, String, Option<u32>) {
        let target = target(method, uri, true);
        (target.operation, target.key, target.part)
    }

    #[test]
    fn requests_are_known_by_their_method_and_their_url() {
        use Operation::*;
        for (method, behind_host, operation, key) in [
            ("GET", "/b/v/data/1?x-id=GetObject", GetObject, "v/data/1"),
            ("HEAD", "/b/v/lease", HeadObject, "v/lease"),
            ("HEAD", "/b/", HeadBucket, ""),
            ("HEAD", "/b", HeadBucket, ""),
            ("PUT", "/b", CreateBucket, ""),
            ("PUT", "/b/v/l?x-id=PutObject", PutObject, "v/l"),
            ("POST", "/b/v/l?uploads", CreateMultipartUpload, "v/l"),
            ("POST", "/b/v/l?uploadId=u", CompleteMultipartUpload, "v/l"),
            (
                "DELETE",
                "/b/v/l?x-id=AbortMultipartUpload&uploadId=u",
                AbortMultipartUpload,
                "v/l",
            ),
            ("DELETE", "/b/v/l?x-id=DeleteObject", DeleteObject, "v/l"),
            ("POST", "/b/?delete", DeleteObjects, ""),
            (
                "GET",
                "/b?list-type=2&prefix=v%2Fdata%2F",
                ListObjectsV2,
                "v/data/",
            ),
            (
                "GET",
                "/b/?uploads&prefix=v/data/",
                ListMultipartUploads,
                "v/data/",
            ),
            ("GET", "/b/v/l?x-id=ListParts&uploadId=u", ListParts, "v/l"),
            ("PATCH", "/b/v/l", Other, "v/l"),
        ] {
            let uri = format!("http://127.0.0.1:9000{behind_host}");
            assert_eq!(of(method, &uri), (operation, key.to_owned(), None), "{uri}");
            assert_eq!(of(method, behind_host), (operation, key.to_owned(), None));
        }
        let part = "https://host/b/v/l?partNumber=7&uploadId=u&x-id=UploadPart";
        assert_eq!(of("PUT", part), (UploadPart, "v/l".to_owned(), Some(7)));
        let by_host = target("GET", "https://b.s3.amazonaws.com/v/data/1", false);
        assert_eq!((by_host.operation, &*by_host.key), (GetObject, "v/data/1"));
    }

    #[test]
    fn what_is_no_percent_sequence_stays() {
        for (text, plain) in [
            ("a%2Fb", "a/b"),
            ("%", "%"),
            ("%zz%4", "%zz%4"),
            ("%E2%82%AC", "€"),
        ] {
            assert_eq!(decoded(text), plain);
        }
    }
}
