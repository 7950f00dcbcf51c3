//! Open files: reading, writing, and when they are durable.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use nix::errno::Errno;

use super::{
    Attributes, Caller, Durability, Fs, FsError,
    busiest::Moved,
    dense_reads::Density,
    namespace::valid_name,
    now,
    table::{FileHandle, Made},
};
use crate::{
    data::{Admission, ReadReply, WriteBuffer},
    meta::{FileKind, Ino},
};

/// An opened file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The handle.
    pub fh: u64,
    /// The file, as it is now.
    pub attributes: Attributes,
    /// Reads and writes through the handle should bypass the kernel's page cache.
    pub past_page_cache: bool,
}

/// `security.capability`: the rights that a program has, whoever runs it.
const CAPABILITY_XATTR: &[u8] = b"security.capability";

impl Fs {
    /// Opens a file; O_TRUNC empties it.
    ///
    /// # Errors
    /// EROFS, EISDIR, ESTALE, ENFILE.
    pub async fn open(&self, caller: Caller, ino: Ino, flags: i32) -> Result<Opened, FsError> {
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let truncates = flags & libc::O_TRUNC != 0;
        if writable || truncates {
            self.writable()?;
        }
        let room = self.inner.table.room_for_file().await?;
        if self.record(ino).await?.kind == FileKind::Directory {
            return Err(FsError::new(Errno::EISDIR, "opening a directory as a file"));
        }
        let writing = match writable {
            true => Some(self.inner.page_turns.write(ino).await),
            false => None,
        };
        if truncates {
            self.truncate(caller, ino, 0, now()).await?;
        }
        let file = self.data().open(ino);
        if self.read_only() {
            self.data().hold(&file).await?;
        }
        let attributes = self.getattr(ino).await?;
        let past_page_cache = self
            .inner
            .page_cache
            .on_open(ino, writable, attributes.size);
        let file = match writable || past_page_cache || self.read_only() {
            true => file,
            false => file.taking_stretches(),
        };
        let handle = FileHandle {
            ino,
            file,
            writable,
            past_page_cache,
            made: None,
            moved: Moved::default(),
            density: Density::default(),
            _writing: writing,
            _room: room,
        };
        self.opened(attributes, handle)
    }

