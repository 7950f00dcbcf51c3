//! Reading: tables by chunks through the cache, everything else whole.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, GetRange, GetResult, ObjectMeta, path::Path,
};

use super::{
    Inner,
    cache::{CHUNK_BYTES, OpenedTable},
    errors::from_store,
    is_immutable, key_of,
    locations::log_number,
    log_seen, manifest, payload, unusable,
};
use crate::{
    seal::{
        SealError,
        codec::{HEADER_LEN, Layout, META_FRAME_LOG2, ObjectKind, Opener, TAG_LEN},
    },
    store::{MISSING_TRIES, ObjectHead, StoreErrorKind},
};

/// Frames of a chunk.
const CHUNK_FRAMES: u64 = CHUNK_BYTES >> META_FRAME_LOG2;
/// Header and first chunk as stored: the first request for a table.
const FIRST_LEN: u64 = HEADER_LEN + CHUNK_BYTES + CHUNK_FRAMES * TAG_LEN;
/// Chunks that a request fetches when the one before them was read already.
const SEQUENTIAL_CHUNKS: u64 = 2;
/// The largest object that is read whole: a manifest names some 100 bytes a table, and a provider
/// must not fill our memory.
const WHOLE_LEN_MAX: u64 = 8 * 1024 * 1024;

/// A plaintext range cannot be had because the object is another one than it was.
enum ReadError {
    /// Replaced since its header was read (same path, other ETag).
    Replaced,
    Final(object_store::Error),
}

impl From<object_store::Error> for ReadError {
    fn from(error: object_store::Error) -> ReadError {
        ReadError::Final(error)
    }
}

/// Answers a GET or, with `options.head`, a HEAD, both only from bytes that have authenticated.
pub(super) async fn get(
    inner: &Arc<Inner>,
    location: &Path,
    options: &GetOptions,
) -> object_store::Result<GetResult> {
    if !is_immutable(location) {
        return get_whole(inner, location, options).await;
    }
    match get_table(inner, location, options).await {
        Err(ReadError::Replaced) => inner.cache.forget(&key_of(location)),
        Err(ReadError::Final(error)) => return Err(error),
        Ok(result) => return Ok(result),
    }
    match get_table(inner, location, options).await {
        Ok(result) => Ok(result),
        Err(ReadError::Final(error)) => Err(error),
        Err(ReadError::Replaced) => Err(inner.refuse(SealError::Header {
            path: key_of(location),
            why: "is another object at each request",
        })),
    }
}

/// Reads an object that is not a table.
async fn get_whole(
    inner: &Inner,
    location: &Path,
    options: &GetOptions,
) -> object_store::Result<GetResult> {
    let key = key_of(location);
    let (head, stored) = inner
        .store
        .get_bytes(&key, None, WHOLE_LEN_MAX)
        .await
        .map_err(|error| from_store(error, location.as_ref()))?;
    let opener = Opener::from_header(&inner.keys, &key, &stored, stored.len() as u64)
        .map_err(|error| inner.refuse(error))?;
    let mut plaintext = Vec::from(stored).split_off(HEADER_LEN as usize);
    opener
        .open_run(0, &mut plaintext)
        .map_err(|error| inner.refuse(error))?;
    manifest::read(inner, location, &opener, &mut plaintext)?;
    let meta = meta_of(location, plaintext.len() as u64, &head);
    options.check_preconditions(&meta)?;
    let range = requested(options, &meta)?;
    let pieces = match options.head {
        true => Vec::new(),
        false => vec![Bytes::from(plaintext).slice(range.start as usize..range.end as usize)],
    };
    Ok(result(pieces, meta, range, attributes_of(&head)))
}

/// Reads the header of an object, to know that it is there, and its commitment.
pub(super) async fn header(inner: &Inner, location: &Path) -> object_store::Result<()> {
    match table(inner, location).await {
        Ok(_) => Ok(()),
        Err(ReadError::Final(error)) => Err(error),
        Err(ReadError::Replaced) => Err(unusable(format!("{location} changes as it is read"))),
    }
}

