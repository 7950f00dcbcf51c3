//! Contents of files, read and written at once.

use nix::errno::Errno;
use strongroom::{
    fs::{Fs, FsError},
    meta::Ino,
};

use crate::support::{
    opened::{Opened, ROOT},
    volume::TestVolume,
};

pub async fn create(fs: &Fs, name: &[u8]) -> (u64, Ino) {
    let opened = fs
        .create(ROOT, Ino::ROOT, name, 0o644, libc::O_RDWR)
        .await
        .unwrap();
    (opened.fh, opened.attributes.ino)
}

pub async fn write(fs: &Fs, ino: Ino, offset: u64, data: &[u8]) {
    fs.write(ino, offset, fs.try_buffer(data).unwrap(), false)
        .await
        .unwrap();
}

pub async fn read(fs: &Fs, fh: u64, offset: u64, len: u32) -> Vec<u8> {
    fs.read(fh, offset, len).await.unwrap().bytes.to_vec()
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Errno {
    result.unwrap_err().errno
}

pub async fn reopened(volume: &TestVolume, opened: Opened) -> Opened {
    opened.close().await;
    volume.open().await
}
