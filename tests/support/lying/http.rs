//! HTTP/1.1, as much of it as S3 clients and servers speak.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};

/// The longest head that is read.
const HEAD_LEN_MAX: u64 = 64 << 10;

/// The longest body that is read. Parts and ranges are at most 8 MiB and a little.
pub(super) const BODY_LEN_MAX: u64 = 32 << 20;

/// The first line and the headers, in their order.
#[derive(Clone, Debug)]
pub struct Head {
    pub first: String,
    pub headers: Vec<(String, String)>,
}

/// The value of a header.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.as_str())
}

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Reads one; `None` where the connection ends before it.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
        let mut limited = from.take(HEAD_LEN_MAX);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if limited.read_until(b'\n', &mut line).await? == 0 {
                return match lines.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let header = |line: String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let headers = lines.filter_map(header).collect();
        Ok(Some(Head { first, headers }))
    }

    /// Reads the body that belongs to this head.
    pub(super) async fn read_body(
        &self,
        from: &mut (impl AsyncBufRead + Unpin),
    ) -> io::Result<Vec<u8>> {
        if self
            .get("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            return chunked(from).await;
        }
        let len = self.get("content-length").map_or(Ok(0), str::parse::<u64>);
        let len = len.map_err(io::Error::other)?;
        exactly(from, len).await
    }
}

async fn exactly(from: &mut (impl AsyncRead + Unpin), len: u64) -> io::Result<Vec<u8>> {
    if len > BODY_LEN_MAX {
        return Err(io::Error::other(format!("a body of {len} bytes")));
    }
    let mut body = vec![0; len as usize];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn chunked(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let len = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if body.len() as u64 + len > BODY_LEN_MAX {
            return Err(io::Error::other("a body without end"));
        }
        if len == 0 {
            while from.read_line(&mut line).await? > 2 {}
            return Ok(body);
        }
        body.extend(exactly(from, len).await?);
        exactly(from, 2).await?;
    }
}