async fn get_table(
    inner: &Arc<Inner>,
    location: &Path,
    options: &GetOptions,
) -> Result<GetResult, ReadError> {
    let table = table(inner, location).await?;
    options.check_preconditions(&table.meta)?;
    let range = requested(options, &table.meta)?;
    let mut pieces = Vec::new();
    if !options.head && !range.is_empty() {
        let mut at = range.start;
        while at < range.end {
            let index = at / CHUNK_BYTES;
            let chunk = chunk(inner, &table, index).await?;
            let chunk_start = index * CHUNK_BYTES;
            let end = range.end.min(chunk_start + chunk.len() as u64);
            pieces.push(chunk.slice((at - chunk_start) as usize..(end - chunk_start) as usize));
            at = end;
        }
        // SlateDB keeps the bytes that it gets, so a block is copied: it must not hold a whole
        // chunk in memory. Several pieces are copied anyway when SlateDB joins them.
        if let [piece] = pieces.as_mut_slice() {
            *piece = Bytes::copy_from_slice(piece);
        }
    }
    Ok(result(
        pieces,
        table.meta.clone(),
        range,
        table.attributes.clone(),
    ))
}

/// The table, from the cache or by its first requests.
async fn table(inner: &Inner, location: &Path) -> Result<Arc<OpenedTable>, ReadError> {
    let key = key_of(location);
    if let Some(table) = inner.cache.table(&key) {
        return Ok(table);
    }
    let _turn = inner.cache.turn(&key, None).await;
    if let Some(table) = inner.cache.table(&key) {
        return Ok(table);
    }
    // SlateDB finds the end of its log by trying numbers; of tables it asks for those that it
    // knows.
    let is_named = log_number(location).is_none();
    let (head, mut stored) = match fetch(inner, location, &key, 0..FIRST_LEN, is_named).await {
        // S3's answer to any range of an empty object.
        Err(FetchError::Range) => {
            return Err(refuse_header(inner, &key, "is empty: truncated"));
        }
        Err(FetchError::Other(error)) => {
            // Boxed, since the compiler limits how deep futures may nest.
            let error = Box::pin(log_seen::not_read(inner, location, error)).await;
            return Err(ReadError::Final(error));
        }
        Ok(found) => found,
    };
    let opener = Opener::from_header(&inner.keys, &key, &stored, head.size)
        .map_err(|error| inner.refuse(error))?;
    if opener.params().kind != ObjectKind::Metadata || opener.params().frame_log2 != META_FRAME_LOG2
    {
        return Err(refuse_header(inner, &key, "is not sealed as metadata"));
    }
    let layout = opener.layout();
    let table = Arc::new(OpenedTable {
        meta: meta_of(location, layout.plaintext_len, &head),
        attributes: attributes_of(&head),
        opener,
    });
    if stored.len() as u64 != FIRST_LEN.min(head.size) {
        return Err(refuse_header(inner, &key, "is cut short"));
    }
    stored.drain(..HEADER_LEN as usize);
    table
        .opener
        .open_run(0, &mut stored)
        .map_err(|error| inner.refuse(error))?;
    let first = Bytes::from(stored);
    inner
        .opened_bytes
        .fetch_add(head.size.min(FIRST_LEN), Ordering::Relaxed);
    // Its own final frame must open before the length is believed.
    let rest = match table.chunk_count() {
        1 => Vec::new(),
        count => fetch_chunks(inner, &table, tail_start(&table, count)..count).await?,
    };
    log_seen::read(inner, location, &table.opener)?;
    inner.cache.keep_table(&key, &table);
    inner.cache.keep_chunk(table.chunk_key(0), first);
    for (index, chunk) in rest {
        inner.cache.keep_chunk(table.chunk_key(index), chunk);
    }
    Ok(table)
}

/// The first chunk of the request that verifies the length. SlateDB goes on with the index and the
/// filters, which are at the end: a last chunk that is short takes the one before it along.
fn tail_start(table: &OpenedTable, count: u64) -> u64 {
    let last = count - 1;
    let last_len = table.meta.size - last * CHUNK_BYTES;
    if last_len < CHUNK_BYTES / 2 && last > 1 {
        last - 1
    } else {
        last
    }
}

