//! Extents of a file, and the frames and requests that reading it costs.

use std::collections::HashSet;

use strongroom::{
    data::OpenFile,
    meta::{Extent, ExtentSource, Ino, ObjectId},
};

use crate::support::{opened::Opened, volume::TestVolume};

pub const FRAME: u64 = 64 << 10;

pub async fn extents(opened: &Opened, ino: Ino) -> Vec<Extent> {
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let some = opened.meta.extents(ino, at..u64::MAX, 1024).await.unwrap();
        let Some(last) = some.last() else { return all };
        at = last.offset + last.len;
        all.extend(some);
    }
}

pub fn place(extent: &Extent) -> (ObjectId, u64) {
    match extent.source {
        ExtentSource::Object { object, at } => (object, at),
        ExtentSource::Inline(_) => panic!("nothing was written inline"),
    }
}

/// Different frames in which the extents lie.
pub fn distinct_frames(extents: &[Extent]) -> u64 {
    let frames = extents.iter().flat_map(|extent| {
        let (object, at) = place(extent);
        (at / FRAME..=(at + extent.len - 1) / FRAME).map(move |frame| (object, frame))
    });
    frames.collect::<HashSet<_>>().len() as u64
}

pub async fn read_in_order(opened: &Opened, ino: Ino, step: u32) -> Vec<u8> {
    let file = opened.data.open(ino);
    let mut all = Vec::new();
    loop {
        let read = opened.data.read(&file, all.len() as u64, step).await;
        let bytes = read.unwrap().bytes;
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

pub fn gets(volume: &TestVolume) -> u64 {
    volume.server.stats().count("GetObject")
}

/// The frames that a cold reader in order fetches, by the bytes that the server sent.
pub async fn frames_read_cold(volume: &TestVolume, ino: Ino, contents: &[u8]) -> (u64, u64) {
    let opened = volume.open().await;
    let (requests, bytes) = (gets(volume), volume.server.stats().body_bytes_out);
    assert!(read_in_order(&opened, ino, 256 << 10).await == contents);
    let after = volume.server.stats();
    opened.close().await;
    let frames = (after.body_bytes_out - bytes).div_ceil(FRAME);
    (after.count("GetObject") - requests, frames)
}

pub async fn whole(opened: &Opened, file: &OpenFile) -> Vec<u8> {
    let read = opened.data.read(file, 0, 1 << 20).await.unwrap();
    read.bytes.to_vec()
}
