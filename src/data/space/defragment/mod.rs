//! Defragmentation: a file that was left scattered over the store is put in order when it has been
//! quiet for a while.
//!
//! Random writes do not read, and what lies between them stays where it was. So a file may end up
//! in many runs, or in frames that hold mostly other bytes, and reading it in order costs a
//! multiple of its size. Files that were written at random are noted, and so are those that a
//! reader in order finds scattered. Once such a file is quiet, each piece of it is judged by what
//! reading it costs (`cost.rs`). The pieces that are worth it are read and made dirty again, as
//! repacking does (`space/repack.rs`), and write-back puts them into new objects in the order of
//! the file.
//!
//! Promises: at most a quarter of the time is spent on it, so at most a quarter of the link's
//! bandwidth is; it holds a few parts of dirty data at most, and never waits in line for them; it
//! does nothing while anybody reads, writes, waits for memory or unmounts; a file that is written
//! to meanwhile is left alone.

mod cost;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    budget::Owner,
    data::{
        DataError,
        file::FileState,
        space::{Space, moving::Moved},
    },
    meta::Ino,
    telemetry::InLog,
};

/// Bytes that are judged at once: about what a reader in order has under way.
const PIECE_BYTES: u64 = 8 << 20;

/// Extents that are looked up for a piece, 56 bytes each. A piece in more of them is judged in
/// parts.
const PIECE_EXTENTS_MAX: usize = 4096;

/// Parts that are made dirty before they go out, so that they lie in one object.
const BATCH_PARTS: u64 = 4;

/// After each step nothing is done for so many times as long as it took.
const PAUSES_FOR_EACH: u32 = 3;

/// A file is put in order only when nobody has read for so long.
const IDLE_FOR: Duration = Duration::from_secs(1);

/// How often it is looked whether others are at work.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a file is left before its end.
enum Left {
    /// Somebody wrote to it, or wants its memory: it may be scattered still.
    Disturbed,
    /// The mount ends.
    Ending,
    Failed(DataError),
}

impl From<DataError> for Left {
    fn from(error: DataError) -> Left {
        Left::Failed(error)
    }
}

impl Space {
    pub(crate) async fn defragment_loop(self: Arc<Self>) {
        let rounds = async {
            loop {
                let ino = self
                    .reading
                    .scattered
                    .next(self.shared.config.defragment_after)
                    .await;
                match self.defragment(ino).await {
                    Ok(()) | Err(Left::Ending | Left::Failed(DataError::NotFound)) => {}
                    Err(Left::Disturbed) => self.reading.scattered.note(ino, Instant::now()),
                    Err(Left::Failed(error)) => {
                        tracing::debug!("{}: it stays scattered: {error}", InLog(ino.0));
                    }
                }
            }
        };
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Puts those pieces of a file in order that are worth it.
    async fn defragment(self: &Arc<Self>, ino: Ino) -> Result<(), Left> {
        let file = self.reading.loaded(ino).await?;
        let batch_max = (BATCH_PARTS * self.shared.config.part_bytes)
            .min(self.shared.governor.owner_max_bytes(Owner::Dirty) / 4);
        let (mut at, mut batch_bytes) = (0, 0);
        let mut change = file.content.lock().change;
        loop {
            self.idle_but_for(&file, change).await?;
            let began = Instant::now();
            let Some((piece, is_worth_it)) = self.judge(&file, at).await? else {
                break;
            };
            at = piece.end;
            tokio::time::sleep(began.elapsed() * PAUSES_FOR_EACH).await;
            let step_bytes = self.step_bytes();
            for from in piece.step_by(step_bytes as usize).filter(|_| is_worth_it) {
                self.idle_but_for(&file, change).await?;
                let step = from..at.min(from + step_bytes);
                batch_bytes += self.defragment_step(&file, step, &mut change).await?;
                if batch_bytes >= batch_max {
                    self.send_in_order(&file).await?;
                    batch_bytes = 0;
                }
            }
        }
        if batch_bytes > 0 {
            self.send_in_order(&file).await?;
        }
        Ok(())
    }

    /// The piece of a file that begins at `at`, if there is one, and whether it is worth it.
    async fn judge(&self, file: &FileState, at: u64) -> Result<Option<(Range<u64>, bool)>, Left> {
        let size = file.content.lock().visible_size();
        if at >= size {
            return Ok(None);
        }
        let range = at..size.min(at + PIECE_BYTES);
        let window = self
            .reading
            .look_up_extents(file.ino, range, PIECE_EXTENTS_MAX)
            .await?;
        let (extents, cost) = (&window.extents, self.reading.frames.link.cost());
        let config = &self.shared.config;
        let (most, times) = (config.fetch_bytes_max, config.defragment_from);
        let is_worth_it = cost::is_worth_it(extents, &cost, most, times);
        Ok(Some((window.range.clone(), is_worth_it)))
    }

    /// Makes a part of the file dirty again, and pauses; the bytes that it came to.
    async fn defragment_step(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        step: Range<u64>,
        change: &mut u64,
    ) -> Result<u64, Left> {
        let began = Instant::now();
        match self
            .move_ranges_if_room(file, std::slice::from_ref(&step), None)
            .await
        {
            Ok(Moved::Bytes(bytes)) => {
                *change += u64::from(bytes > 0);
                self.shared.store.metrics().defragmented_bytes.add(bytes);
                tokio::time::sleep(began.elapsed() * PAUSES_FOR_EACH).await;
                Ok(bytes)
            }
            Ok(Moved::Overtaken | Moved::NoRoom { .. }) => Err(Left::Disturbed),
            Err(error) => {
                self.write_back.note_unreadable(file.ino, &step, &error);
                Err(error.into())
            }
        }
    }

    /// Brings what was made dirty into the store, and pauses.
    async fn send_in_order(self: &Arc<Self>, file: &Arc<FileState>) -> Result<(), Left> {
        let began = Instant::now();
        let mut seen = file.content.lock().errors.count();
        self.write_back.committed(file, &mut seen).await?;
        tokio::time::sleep(began.elapsed() * PAUSES_FOR_EACH).await;
        Ok(())
    }

    /// Returns when nobody else reads, writes or waits, as long as nobody has written to `file`
    /// since `change`.
    async fn idle_but_for(&self, file: &FileState, change: u64) -> Result<(), Left> {
        loop {
            if !self.may_move() || self.write_back.check().is_err() {
                return Err(Left::Ending);
            }
            if file.content.lock().change != change {
                return Err(Left::Disturbed);
            }
            let others_write = self
                .write_back
                .dirty
                .lock()
                .keys()
                .any(|ino| *ino != file.ino);
            if !others_write
                && !self.shared.governor.is_awaited()
                && self.reading.under_way.are_over_for(IDLE_FOR)
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