/// One chunk, from the cache or from the store. A scan drops its read-ahead requests as soon as it
/// has the rows it wanted, and the next scan asks for the same chunks again. So a fetch that has
/// begun goes on to its end, and the next scan finds the chunk in the cache.
async fn chunk(
    inner: &Arc<Inner>,
    table: &Arc<OpenedTable>,
    index: u64,
) -> Result<Bytes, ReadError> {
    let key = table.opener.path();
    if let Some(chunk) = inner.cache.chunk(&table.chunk_key(index)) {
        return Ok(chunk);
    }
    let turn = inner.cache.turn(key, Some(index)).await;
    if let Some(chunk) = inner.cache.chunk(&table.chunk_key(index)) {
        return Ok(chunk);
    }
    let Ok(place) = Arc::clone(&inner.finishing).try_acquire_owned() else {
        return fetch_chunk(inner, table, index).await;
    };
    let (inner, table) = (Arc::clone(inner), Arc::clone(table));
    let fetched = tokio::spawn(async move {
        let _held = (turn, place);
        fetch_chunk(&inner, &table, index).await
    });
    match fetched.await {
        Ok(chunk) => chunk,
        Err(ended) => Err(ReadError::Final(unusable(format!(
            "reading a table: {ended}"
        )))),
    }
}

/// Fetches a chunk that is not in the cache, and the next one if the one before is.
async fn fetch_chunk(inner: &Inner, table: &OpenedTable, index: u64) -> Result<Bytes, ReadError> {
    let sequential = index > 0 && inner.cache.has_chunk(&table.chunk_key(index - 1));
    let fits = SEQUENTIAL_CHUNKS * CHUNK_BYTES <= inner.cache.bytes_max() / 4;
    let ahead = if sequential && fits {
        SEQUENTIAL_CHUNKS
    } else {
        1
    };
    let end = (index + 1..index + ahead)
        .find(|next| *next >= table.chunk_count() || inner.cache.has_chunk(&table.chunk_key(*next)))
        .unwrap_or(index + ahead);
    let mut wanted = None;
    for (at, chunk) in fetch_chunks(inner, table, index..end).await? {
        if at == index {
            wanted = Some(chunk.clone());
        }
        inner.cache.keep_chunk(table.chunk_key(at), chunk);
    }
    wanted.ok_or_else(|| ReadError::Final(unusable("a chunk past the end of a table")))
}

/// Fetches adjoining chunks in one request and opens them.
async fn fetch_chunks(
    inner: &Inner,
    table: &OpenedTable,
    chunks: Range<u64>,
) -> Result<Vec<(u64, Bytes)>, ReadError> {
    let key = table.opener.path();
    let layout: Layout = table.opener.layout();
    let frames = chunks.start * CHUNK_FRAMES..(chunks.end * CHUNK_FRAMES).min(layout.frame_count());
    let range = layout.stored_range(frames.clone());
    let fetched = fetch(inner, &table.meta.location, key, range.clone(), true).await;
    let (head, mut stored) = match fetched {
        Err(FetchError::Range) => (None, Vec::new()),
        Err(FetchError::Other(error)) => return Err(ReadError::Final(error)),
        Ok((head, stored)) => (Some(head), stored),
    };
    let Some(head) = head.filter(|head| {
        head.size == layout.stored_len() && stored.len() as u64 == range.end - range.start
    }) else {
        return Err(changed(inner, table, None));
    };
    if let Err(error) = table.opener.open_run(frames.start, &mut stored) {
        return Err(changed(inner, table, Some((error, &head))));
    }
    let opened = Bytes::from(stored);
    inner
        .opened_bytes
        .fetch_add(opened.len() as u64, Ordering::Relaxed);
    let piece = |index: u64| {
        let start = ((index - chunks.start) * CHUNK_BYTES) as usize;
        (
            index,
            opened.slice(start..opened.len().min(start + CHUNK_BYTES as usize)),
        )
    };
    Ok(match chunks.end - chunks.start {
        1 => vec![(chunks.start, opened)],
        // Each chunk has memory of its own: an evicted one must not stay because of its neighbour.
        _ => chunks
            .clone()
            .map(piece)
            .map(|(index, chunk)| (index, Bytes::copy_from_slice(&chunk)))
            .collect(),
    })
}

