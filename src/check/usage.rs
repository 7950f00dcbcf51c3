//! The objects of a volume and their bytes, by kind.
//!
//! One listing of everything below the prefix is compared with the object records, which are in
//! the same order within each session. So an object is of exactly one kind, and the kinds add up to
//! the listing.

use std::collections::{HashMap, VecDeque};

use super::{
    CheckError, Inventory, Kind, Tally, Uploads, Usage, Writing,
    kinds::{KeyShape, shape_of},
};
use crate::{
    data::object_key,
    meta::{HeldObject, Meta, ObjectId, SessionId, SessionInfo},
    store::{ListEntry, StoreErrorKind},
};

/// Pages of a thousand objects of the listing; more objects than any volume has.
const PAGES_MAX: u32 = 1_000_000;

/// Object records that are read at a time.
const ROWS_AT_ONCE: usize = 1000;

/// Unfinished uploads whose parts are asked for, each with a request or more.
const UPLOADS_MEASURED_MAX: usize = 1000;

/// The records of one session, in the order of their numbers.
struct Records<'a> {
    meta: &'a Meta,
    session: SessionInfo,
    ahead: VecDeque<HeldObject>,
    next: u64,
    is_over: bool,
}

impl Records<'_> {
    fn of(meta: &Meta, session: SessionInfo) -> Records<'_> {
        Records {
            meta,
            session,
            ahead: VecDeque::new(),
            next: 0,
            is_over: false,
        }
    }

    async fn next_before(&mut self, end: Option<u64>) -> Result<Option<HeldObject>, CheckError> {
        if self.ahead.is_empty() && !self.is_over {
            let meta = self.meta;
            let rows = meta
                .held_objects(self.session, self.next, ROWS_AT_ONCE)
                .await?;
            match rows.last() {
                Some(last) => self.next = last.row.object.number.saturating_add(1),
                None => self.is_over = true,
            }
            self.ahead.extend(rows);
        }
        let number = self.ahead.front().map(|held| held.row.object.number);
        match (number, end) {
            (Some(number), Some(end)) if number >= end => Ok(None),
            _ => Ok(self.ahead.pop_front()),
        }
    }
}

impl Inventory {
    /// Counts everything. It takes a request for each thousand objects, one or more for the
    /// uploads, and reads the inodes and the object records.
    ///
    /// # Errors
    /// The store or the metadata fails.
    pub async fn usage(&self) -> Result<Usage, CheckError> {
        self.progress.begin("reading inodes", 0);
        let census = self.meta.census().await?;
        let mut usage = Usage {
            url: self.store.url().to_string(),
            is_aws: self.store.is_aws(),
            files: census.files,
            directories: census.directories,
            others: census.others,
            nameless: census.nameless,
            logical_bytes: census.logical_bytes,
            allocated_bytes: census.allocated_bytes,
            ..Usage::default()
        };
        self.progress.begin("listing objects", 0);
        self.count_objects(&mut usage).await?;
        self.progress.begin("listing uploads", 0);
        usage.uploads = self.uploads(&mut usage.requests).await?;
        usage.inline_bytes = usage.allocated_bytes.saturating_sub(usage.total.live_bytes);
        Ok(usage)
    }

