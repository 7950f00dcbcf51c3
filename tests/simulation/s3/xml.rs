//! The little XML that S3 speaks.

/// The text of each `<name>...</name>`, in order. Elements of one name are never nested here.
pub fn each<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&open) {
        let (inside, after) = after.split_once(&close).expect("an element ends");
        found.push(inside);
        rest = after;
    }
    found
}

pub fn first<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    each(text, name).first().copied()
}

pub fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// A document with one element at its top.
pub fn document(name: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inside}</{name}>"
    )
}

pub fn time(seconds: u64) -> String {
    let time = aws_smithy_types::DateTime::from_secs(seconds as i64);
    time.fmt(aws_smithy_types::date_time::Format::DateTime)
        .unwrap()
}

pub fn http_time(seconds: u64) -> String {
    let time = aws_smithy_types::DateTime::from_secs(seconds as i64);
    time.fmt(aws_smithy_types::date_time::Format::HttpDate)
        .unwrap()
}
