//! Files of a volume that was opened, by their names in the root and their handles.

use strongroom::{fs::FsError, meta::Ino};

use super::opened::{Opened, ROOT};

/// An open file.
pub struct File {
    pub ino: Ino,
    pub fh: u64,
}

pub async fn create(opened: &Opened, name: &str) -> File {
    let name = name.as_bytes();
    let created = opened.fs.create(ROOT, Ino::ROOT, name, 0o644, libc::O_RDWR);
    let created = created.await.unwrap();
    File {
        ino: created.attributes.ino,
        fh: created.fh,
    }
}

/// A new file of which no handle is left.
pub async fn create_closed(opened: &Opened, name: &str) -> Ino {
    let file = create(opened, name).await;
    opened.fs.release(file.fh);
    file.ino
}

pub async fn write(opened: &Opened, file: &File, offset: u64, bytes: &[u8]) {
    write_at(opened, file.ino, offset, bytes).await;
}

pub async fn write_at(opened: &Opened, ino: Ino, offset: u64, bytes: &[u8]) {
    let mut at = offset;
    for piece in bytes.chunks(256 << 10) {
        let buffer = opened.data.buffer(piece).await;
        opened.fs.write(ino, at, buffer, false).await.unwrap();
        at += piece.len() as u64;
    }
}

pub async fn sync(opened: &Opened, file: &File) -> Result<(), FsError> {
    opened.fs.fsync_through(file.fh).await
}

pub async fn contents(opened: &Opened, name: &str) -> Vec<u8> {
    let found = opened
        .fs
        .lookup(Ino::ROOT, name.as_bytes())
        .await
        .unwrap()
        .unwrap();
    let fh = opened
        .fs
        .open(ROOT, found.ino, libc::O_RDONLY)
        .await
        .unwrap()
        .fh;
    let mut bytes = Vec::new();
    while let read = opened
        .fs
        .read(fh, bytes.len() as u64, 1 << 20)
        .await
        .unwrap()
        .bytes
        && !read.is_empty()
    {
        bytes.extend_from_slice(&read);
    }
    opened.fs.release(fh);
    bytes
}