    async fn count_objects(&self, usage: &mut Usage) -> Result<(), CheckError> {
        let mut sessions: HashMap<SessionId, SessionInfo> = self
            .meta
            .sessions()
            .into_iter()
            .map(|session| (session.session, session))
            .collect();
        // The session whose objects are being listed, and its records if it has any.
        let mut current: Option<(SessionId, Option<Records<'_>>)> = None;
        let mut pages = self.store.pages("", None, PAGES_MAX);
        loop {
            usage.requests += 1;
            let Some(page) = pages.next().await? else {
                break;
            };
            for entry in page {
                let KeyShape::Data(object) = shape_of(&entry.key) else {
                    usage.add(kind_of(&entry.key), tally_of(&entry));
                    continue;
                };
                let is_same = current
                    .as_ref()
                    .is_some_and(|(session, _)| *session == object.session);
                if !is_same {
                    if let Some((_, Some(mut records))) = current.take() {
                        self.miss(&mut records, None, usage).await?;
                    }
                    let known = sessions.remove(&object.session);
                    let records = known.map(|known| Records::of(&self.meta, known));
                    current = Some((object.session, records));
                }
                let records = current.as_mut().and_then(|(_, records)| records.as_mut());
                self.count_data(object, records, &entry, usage).await?;
            }
        }
        if let Some((_, Some(mut records))) = current.take() {
            self.miss(&mut records, None, usage).await?;
        }
        for session in sessions.into_values() {
            let mut records = Records::of(&self.meta, session);
            self.miss(&mut records, None, usage).await?;
        }
        Ok(())
    }

    async fn count_data(
        &self,
        object: ObjectId,
        records: Option<&mut Records<'_>>,
        entry: &ListEntry,
        usage: &mut Usage,
    ) -> Result<(), CheckError> {
        let (mut record, mut session) = (None, None);
        if let Some(records) = records {
            session = Some(records.session);
            self.miss(records, Some(object.number), usage).await?;
            let behind = object.number.checked_add(1);
            record = records.next_before(behind).await?;
        }
        match record {
            Some(held) => usage.add_held(&held, entry.size),
            None => {
                let kind = match self.writing.may_write(object.session, session) {
                    true => Kind::Uncommitted,
                    false => Kind::Leftovers,
                };
                usage.add(kind, tally_of(entry));
            }
        }
        Ok(())
    }

    /// Takes the records before the number `end`, whose objects the listing does not show. A wrong
    /// listing is likelier than a lost object, so each of these is asked for, unless it is dead.
    async fn miss(
        &self,
        records: &mut Records<'_>,
        end: Option<u64>,
        usage: &mut Usage,
    ) -> Result<(), CheckError> {
        while let Some(held) = records.next_before(end).await? {
            if held.row.died_unix_seconds.is_some() {
                continue;
            }
            usage.requests += 1;
            match self.store.head(&object_key(held.row.object)).await {
                Ok(head) => usage.add_held(&held, head.size),
                Err(error) if error.kind == StoreErrorKind::NotFound => usage.missing_objects += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The uploads that were not ended. Not every store lists them, nor may every key ask.
    async fn uploads(&self, requests: &mut u64) -> Result<Option<Uploads>, CheckError> {
        *requests += 1;
        let pending = match self.store.list_multipart("").await {
            Ok(pending) => pending,
            Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Other) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut uploads = Uploads {
            uploads: pending.len() as u64,
            bytes: 0,
            unmeasured: pending.len().saturating_sub(UPLOADS_MEASURED_MAX) as u64,
        };
        for one in pending.iter().take(UPLOADS_MEASURED_MAX) {
            *requests += 1;
            match self.store.list_parts(&one.key, &one.upload).await {
                Ok(parts) => uploads.bytes += parts.iter().map(|part| part.len).sum::<u64>(),
                // It ended meanwhile.
                Err(error) if error.kind == StoreErrorKind::NotFound => uploads.uploads -= 1,
                Err(_) => uploads.unmeasured += 1,
            }
        }
        Ok(Some(uploads))
    }
}

fn tally_of(entry: &ListEntry) -> Tally {
    Tally {
        objects: 1,
        bytes: entry.size,
        ..Tally::default()
    }
}

/// The kind of an object that holds no contents.
fn kind_of(key: &str) -> Kind {
    match shape_of(key) {
        KeyShape::Log(_) => Kind::Log,
        KeyShape::Table(_) => Kind::Tables,
        KeyShape::Manifest => Kind::Manifests,
        KeyShape::Upkeep => Kind::Upkeep,
        KeyShape::Header => Kind::Header,
        KeyShape::Lease => Kind::Lease,
        KeyShape::Note => Kind::Notes,
        KeyShape::Foreign | KeyShape::Data(_) => Kind::Foreign,
    }
}

impl Writing {
    /// Whether an object of this session, which has no record, may still be committed. `known` is
    /// the session's row.
    pub(super) fn may_write(self, session: SessionId, known: Option<SessionInfo>) -> bool {
        match self {
            Writing::Nobody => false,
            Writing::Session(writer) => session == writer,
            // Of a session that is not known yet, the mount may just have begun.
            Writing::Somebody => known.is_none_or(|known| !known.ended),
        }
    }
}
