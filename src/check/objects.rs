//! The objects that the metadata names, compared with the bucket.

use std::{collections::VecDeque, sync::Arc};

use tokio::task::JoinSet;

use super::{
    Check, CheckError, Report,
    frames::{Examined, Piece, pieces},
};
use crate::{
    data::{SESSION_PAGES_MAX, object_key, object_number, session_prefix},
    meta::{Damaged, ObjectRow, SessionInfo},
    seal::codec::{Layout, Opener},
    store::{Pages, Store, StoreErrorKind},
};

/// Damaged objects that are dealt with at a time.
const DAMAGED_AT_ONCE: usize = 1024;

/// Object records that are read at a time.
const ROWS_AT_ONCE: usize = 1000;

/// The objects below one session's prefix, in the order of their numbers.
struct Listed {
    pages: Pages,
    session: SessionInfo,
    ahead: VecDeque<(u64, u64)>,
    is_over: bool,
}

impl Listed {
    fn of(store: &Store, session: SessionInfo) -> Listed {
        Listed {
            pages: store.pages(&session_prefix(session.session), None, SESSION_PAGES_MAX),
            session,
            ahead: VecDeque::new(),
            is_over: false,
        }
    }

    /// Number and length of the next one, which is not taken.
    async fn peek(&mut self) -> Result<Option<(u64, u64)>, CheckError> {
        while self.ahead.is_empty() && !self.is_over {
            match self.pages.next().await? {
                None => self.is_over = true,
                Some(page) => {
                    let ours = page.into_iter().filter_map(|entry| {
                        let number = object_number(&entry.key)?;
                        let object = crate::meta::ObjectId {
                            session: self.session.session,
                            number,
                        };
                        (object_key(object) == entry.key).then_some((number, entry.size))
                    });
                    self.ahead.extend(ours);
                }
            }
        }
        Ok(self.ahead.front().copied())
    }

    fn skip(&mut self) {
        self.ahead.pop_front();
    }
}

/// Pieces of objects that are being read.
struct Reading {
    tasks: JoinSet<Result<Option<Damaged>, CheckError>>,
    at_once: usize,
}

impl Reading {
    /// Reads one more piece, when there is room for it.
    async fn add(&mut self, piece: Piece, damaged: &mut Vec<Damaged>) -> Result<(), CheckError> {
        while self.tasks.len() >= self.at_once {
            self.take(damaged).await?;
        }
        self.tasks.spawn(piece.examine());
        Ok(())
    }

    /// Waits for a piece under way; false if there is none.
    async fn take(&mut self, damaged: &mut Vec<Damaged>) -> Result<bool, CheckError> {
        match self.tasks.join_next().await {
            None => Ok(false),
            Some(Ok(found)) => {
                damaged.extend(found?);
                Ok(true)
            }
            Some(Err(error)) => Err(CheckError::Internal(error.to_string())),
        }
    }
}

impl Check {
    /// Compares the objects in the bucket with those that the metadata names. With `frames`, reads
    /// all of them.
    pub(super) async fn check_objects(
        &mut self,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let (step, total_bytes) = match self.plan.frames {
            true => ("reading objects", self.outcome.counted.stored_bytes),
            false => ("listing objects", 0),
        };
        self.progress.begin(step, total_bytes);
        let mut reading = Reading {
            tasks: JoinSet::new(),
            at_once: self.plan.streams(),
        };
        let mut damaged = Vec::new();
        for session in self.meta.sessions() {
            let mut listed = Listed::of(&self.store, session);
            let mut first = 0;
            loop {
                let rows = self.meta.objects_of(session, first, ROWS_AT_ONCE).await?;
                let Some(last) = rows.last() else { break };
                first = last.object.number + 1;
                for row in rows {
                    let stored_len = self.stored_len(&mut listed, &row).await?;
                    if row.died_unix_seconds.is_none() {
                        self.examine(row, stored_len, &mut reading, &mut damaged)
                            .await?;
                    }
                    if damaged.len() >= DAMAGED_AT_ONCE {
                        self.deal_with(std::mem::take(&mut damaged), report).await?;
                    }
                }
            }
            while let Some((_, len)) = listed.peek().await? {
                self.note_unnamed(len);
                listed.skip();
            }
        }
        while reading.take(&mut damaged).await? {}
        damaged.sort_by_key(|one| one.object);
        while !damaged.is_empty() {
            let rest = damaged.split_off(damaged.len().min(DAMAGED_AT_ONCE));
            self.deal_with(damaged, report).await?;
            damaged = rest;
        }
        Ok(())
    }

    /// Whether the listing shows the object, and how long it is. Objects before it in the listing
    /// have no record.
    async fn stored_len(
        &mut self,
        listed: &mut Listed,
        row: &ObjectRow,
    ) -> Result<Option<u64>, CheckError> {
        while let Some((number, len)) = listed.peek().await? {
            if number > row.object.number {
                break;
            }
            listed.skip();
            if number == row.object.number {
                return Ok(Some(len));
            }
            self.note_unnamed(len);
        }
        if row.died_unix_seconds.is_some() {
            return Ok(None);
        }
        // A wrong listing is likelier than a lost object, so the object itself is asked for.
        match self.store.head(&object_key(row.object)).await {
            Ok(head) => Ok(Some(head.size)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn note_unnamed(&mut self, len: u64) {
        self.outcome.unnamed_objects += 1;
        self.outcome.unnamed_bytes += len;
    }

    async fn examine(
        &mut self,
        row: ObjectRow,
        stored_len: Option<u64>,
        reading: &mut Reading,
        damaged: &mut Vec<Damaged>,
    ) -> Result<(), CheckError> {
        let key = object_key(row.object);
        let layout = Layout {
            frame_log2: row.record.params.frame_log2,
            plaintext_len: row.record.plaintext_len,
        };
        let expected_len = layout.stored_len();
        let all_bad = |why: String| Damaged {
            object: row.object,
            why,
            bad: std::iter::once(0..row.record.plaintext_len).collect(),
        };
        let Some(stored_len) = stored_len else {
            damaged.push(all_bad(format!("object {key} is missing")));
            return Ok(());
        };
        if stored_len == expected_len && !self.plan.frames {
            return Ok(());
        }
        let opener = match Opener::from_params(&self.keys, &key, row.record.params, layout) {
            Ok(opener) => opener,
            Err(error) => {
                damaged.push(all_bad(error.to_string()));
                return Ok(());
            }
        };
        self.outcome.frames += layout.frame_count();
        self.outcome.frame_bytes += expected_len;
        let examined = Arc::new(Examined::new(
            row.object,
            opener,
            Arc::clone(&self.keys),
            stored_len,
            self.store.clone(),
            Arc::clone(&self.progress),
        ));
        for piece in pieces(&examined) {
            reading.add(piece, damaged).await?;
        }
        Ok(())
    }
}
