//! Single objects: get, put, head.

use std::ops::Range;

use aws_sdk_s3::operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput};
use bytes::Bytes;

use super::{
    Body, ObjectHead, Store, StoreError, StoreErrorKind,
    attempt::{Direction, Progress, unless_stalled},
    body::Answer,
    head::{Attributes, TOKEN},
    recorded::ATTEMPT,
    request::on_object,
    retry::{Again, Failure, Tries},
    upload::Pieces,
};

/// The condition of a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Replace the object that is there, if any.
    None,
    /// Only if there is nothing (`If-None-Match: *`).
    Absent,
    /// Only if the ETag is this one (`If-Match`).
    Matches(String),
}

impl Condition {
    /// Whether the condition holds where the object has this ETag, or is not there.
    fn holds(&self, there: Option<&str>) -> bool {
        match self {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Matches(etag) => there == Some(etag),
        }
    }

    /// The `If-None-Match` and `If-Match` headers.
    pub(super) fn headers(&self) -> (Option<String>, Option<String>) {
        match self {
            Condition::None => (None, None),
            Condition::Absent => (Some("*".to_owned()), None),
            Condition::Matches(etag) => (None, Some(etag.clone())),
        }
    }
}

/// The outcome of a PUT.
#[derive(Clone, Debug)]
pub struct PutOutcome {
    /// The new ETag.
    pub etag: Option<String>,
}

