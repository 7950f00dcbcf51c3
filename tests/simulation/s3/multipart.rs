//! Multipart uploads.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Answer, Object, Request, S3, checksum, is_intact, objects::refusal, xml};

/// Parts of a page of ListParts.
const PAGE_PARTS: usize = 3;

#[derive(Clone, Debug)]
pub struct Upload {
    pub key: String,
    parts: BTreeMap<u32, (Bytes, String)>,
}

impl Upload {
    pub fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }
}

impl S3 {
    pub(super) fn create_upload(&mut self, request: &Request) -> Answer {
        let id = format!("upload-{}", self.number());
        let inside = format!(
            "<Bucket>bucket</Bucket><Key>{}</Key><UploadId>{id}</UploadId>",
            request.key
        );
        let upload = Upload {
            key: request.key.clone(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id, upload);
        Answer::xml(xml::document("InitiateMultipartUploadResult", &inside))
    }

    fn upload_of(&mut self, request: &Request) -> Option<&mut Upload> {
        let id = request.field("uploadId").unwrap();
        let upload = self.uploads.get_mut(id)?;
        (upload.key == request.key).then_some(upload)
    }

    pub(super) fn upload_part(&mut self, request: &Request) -> Answer {
        if !is_intact(request) {
            return Answer::error(400, "BadDigest");
        }
        let number: u32 = request.field("partNumber").unwrap().parse().unwrap();
        self.witness.part(&request.key, number, &request.body);
        let etag = format!("\"{:032x}\"", self.number());
        let Some(upload) = self.upload_of(request) else {
            return Answer::error(404, "NoSuchUpload");
        };
        let part = (request.body.clone(), etag.clone());
        upload.parts.insert(number, part);
        Answer::ok().with("etag", etag)
    }

    pub(super) fn complete(&mut self, request: &Request, now_seconds: u64) -> Answer {
        let there = self.objects.get(&request.key).cloned();
        let etag = format!("\"{:032x}-1\"", self.number());
        let Some(upload) = self.upload_of(request) else {
            return Answer::error(404, "NoSuchUpload");
        };
        if let Some(refusal) = refusal(request, there.as_ref()) {
            return refusal;
        }
        let text = std::str::from_utf8(&request.body).unwrap();
        let mut whole = Vec::new();
        let mut last = 0;
        for part in xml::each(text, "Part") {
            let number: u32 = xml::first(part, "PartNumber").unwrap().parse().unwrap();
            let etag = xml::unescaped(xml::first(part, "ETag").unwrap());
            if number <= last {
                return Answer::error(400, "InvalidPartOrder");
            }
            last = number;
            match upload.parts.get(&number) {
                Some((bytes, there)) if *there == etag => whole.extend_from_slice(bytes),
                _ => return Answer::error(400, "InvalidPart"),
            }
        }
        let object = Object {
            bytes: whole.into(),
            etag: etag.clone(),
            modified_seconds: now_seconds,
            metadata: Vec::new(),
        };
        self.uploads.remove(request.field("uploadId").unwrap());
        self.store(&request.key, object);
        let inside = format!(
            "<Bucket>bucket</Bucket><Key>{}</Key><ETag>{}</ETag>",
            request.key,
            etag.replace('"', "&quot;")
        );
        Answer::xml(xml::document("CompleteMultipartUploadResult", &inside))
    }

    pub(super) fn abort(&mut self, request: &Request) -> Answer {
        if self.upload_of(request).is_none() {
            return Answer::error(404, "NoSuchUpload");
        }
        self.uploads.remove(request.field("uploadId").unwrap());
        let mut answer = Answer::ok();
        answer.status = 204;
        answer
    }

    pub(super) fn list_parts(&mut self, request: &Request) -> Answer {
        let after: u32 = request
            .field("part-number-marker")
            .and_then(|marker| marker.parse().ok())
            .unwrap_or(0);
        let Some(upload) = self.upload_of(request) else {
            return Answer::error(404, "NoSuchUpload");
        };
        let mut inside = String::new();
        let mut parts = upload.parts.range(after + 1..).peekable();
        let mut last = after;
        for (number, (bytes, etag)) in parts.by_ref().take(PAGE_PARTS) {
            last = *number;
            inside += &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><Size>{}</Size>\
                 <ChecksumCRC32>{}</ChecksumCRC32></Part>",
                etag.replace('"', "&quot;"),
                bytes.len(),
                checksum(bytes)
            );
        }
        let truncated = parts.peek().is_some();
        inside += &format!("<IsTruncated>{truncated}</IsTruncated>");
        if truncated {
            inside += &format!("<NextPartNumberMarker>{last}</NextPartNumberMarker>");
        }
        Answer::xml(xml::document("ListPartsResult", &inside))
    }

    pub(super) fn list_uploads(&self, request: &Request) -> Answer {
        let prefix = request.field("prefix").unwrap_or_default();
        let mut inside = String::new();
        for (id, upload) in &self.uploads {
            if upload.key.starts_with(prefix) {
                inside += &format!(
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>",
                    upload.key
                );
            }
        }
        inside += "<IsTruncated>false</IsTruncated>";
        Answer::xml(xml::document("ListMultipartUploadsResult", &inside))
    }
}
