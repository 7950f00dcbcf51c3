//! The operations on contents that the layers above call. Each one goes to the room that carries
//! it out.

use std::ops::Range;

use super::{Data, error::DataError};
use crate::{
    budget::Governor,
    data::{
        Admission, AttributeChange, HeldCommits, LiveAttributes, OpenFile, ReadReply, Seek,
        WriteBuffer,
    },
    meta::{Ino, Inode, Timestamp},
};

#[cfg(doc)]
use super::OPEN_FILE_BYTES;

impl Data {
    /// The governor that pays for this module and for everything above it.
    pub fn governor(&self) -> &Governor {
        &self.rooms.shared.governor
    }

    /// A handle on a file, which the caller pays for ([`OPEN_FILE_BYTES`]) until it is dropped.
    /// Its reads are paid for here.
    pub fn open(&self, ino: Ino) -> OpenFile {
        self.rooms.reading.open_for_reader(ino)
    }

    /// The same, to be read from `at` on in order.
    pub fn open_at(&self, ino: Ino, at: u64) -> OpenFile {
        self.rooms.reading.open_at(ino, at)
    }

    /// On a read-only mount, makes sure that reads of the file stay the same if it is removed or
    /// replaced now.
    pub async fn hold(&self, file: &OpenFile) -> Result<(), DataError> {
        self.rooms.reading.hold(&file.file).await
    }

    /// On a read-only mount, the record of a file that is open: what [`Data::read`] reads is of
    /// this size.
    pub async fn held_record(&self, ino: Ino) -> Result<Option<Inode>, DataError> {
        self.rooms.reading.held_record(ino).await
    }

    /// On a read-only mount, the open files that have changed since they were last looked at.
    pub async fn changed_files(&self) -> Vec<Ino> {
        self.rooms.reading.look_at_open_files().await
    }

    /// The bytes of a range as far as the file goes, if all of them are in memory.
    pub fn read_here(&self, file: &OpenFile, range: Range<u64>) -> Option<ReadReply> {
        self.rooms.reading.read_here(file, range)
    }

    /// Reads; short only at the end of the file, and beyond half of what is guaranteed to readers
    /// (6 MiB with the smallest `--memory`).
    pub async fn read(
        &self,
        file: &OpenFile,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        let _under_way = self.rooms.reading.under_way.begin();
        self.rooms.reading.read(file, offset, len).await
    }

    /// SEEK_DATA / SEEK_HOLE; `None` is ENXIO.
    pub async fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<Option<u64>, DataError> {
        self.rooms.reading.seek(ino, offset, what).await
    }

    /// Copies `data` into a paid-for buffer if there is room for it now.
    pub fn try_buffer(&self, data: &[u8]) -> Option<WriteBuffer> {
        self.rooms.write_back.try_buffer(data)
    }

    /// Copies `data` into a paid-for buffer, waiting in line for room.
    pub async fn buffer(&self, data: &[u8]) -> WriteBuffer {
        self.rooms.write_back.buffer(data).await
    }

    /// Asks to admit a write of `data`, whose memory is the caller's only until this returns. The
    /// bytes are copied into room for dirty data, or to where writes wait for such room. `None` if
    /// there is no place for one more that waits either.
    pub fn admit(&self, data: &[u8]) -> Option<Admission> {
        self.rooms.write_back.admit(data)
    }

    /// As [`Data::admit`], waiting in line for room while `data` stays where it is: the
    /// back-pressure of last resort, for which a FUSE thread waits. Progress of uploads and reads
    /// never depends on a FUSE thread, so this ends once the store answers.
    pub async fn admit_in_line(&self, data: &[u8]) -> Admission {
        self.rooms.write_back.admit_in_line(data).await
    }

    /// Returns the write's permit once there is room for it, or an error when there will be none.
    pub async fn permit(&self, admission: Admission) -> Result<WriteBuffer, DataError> {
        self.rooms.write_back.permit(admission).await
    }

    /// Writes; sets the live mtime and ctime to `now`.
    pub async fn write(
        &self,
        ino: Ino,
        offset: u64,
        buffer: WriteBuffer,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.rooms.write_back.write(ino, offset, buffer, now).await
    }

    /// Sets the size.
    pub async fn truncate(&self, ino: Ino, size: u64, now: Timestamp) -> Result<(), DataError> {
        self.rooms.space.truncate(ino, size, now).await
    }

    /// Makes a hole; the size stays (FALLOC_FL_PUNCH_HOLE | KEEP_SIZE, and the zeroing half of
    /// ZERO_RANGE).
    pub async fn punch_hole(
        &self,
        ino: Ino,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.rooms.space.punch_hole(ino, range, now).await
    }

    /// Present size and times if the contents differ from the committed record.
    pub fn live(&self, ino: Ino) -> Option<LiveAttributes> {
        self.rooms.write_back.live(ino)
    }

    /// Attributes are about to be set explicitly (`utimens`, chmod, chown): pending times must not
    /// override them, nor a commit that is under way. Hold what this returns until the record is
    /// changed. `mtime`: the modification time is among them.
    pub async fn begin_attribute_change(&self, ino: Ino, mtime: bool) -> AttributeChange {
        self.rooms
            .write_back
            .begin_attribute_change(ino, mtime)
            .await
    }

    /// The record was given a newer change time: a pending one must not hide it.
    pub fn forget_change_time(&self, ino: Ino) {
        self.rooms.write_back.forget_change_time(ino);
    }

    /// Says what of a file is not committed, and keeps that so: a rename decides by it what the
    /// name stands for until it is.
    pub async fn hold_commits(&self, ino: Ino) -> HeldCommits {
        self.rooms.write_back.hold_commits(ino).await
    }

    /// Returns when everything written to this file before the call is durable, its metadata
    /// included. A refusal of the store that lasts longer than its patience is reported; the data
    /// is kept and tried again.
    pub async fn fsync(&self, ino: Ino) -> Result<(), DataError> {
        self.rooms.write_back.fsync(ino).await
    }

    /// The same through one descriptor, which has then heard of all errors of the file so far:
    /// closing it reports only later ones.
    pub async fn fsync_through(&self, open: &OpenFile) -> Result<(), DataError> {
        self.rooms.write_back.fsync_through(open).await
    }

    /// The error that a descriptor has to report when it is closed, without waiting: one that keeps
    /// what was written to this file from being durable, and that it has not reported.
    pub fn unreported(&self, open: &OpenFile) -> Option<DataError> {
        self.rooms.write_back.unreported(open)
    }

    /// Returns when everything written to these files before the call is committed, though it may
    /// not be durable.
    pub async fn write_back(&self, inos: impl IntoIterator<Item = Ino>) -> Result<(), DataError> {
        self.rooms.write_back.write_back(inos).await
    }

    /// Returns when everything that replaced another file before the call is committed, and so
    /// are the names.
    pub async fn write_back_replacements(&self) -> Result<(), DataError> {
        self.rooms.write_back.write_back_replacements().await
    }

    /// Returns when all that is committed is durable, names and attributes too. Reports what the
    /// store refuses, as [`Data::fsync`] does.
    pub async fn flush(&self) -> Result<(), DataError> {
        self.rooms.write_back.flush().await
    }

    /// The file is gone: drops its dirty data. Call after the last handle is closed, before
    /// [`Meta::reap`](crate::meta::Meta::reap).
    pub async fn discard(&self, ino: Ino) {
        self.rooms.write_back.discard(ino).await;
    }

    /// Returns when everything is durable.
    pub async fn drain(&self) -> Result<(), DataError> {
        self.rooms.write_back.drain().await
    }
}