impl Store {
    /// Starts a GET of the whole object or of a range (clamped to its end by the store).
    ///
    /// # Errors
    /// `NotFound`; `Range` for a range that is empty or begins past the end; `Other` if the store
    /// ignores the range.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Body, StoreError> {
        self.retrying(|_| self.get_once(key, range.clone(), None))
            .await
    }

    /// One attempt of a GET, of the version `etag` if one is given.
    async fn get_once(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Body, Failure> {
        let context = self.context("GetObject", key);
        if range.as_ref().is_some_and(|range| range.start >= range.end) {
            return Err(Failure::local(StoreError::new(
                StoreErrorKind::Range,
                "GetObject",
                key,
                "the range is empty",
            )));
        }
        let header = range
            .as_ref()
            .map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = on_object!(self, get_object, key);
        let request = Box::pin(
            request
                .set_range(header)
                .set_if_match(etag.map(str::to_owned))
                .send(),
        );
        if let (Some(limit), Some(range)) = (&self.inner.download_limit, &range) {
            limit.pass(range.end - range.start).await;
        }
        let flight = self.admit(Direction::Download).await;
        self.inner.metrics.get_requests.increment();
        let sent = self.sent(context.operation);
        let stall = self.inner.stall_timeout;
        let answer = match unless_stalled(stall, &Progress::new(), request).await {
            Some(answer) => answer.map_err(|error| {
                let failure = context.classify(error);
                match etag {
                    Some(_) => failure,
                    None => failure.unconditional(),
                }
            }),
            None => Err(context.stalled(stall)),
        };
        let answered_after = sent.ended(&answer);
        let mut output = answer?;
        let (carried, size) =
            extent(&output, range.as_ref()).map_err(|why| context.another_answer(why))?;
        let body = std::mem::take(&mut output.body).into_inner();
        let head = ObjectHead::new(size, output.e_tag, output.last_modified, output.metadata);
        let answer = Answer {
            body,
            // A whole object takes its turns as it comes: nobody knew its length before.
            limit: self
                .inner
                .download_limit
                .clone()
                .filter(|_| range.is_none()),
            answered_after,
            flight,
        };
        Ok(Body::new(self, key, head, carried, answer))
    }

    /// GET into memory, resuming after broken connections; fails if more than `max_bytes` would
    /// come.
    ///
    /// All bytes are of one version of the object: if it is replaced meanwhile, reading begins
    /// again.
    ///
    /// # Errors
    /// As [`Store::get`], and `Other` for an object beyond `max_bytes`.
    pub async fn get_bytes(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        max_bytes: u64,
    ) -> Result<(ObjectHead, Bytes), StoreError> {
        let mut tries = Tries::default();
        let mut fetch = Fetch::default();
        let mut number = 0_u32;
        loop {
            let before = fetch.received.len();
            number = number.saturating_add(1);
            let rest = self.fetch_rest(key, range.clone(), max_bytes, &mut fetch);
            match ATTEMPT.scope(number, rest).await {
                Ok(head) => return Ok((head, Bytes::from(fetch.received))),
                Err(mut failure) => {
                    if failure.error.kind == StoreErrorKind::Precondition && fetch.etag.is_some() {
                        fetch = Fetch::default();
                        failure.again = Again::AFewTimes;
                    }
                    let brought = fetch.received.len().saturating_sub(before);
                    tries.brought(brought as u64);
                    self.pause_or_give_up(failure, &mut tries).await?;
                }
            }
        }
    }

    async fn fetch_rest(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        max_bytes: u64,
        fetch: &mut Fetch,
    ) -> Result<ObjectHead, Failure> {
        let done = fetch.received.len() as u64;
        let rest = match (&range, &fetch.whole) {
            (_, Some(whole)) => Some(whole.start + done..whole.end),
            (range, None) => range.clone(),
        };
        let mut body = self.get_once(key, rest, fetch.etag.as_deref()).await?;
        if fetch.whole.is_none() {
            let len = body.range.end - body.range.start;
            let capacity = usize::try_from(len)
                .ok()
                .filter(|_| len <= max_bytes)
                .ok_or_else(|| {
                    self.context("GetObject", key).nonsense(format!(
                        "{len} bytes, where at most {max_bytes} were expected"
                    ))
                })?;
            fetch.received.reserve_exact(capacity);
            fetch.whole = Some(body.range.clone());
            fetch.etag.clone_from(&body.head.etag);
        }
        while let Some(chunk) = body.chunk().await.map_err(Failure::local)? {
            fetch.received.extend_from_slice(&chunk);
        }
        Ok(body.head)
    }

    /// PUT of one object; `pieces` are sent one after the other without being joined.
    ///
    /// A conditional PUT whose answer was lost, and whose repetition is refused, looks whether the
    /// object that is there is its own. Then it has succeeded.
    ///
    /// # Errors
    /// `Precondition` if the condition does not hold.
    pub async fn put(
        &self,
        key: &str,
        pieces: Vec<Bytes>,
        condition: Condition,
        attributes: &[(String, String)],
    ) -> Result<PutOutcome, StoreError> {
        let context = self.context("PutObject", key);
        let pieces = Pieces::new(pieces);
        let mut metadata: Attributes = attributes.iter().cloned().collect();
        if condition != Condition::None {
            let token = random_hex()
                .map_err(|why| StoreError::new(StoreErrorKind::Other, "PutObject", key, why))?;
            metadata.insert(TOKEN.to_owned(), token);
        }
        let metadata = &metadata;
        let pieces = &pieces;
        let condition = &condition;
        self.retrying(|_| async move {
            let progress = Progress::new();
            let (if_none_match, if_match) = condition.headers();
            let request = on_object!(self, put_object, key);
            let request = request
                .set_if_none_match(if_none_match)
                .set_if_match(if_match)
                .set_metadata((!metadata.is_empty()).then(|| metadata.clone()))
                .content_length(pieces.content_length())
                .checksum_crc32(&pieces.checksum)
                .body(self.body_of(pieces, &progress));
            let counter = &self.inner.metrics.put_requests;
            let sent = self.upload(context, counter, &progress, request.send());
            match sent.await {
                Ok(output) => Ok(PutOutcome { etag: output.e_tag }),
                Err(failure) if !failure.error.kind.is_an_answer() => Err(failure),
                Err(failure) if *condition == Condition::None => Err(failure.into_claim()),
                // A condition that does not hold is a claim too, and the object may be our own: its
                // answer was lost.
                Err(failure) => match self.head_once(key).await {
                    Ok(there) if token_of(&there.metadata) == token_of(&Some(metadata.clone())) => {
                        Ok(PutOutcome { etag: there.e_tag })
                    }
                    Ok(there) if condition.holds(there.e_tag.as_deref()) => {
                        Err(failure.into_claim())
                    }
                    Ok(_) => Err(failure),
                    Err(unknown) if unknown.error.kind == StoreErrorKind::NotFound => {
                        Err(match condition.holds(None) {
                            true => failure.into_claim(),
                            false => failure,
                        })
                    }
                    Err(unknown) => Err(unknown),
                },
            }
        })
        .await
    }

    /// HEAD.
    ///
    /// # Errors
    /// `NotFound`; an answer to HEAD has no body, so a missing bucket looks the same and wrong
    /// credentials are `Denied`.
    pub async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        let output = self.retrying(|_| self.head_once(key)).await?;
        let size = output
            .content_length
            .and_then(|len| u64::try_from(len).ok())
            .unwrap_or(0);
        Ok(ObjectHead::new(
            size,
            output.e_tag,
            output.last_modified,
            output.metadata,
        ))
    }

    /// One attempt of a HEAD.
    pub(super) async fn head_once(&self, key: &str) -> Result<HeadObjectOutput, Failure> {
        let context = self.context("HeadObject", key);
        let request = on_object!(self, head_object, key);
        self.plain(context, &self.inner.metrics.head_requests, request.send())
            .await
            .map_err(Failure::unconditional)
    }
}

