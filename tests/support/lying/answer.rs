//! Answers, and how they are falsified.

use std::sync::Arc;

use super::{
    http::{Head, header},
    lie::{Form, KeyFilter},
    request::Request,
};

/// The message of a refusal that is a lie.
pub const REFUSED_ON_PURPOSE: &str = "refused on purpose";

/// Changes an answer.
pub type Change = Arc<dyn Fn(&mut Answer) + Send + Sync>;

/// An answer, whole.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The value of `Content-Length`, if that is not the truth. The connection is closed after the
    /// body then.
    pub claimed_len: Option<u64>,
}

impl Answer {
    pub(super) fn from_head(head: Head, body: Vec<u8>) -> Option<Answer> {
        let status = head.first.split(' ').nth(1)?.parse().ok()?;
        Some(Answer {
            status,
            headers: head.headers,
            body,
            claimed_len: None,
        })
    }

    pub fn refusal(status: u16, form: Form) -> Answer {
        let body = match form {
            Form::Code(code) => format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{REFUSED_ON_PURPOSE}</Message></Error>"
            ),
            Form::Foreign => "<html><body>refused on the way</body></html>".to_owned(),
            Form::Empty => String::new(),
        };
        Answer {
            status,
            headers: vec![("Content-Type".to_owned(), "application/xml".to_owned())],
            body: body.into_bytes(),
            claimed_len: None,
        }
    }

    /// The answer to a write that succeeded.
    pub fn acknowledgement() -> Answer {
        let mut answer = Answer::refusal(200, Form::Empty);
        answer.set("ETag", "\"0123456789abcdef0123456789abcdef\"");
        answer
    }

    pub fn xml(body: String) -> Answer {
        Answer {
            status: 200,
            body: body.into_bytes(),
            ..Answer::refusal(200, Form::Empty)
        }
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// The object holds `object`, whatever it held: the range that was asked for is cut out of it.
    pub(super) fn instead(&mut self, request: &Request, object: &[u8]) {
        let len = object.len() as u64;
        for checksum in [
            "x-amz-checksum-crc32",
            "x-amz-checksum-crc64nvme",
            "content-md5",
        ] {
            self.remove(checksum);
        }
        if self.get("etag").is_none() {
            self.set("ETag", "\"instead\"");
        }
        if self.get("last-modified").is_none() {
            self.set("Last-Modified", "Sat, 21 Nov 2026 15:57:05 GMT");
        }
        match (request.head.get("range").is_some(), request.range(len)) {
            (false, _) => {
                self.status = 200;
                self.remove("content-range");
                self.body = object.to_vec();
            }
            (true, Some(range)) => {
                self.status = 206;
                let (start, end) = (range.start, range.end);
                self.set("Content-Range", &format!("bytes {start}-{}/{len}", end - 1));
                self.body = object[start as usize..end as usize].to_vec();
            }
            (true, None) => *self = Answer::refusal(416, Form::Code("InvalidRange")),
        }
        if request.method == "HEAD" {
            self.claimed_len = Some(len);
            self.body.clear();
        }
    }

    /// Leaves entries out of a listing of objects.
    pub(super) fn unlist(&mut self, hidden: &KeyFilter) {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(start) = rest.find("<Contents>") {
            let Some(len) = rest[start..].find("</Contents>") else {
                break;
            };
            let end = start + len + "</Contents>".len();
            let entry = &rest[start..end];
            let key = entry
                .split_once("<Key>")
                .and_then(|(_, after)| after.split_once("</Key>"))
                .map_or("", |(key, _)| key);
            out.push_str(&rest[..start]);
            if !hidden(key) {
                out.push_str(entry);
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        self.body = out.into_bytes();
    }
}

/// The answers to GET that a store can give which has the object and does not give it.
pub mod broken {
    use super::Answer;

    /// One bit in the middle of the body is another.
    pub fn flip(answer: &mut Answer) {
        let middle = answer.body.len() / 2;
        if answer.is_success() && !answer.body.is_empty() {
            answer.body[middle] ^= 1;
        }
    }

    /// Half the body, then the end of the connection.
    pub fn cut_off(answer: &mut Answer) {
        if answer.is_success() {
            answer.claimed_len = Some(answer.body.len() as u64);
            answer.body.truncate(answer.body.len() / 2);
        }
    }

    /// No body, then the end of the connection.
    pub fn empty(answer: &mut Answer) {
        if answer.is_success() {
            answer.claimed_len = Some(answer.body.len() as u64);
            answer.body.clear();
        }
    }

    /// Half of what was asked for, labelled truly.
    pub fn short(answer: &mut Answer) {
        shorten(answer, |len| len / 2);
    }

    /// One byte of what was asked for, labelled truly.
    pub fn one_byte(answer: &mut Answer) {
        shorten(answer, |_| 1);
    }

    /// More than was asked for.
    pub fn longer(answer: &mut Answer) {
        if answer.is_success() {
            answer.body.extend_from_slice(&[0x55; 1000]);
        }
    }

    /// Success without a body.
    pub fn nothing(answer: &mut Answer) {
        if answer.is_success() {
            answer.body.clear();
            answer.remove("content-range");
        }
    }

    /// The right bytes, labelled as another range of a longer object.
    pub fn mislabelled(answer: &mut Answer) {
        if let Some((first, last, total)) = label(answer) {
            let label = format!("bytes {}-{}/{}", first + 16, last + 16, total + 16);
            answer.set("Content-Range", &label);
        }
    }

    fn shorten(answer: &mut Answer, keep: impl Fn(usize) -> usize) {
        let Some((first, _, total)) = label(answer) else {
            return;
        };
        let kept = keep(answer.body.len()).max(1);
        answer.body.truncate(kept);
        let last = first + kept as u64 - 1;
        answer.set("Content-Range", &format!("bytes {first}-{last}/{total}"));
    }

    fn label(answer: &Answer) -> Option<(u64, u64, u64)> {
        let label = answer
            .get("content-range")?
            .strip_prefix("bytes ")?
            .to_owned();
        let (range, total) = label.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
    }
}