/// The error for a table that has changed: it was either replaced as a whole, or damaged.
fn changed(
    inner: &Inner,
    table: &OpenedTable,
    failed: Option<(SealError, &ObjectHead)>,
) -> ReadError {
    match failed {
        Some((error, head)) if head.etag == table.meta.e_tag => {
            ReadError::Final(inner.refuse(error))
        }
        _ => ReadError::Replaced,
    }
}

fn refuse_header(inner: &Inner, key: &str, why: &'static str) -> ReadError {
    ReadError::Final(inner.refuse(SealError::Header {
        path: key.to_owned(),
        why,
    }))
}

enum FetchError {
    /// The range begins past the end.
    Range,
    Other(object_store::Error),
}

/// Stored bytes, owned so that they can be opened in place. One 404 of an object that `is_named`,
/// and so must be there, is not believed.
async fn fetch(
    inner: &Inner,
    location: &Path,
    key: &str,
    range: Range<u64>,
    is_named: bool,
) -> Result<(ObjectHead, Vec<u8>), FetchError> {
    let max = range.end - range.start;
    let mut backoff = inner.store.backoff();
    let mut missing = 0;
    loop {
        match inner.store.get_bytes(key, Some(range.clone()), max).await {
            Ok((head, stored)) => return Ok((head, Vec::from(stored))),
            Err(error) if error.kind == StoreErrorKind::Range => return Err(FetchError::Range),
            Err(error)
                if is_named
                    && error.kind == StoreErrorKind::NotFound
                    && missing + 1 < MISSING_TRIES =>
            {
                missing += 1;
                backoff.pause(0).await;
            }
            Err(error) => return Err(FetchError::Other(from_store(error, location.as_ref()))),
        }
    }
}

/// The plaintext range that was asked for, inside the object.
fn requested(options: &GetOptions, meta: &ObjectMeta) -> object_store::Result<Range<u64>> {
    match &options.range {
        None => Ok(0..meta.size),
        // S3 answers it with an error, but there is nothing wrong with the last 0 bytes of an empty
        // object.
        Some(GetRange::Suffix(_)) if meta.size == 0 => Ok(0..0),
        Some(range) => range
            .as_range(meta.size)
            .map_err(|error| unusable(format!("{}: {error}", meta.location))),
    }
}

fn result(
    pieces: Vec<Bytes>,
    meta: ObjectMeta,
    range: Range<u64>,
    attributes: Attributes,
) -> GetResult {
    GetResult {
        payload: payload(pieces),
        meta,
        range,
        attributes,
        extensions: object_store::Extensions::new(),
    }
}

fn meta_of(location: &Path, size: u64, head: &ObjectHead) -> ObjectMeta {
    object_meta(
        location.clone(),
        size,
        head.modified_unix_seconds,
        head.etag.clone(),
    )
}

pub(super) fn object_meta(
    location: Path,
    size: u64,
    modified_unix_seconds: i64,
    e_tag: Option<String>,
) -> ObjectMeta {
    let since_1970 = Duration::from_secs(u64::try_from(modified_unix_seconds).unwrap_or(0));
    // A time that no calendar has would not be printable.
    let last_modified = UNIX_EPOCH
        .checked_add(since_1970.min(Duration::from_secs(253_402_300_799)))
        .unwrap_or(UNIX_EPOCH);
    ObjectMeta {
        location,
        last_modified: last_modified.into(),
        size,
        e_tag,
        version: None,
    }
}

fn attributes_of(head: &ObjectHead) -> Attributes {
    let attribute = |(name, value): &(String, String)| {
        (
            Attribute::Metadata(Cow::Owned(name.clone())),
            AttributeValue::from(value.clone()),
        )
    };
    head.attributes.iter().map(attribute).collect()
}