/// A GET into memory, over as many connections as it takes.
#[derive(Default)]
struct Fetch {
    /// The whole range, once the first answer told it.
    whole: Option<Range<u64>>,
    etag: Option<String>,
    received: Vec<u8>,
}

fn token_of(attributes: &Option<Attributes>) -> Option<&str> {
    attributes.as_ref()?.get(TOKEN).map(String::as_str)
}

/// 128 random bits.
pub(super) fn random_hex() -> Result<String, String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}

/// The absolute range that an answer carries, and the length of the whole object.
fn extent(
    output: &GetObjectOutput,
    asked: Option<&Range<u64>>,
) -> Result<(Range<u64>, u64), String> {
    let len = output
        .content_length
        .and_then(|len| u64::try_from(len).ok())
        .ok_or("the answer has no length")?;
    match (asked, output.content_range.as_deref()) {
        (None, _) => Ok((0..len, len)),
        (Some(asked), Some(header)) => {
            let (carried, size) = content_range(header)
                .ok_or_else(|| format!("the answer's range {header:?} makes no sense"))?;
            // An answer with fewer bytes than asked for is right only where the object ends.
            if carried.start != asked.start
                || carried.end != asked.end.min(size)
                || carried.end - carried.start != len
            {
                return Err(format!(
                    "asked for bytes {asked:?} and was given {header:?}"
                ));
            }
            Ok((carried, size))
        }
        // The range covered the whole object anyway.
        (Some(asked), None) if asked.start == 0 && len <= asked.end => Ok((0..len, len)),
        (Some(asked), None) => Err(format!("the store ignored the range {asked:?}")),
    }
}

/// Parses `bytes 0-99/1000`.
fn content_range(header: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::primitives::SdkBody;

    fn answer(len: i64, range: Option<&str>) -> GetObjectOutput {
        GetObjectOutput::builder()
            .content_length(len)
            .set_content_range(range.map(str::to_owned))
            .body(SdkBody::empty().into())
            .build()
    }

    #[test]
    fn an_answer_that_is_not_the_range_asked_for_is_refused() {
        assert_eq!(extent(&answer(1000, None), None), Ok((0..1000, 1000)));
        assert_eq!(
            extent(&answer(10, Some("bytes 5-14/1000")), Some(&(5..15))),
            Ok((5..15, 1000))
        );
        assert_eq!(
            extent(&answer(5, Some("bytes 5-9/10")), Some(&(5..15))),
            Ok((5..10, 10)),
            "clamped"
        );
        assert_eq!(extent(&answer(10, None), Some(&(0..15))), Ok((0..10, 10)));
        for (len, header) in [
            (1000, None),
            (10, Some("bytes 6-15/1000")),
            (11, Some("bytes 5-15/1000")),
            (9, Some("bytes 5-14/1000")),
            (1, Some("bytes 5-5/1000")),
            (9, Some("bytes 5-13/1000")),
            (10, Some("bytes 5-14/*")),
            (10, Some("bytes 5-14/9")),
            (10, Some("lines 5-14/1000")),
        ] {
            assert!(
                extent(&answer(len, header), Some(&(5..15))).is_err(),
                "{len} {header:?}"
            );
        }
    }
}
