//! Whole objects: PUT, GET, HEAD, DELETE, LIST.

use std::ops::Bound;

use bytes::Bytes;

use super::{Answer, Request, S3, is_intact, xml};

/// Keys of a LIST page. S3 has 1,000; with fewer, pages follow each other here too.
const PAGE_KEYS: usize = 40;

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub etag: String,
    pub modified_seconds: u64,
    /// Of `x-amz-meta-*`.
    pub metadata: Vec<(String, String)>,
}

/// Why a conditional request is refused, if it is.
pub fn refusal(request: &Request, there: Option<&Object>) -> Option<Answer> {
    if request.header("if-none-match").is_some() && there.is_some() {
        return Some(Answer::error(412, "PreconditionFailed"));
    }
    match (request.header("if-match"), there) {
        (None, _) => None,
        (Some(_), None) => Some(Answer::error(404, "NoSuchKey")),
        (Some(etag), Some(there)) if etag == there.etag => None,
        _ => Some(Answer::error(412, "PreconditionFailed")),
    }
}

impl S3 {
    pub(super) fn put(&mut self, request: &Request, now_seconds: u64) -> Answer {
        if !is_intact(request) {
            return Answer::error(400, "BadDigest");
        }
        self.witness.sealed(&request.key, &request.body);
        if let Some(refusal) = refusal(request, self.objects.get(&request.key)) {
            return refusal;
        }
        let metadata = request.headers.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), value.clone()))
        });
        let object = Object {
            bytes: request.body.clone(),
            etag: format!("\"{:032x}\"", self.number()),
            modified_seconds: now_seconds,
            metadata: metadata.collect(),
        };
        let etag = object.etag.clone();
        self.store(&request.key, object);
        Answer::ok().with("etag", etag)
    }

    pub(super) fn store(&mut self, key: &str, object: Object) {
        self.witness.stored(key, &object.bytes);
        self.objects.insert(key.to_owned(), object);
    }

    pub(super) fn get(&self, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.key) else {
            return Answer::error(404, "NoSuchKey");
        };
        if let Some(refusal) = refusal(request, Some(object)) {
            return refusal;
        }
        let size = object.bytes.len() as u64;
        let mut answer = Answer::ok()
            .with("etag", object.etag.clone())
            .with("last-modified", xml::http_time(object.modified_seconds));
        for (name, value) in &object.metadata {
            answer = answer.with(&format!("x-amz-meta-{name}"), value.clone());
        }
        let range = match request.header("range") {
            None => 0..size,
            Some(header) => {
                let range = header.strip_prefix("bytes=").unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let range = match (first.parse::<u64>(), last.parse::<u64>()) {
                    (Ok(first), Ok(last)) => first..(last + 1).min(size),
                    (Ok(first), Err(_)) => first..size,
                    (Err(_), Ok(last)) => size.saturating_sub(last)..size,
                    (Err(_), Err(_)) => panic!("no range: {header}"),
                };
                if range.start >= range.end {
                    return Answer::error(416, "InvalidRange");
                }
                answer.status = 206;
                answer = answer.with(
                    "content-range",
                    format!("bytes {}-{}/{size}", range.start, range.end - 1),
                );
                range
            }
        };
        answer
            .with("content-length", (range.end - range.start).to_string())
            .body(object.bytes.slice(range.start as usize..range.end as usize))
    }

    pub(super) fn delete_objects(&mut self, request: &Request) -> Answer {
        let text = std::str::from_utf8(&request.body).unwrap();
        for object in xml::each(text, "Object") {
            let key = xml::unescaped(xml::first(object, "Key").unwrap());
            self.objects.remove(&key);
        }
        Answer::xml(xml::document("DeleteResult", ""))
    }

    pub(super) fn list(&self, request: &Request) -> Answer {
        let field = |name| request.field(name).unwrap_or_default();
        let prefix = field("prefix");
        let delimiter = field("delimiter");
        let after = match request.field("continuation-token") {
            Some(token) => token,
            None => field("start-after"),
        };
        let keys_max = field("max-keys").parse().unwrap_or(PAGE_KEYS);
        let keys_max = keys_max.min(PAGE_KEYS);
        let mut inside = String::new();
        let (mut count, mut last, mut truncated) = (0, String::new(), false);
        let from = match after.is_empty() {
            true => Bound::Included(prefix.to_owned()),
            false => Bound::Excluded(after.to_owned()),
        };
        for (key, object) in self.objects.range((from, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else {
                if key.as_str() < prefix {
                    continue;
                }
                break;
            };
            // A token that is a common prefix stands for all that is below it.
            if !delimiter.is_empty() && after.ends_with(delimiter) && key.starts_with(after) {
                continue;
            }
            let common = match delimiter.is_empty() {
                true => None,
                false => rest.split_once(delimiter).map(|(directory, _)| directory),
            };
            let name = match common {
                Some(directory) => format!("{prefix}{directory}{delimiter}"),
                None => key.clone(),
            };
            if common.is_some() && name == last {
                continue;
            }
            if count >= keys_max {
                truncated = true;
                break;
            }
            count += 1;
            match common {
                Some(_) => {
                    inside += &format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
                }
                None => {
                    inside += &format!(
                        "<Contents><Key>{key}</Key><LastModified>{}</LastModified>\
                         <ETag>{}</ETag><Size>{}</Size></Contents>",
                        xml::time(object.modified_seconds),
                        object.etag.replace('"', "&quot;"),
                        object.bytes.len()
                    );
                }
            }
            last = name;
        }
        inside += &format!("<KeyCount>{count}</KeyCount><IsTruncated>{truncated}</IsTruncated>");
        if truncated {
            inside += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        Answer::xml(xml::document("ListBucketResult", &inside))
    }
}