    /// Creates a file and opens it; an existing one is opened unless O_EXCL is set.
    ///
    /// # Errors
    /// EEXIST, EROFS, ENAMETOOLONG, ENFILE.
    pub async fn create(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<Opened, FsError> {
        self.writable()?;
        valid_name(name)?;
        let room = self.inner.table.room_for_file().await?;
        match self
            .make(caller, dir, name, FileKind::File, mode, 0, Bytes::new())
            .await
        {
            Ok(attributes) => {
                let ino = attributes.ino;
                let write_only = flags & libc::O_ACCMODE == libc::O_WRONLY;
                let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
                let writing = match writable {
                    true => Some(self.inner.page_turns.write(ino).await),
                    false => None,
                };
                let handle = FileHandle {
                    ino,
                    file: self.data().open(ino),
                    writable,
                    past_page_cache: self.inner.page_cache.on_create(ino, write_only),
                    made: write_only.then(Made::default),
                    moved: Moved::default(),
                    density: Density::default(),
                    _writing: writing,
                    _room: room,
                };
                self.opened(attributes, handle)
            }
            Err(error) if error.errno == Errno::EEXIST && flags & libc::O_EXCL == 0 => {
                // Opening reserves room of its own.
                drop(room);
                match self.lookup(dir, name).await? {
                    Some(found) if found.kind == FileKind::File => {
                        self.open(caller, found.ino, flags).await
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn opened(&self, attributes: Attributes, handle: FileHandle) -> Result<Opened, FsError> {
        let past_page_cache = handle.past_page_cache;
        Ok(Opened {
            fh: self.inner.table.insert_file(handle)?,
            attributes,
            past_page_cache,
        })
    }

    /// Reads; short only at the end of the file.
    ///
    /// # Errors
    /// EBADF; EIO if the store fails or something did not authenticate; ESTALE.
    pub async fn read(&self, fh: u64, offset: u64, len: u32) -> Result<ReadReply, FsError> {
        let handle: Arc<FileHandle> = self.inner.table.file(fh)?;
        let mut reply = self.data().read(&handle.file, offset, len).await?;
        let bytes = reply.bytes.len() as u64;
        self.inner.table.count_read(&handle, bytes);
        self.note_for_fills(&handle, offset, len, &mut reply);
        Ok(reply)
    }

    /// A paid-for copy of the bytes to be written, if there is room for it now.
    pub fn try_buffer(&self, data: &[u8]) -> Option<WriteBuffer> {
        self.data().try_buffer(data)
    }

    /// As [`Data::admit`](crate::data::Data::admit).
    pub fn admit(&self, data: &[u8]) -> Option<Admission> {
        self.data().admit(data)
    }

    /// As [`Data::admit_in_line`](crate::data::Data::admit_in_line).
    pub async fn admit_in_line(&self, data: &[u8]) -> Admission {
        self.data().admit_in_line(data).await
    }

    /// As [`Data::permit`](crate::data::Data::permit).
    pub async fn permit(&self, admission: Admission) -> Result<WriteBuffer, FsError> {
        Ok(self.data().permit(admission).await?)
    }

    /// Whether reads and writes through a handle are meant to bypass the kernel's page cache.
    pub fn passes_page_cache(&self, fh: u64) -> bool {
        let handle = self.inner.table.file(fh);
        handle.is_ok_and(|handle| handle.past_page_cache)
    }

    /// As [`Fs::write`], through a handle. Before a write into its page cache the kernel removes
    /// file capabilities, whoever writes; before a write that bypasses the cache it leaves that to
    /// us.
    ///
    /// # Errors
    /// EROFS, EFBIG, EIO, ESTALE.
    pub async fn write_through(
        &self,
        fh: u64,
        ino: Ino,
        offset: u64,
        buffer: WriteBuffer,
        drops_set_id: bool,
    ) -> Result<(), FsError> {
        // Pages that the kernel itself writes out may come after the handle was closed.
        let bytes = buffer.len() as u64;
        let handle = self.inner.table.file(fh).ok();
        self.inner.table.count_written(handle.as_deref(), bytes);
        if let Some(handle) = handle {
            if let Some(made) = &handle.made {
                let end = offset.saturating_add(bytes);
                made.end.fetch_max(end, Ordering::Relaxed);
            }
            if handle.past_page_cache {
                self.drop_capabilities(ino).await?;
            }
        }
        self.write(ino, offset, buffer, drops_set_id).await
    }

    async fn drop_capabilities(&self, ino: Ino) -> Result<(), FsError> {
        if self.meta().xattr(ino, CAPABILITY_XATTR).await?.is_none() {
            return Ok(());
        }
        match self.removexattr(ino, CAPABILITY_XATTR).await {
            // Another request was faster.
            Err(error) if error.errno == Errno::ENODATA => Ok(()),
            other => other,
        }
    }

    /// Writes. `drops_set_id` says that this writer's writes clear set-id bits.
    ///
    /// # Errors
    /// EROFS, EFBIG, EIO, ESTALE.
    pub async fn write(
        &self,
        ino: Ino,
        offset: u64,
        buffer: WriteBuffer,
        drops_set_id: bool,
    ) -> Result<(), FsError> {
        self.writable()?;
        self.room_for(buffer.len() as u64)?;
        if drops_set_id {
            self.drop_set_id(ino).await?;
        }
        // Pages that the kernel writes out late come when no handle may write any more.
        let _turn = self.inner.page_turns.change(ino).await;
        Ok(self.data().write(ino, offset, buffer, now()).await?)
    }

    /// One of the handle's descriptors is closed. Waits for durability if that was asked for at
    /// mount; otherwise it only reports that the written bytes cannot be stored at present.
    ///
    /// # Errors
    /// EBADF; EIO if the contents cannot be made durable. They are kept, and their upload is
    /// repeated.
    pub async fn flush(&self, fh: u64) -> Result<(), FsError> {
        let handle = self.inner.table.file(fh)?;
        // This holds for any writable handle, whether or not it wrote: mapped pages are written
        // through whichever handle the kernel finds.
        if !handle.writable {
            return Ok(());
        }
        if self.inner.config.durability == Durability::Close {
            return self.fsync_through(fh).await;
        }
        match self.data().unreported(&handle.file) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// As [`Fs::fsync`], through a handle: it hears of each error of the file once.
    ///
    /// # Errors
    /// EBADF, EIO.
    pub async fn fsync_through(&self, fh: u64) -> Result<(), FsError> {
        if self.read_only() {
            return Ok(());
        }
        let handle = self.inner.table.file(fh)?;
        Ok(self.data().fsync_through(&handle.file).await?)
    }

    /// Returns when the file's contents and attributes are durable.
    ///
    /// # Errors
    /// EIO.
    pub async fn fsync(&self, ino: Ino) -> Result<(), FsError> {
        if self.read_only() {
            return Ok(());
        }
        Ok(self.data().fsync(ino).await?)
    }

    /// The last descriptor of a handle is closed: work in flight for it is dropped.
    pub fn release(&self, fh: u64) {
        if let Ok(handle) = self.inner.table.file(fh)
            && let Some(made) = &handle.made
        {
            let end = made.end.load(Ordering::Relaxed);
            self.inner.page_cache.on_made(end);
        }
        if let Some(unused) = self.inner.table.remove(fh) {
            self.inner.reaper.reap(unused);
        }
    }
}
