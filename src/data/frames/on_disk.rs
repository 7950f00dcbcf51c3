//! Frames on the local disk: taken from there before the store is asked, put there when they were
//! opened or sealed.

use super::{Frames, fetch::Delivery};
use crate::{
    data::{DataError, DiskAdmission},
    disk::{DiskCache, FrameKey, OBJECT_LEN},
    meta::ObjectId,
    seal::{SealError, codec::TAG_LEN},
};

/// A request ends before so many frames in a row that are on the disk: with fewer, another request
/// for what follows costs about as much as fetching them again.
const RUN_FRAMES: u64 = 4;

/// The name of an object in the cache: the bytes that its key is made of.
fn disk_name(object: ObjectId) -> [u8; OBJECT_LEN] {
    let mut name = [0; OBJECT_LEN];
    let (session, number) = name.split_at_mut(object.session.0.len());
    session.copy_from_slice(&object.session.0);
    number.copy_from_slice(&object.number.to_be_bytes());
    name
}

impl Frames {
    /// Keeps a sealed frame, which is known to open, if there is a cache and it has room.
    /// `in_order`: the frame is read or written in order.
    pub(crate) fn put_on_disk(&self, object: ObjectId, frame: u64, sealed: &[u8], in_order: bool) {
        if let Some(disk) = &self.disk
            && (!in_order || self.admits_in_order())
        {
            let object = disk_name(object);
            disk.put(FrameKey { object, frame }, sealed);
        }
    }

    fn admits_in_order(&self) -> bool {
        match self.shared.config.disk_admission {
            DiskAdmission::All => true,
            DiskAdmission::WhatPays => !self.link.is_as_fast_as_a_disk(),
        }
    }

    /// Keeps a sealed frame that nobody has asked for yet; false if the disk takes no more.
    pub(crate) async fn guess_on_disk(
        &self,
        disk: &DiskCache,
        object: ObjectId,
        frame: u64,
        sealed: &[u8],
    ) -> bool {
        let object = disk_name(object);
        disk.put_guess(FrameKey { object, frame }, sealed).await
    }

    pub(crate) fn is_on_disk(&self, object: ObjectId, frame: u64) -> bool {
        self.disk.as_ref().is_some_and(|disk| {
            let object = disk_name(object);
            disk.contains(&FrameKey { object, frame })
        })
    }
}

impl Delivery {
    /// Takes the frames that come next and are on the disk; returns where the request for those
    /// that follow should end. One that does not open is dropped there, and asked of the store.
    pub(crate) async fn take_from_disk(&mut self) -> Result<u64, DataError> {
        let Some(disk) = self.memory.disk.clone() else {
            return Ok(self.end);
        };
        let object = disk_name(self.object.id);
        let layout = self.object.layout;
        let began = self.next();
        let sealed_len = |frame| layout.frame_plaintext_len(frame) + TAG_LEN;
        'reading: while let Some(run) = disk.read(&object, self.next()..self.end, sealed_len).await
        {
            for (frame, sealed) in run.frames() {
                match self.take(sealed) {
                    Err(DataError::Seal(SealError::Frame { .. })) => {
                        disk.drop_damaged(&FrameKey { object, frame });
                        break 'reading;
                    }
                    taken => taken?,
                }
            }
        }
        let missed = self.next();
        // At least one frame is fetched, also where the disk has it and was too slow.
        let until = disk.next_run(&object, missed + 1..self.end, RUN_FRAMES);
        disk.note(missed - began, until.saturating_sub(missed));
        Ok(until)
    }
}
