//! Reading objects: versions, ranges, buffers that are used again.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Object, Refusal, Storage};

/// The most that is read at once: large enough that the cost of a hand-over to a blocking thread
/// vanishes, small enough that two of them a GET are not much.
pub(in crate::server) const CHUNK_BYTES: usize = 256 * 1024;
/// Buffers kept for use again: 16 MiB.
const MAX_POOLED: usize = 64;

/// Buffers of [`CHUNK_BYTES`] that are used again, so that reads don't pay for fresh pages.
#[derive(Default)]
pub(in crate::server) struct BufferPool {
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan; goes back to the pool when the last [`Bytes`] of it is dropped.
struct PooledBuffer {
    buffer: Box<[u8]>,
    len: usize,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock();
        if free.len() < MAX_POOLED {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Reads a range of one version of an object, whatever happens to the object meanwhile.
pub(in crate::server) struct Reader {
    object: Arc<Object>,
    /// The open file, and where in the object it begins and ends.
    open: Option<(File, u64, u64)>,
    offset: u64,
    end: u64,
    pool: Arc<BufferPool>,
}

impl Reader {
    /// Bytes not yet read.
    pub(in crate::server) fn remaining(&self) -> u64 {
        self.end - self.offset
    }

    pub(in crate::server) fn object(&self) -> &Object {
        &self.object
    }

    /// Restricts the reader to `start..end` of the object.
    pub(in crate::server) fn seek(&mut self, start: u64, end: u64) {
        self.end = end.min(self.object.record.size);
        self.offset = start.min(self.end);
    }

    /// The next bytes; empty at the end.
    pub(in crate::server) fn read_next(&mut self) -> io::Result<Bytes> {
        if self.remaining() == 0 {
            return Ok(Bytes::new());
        }
        let (file, begin, end) = match self
            .open
            .take_if(|(_, begin, end)| (*begin..*end).contains(&self.offset))
        {
            Some(open) => open,
            None => self.open_part()?,
        };
        let want = (end.min(self.end) - self.offset).min(CHUNK_BYTES as u64);
        let len = usize::try_from(want).unwrap_or(CHUNK_BYTES);
        let bytes = if len < CHUNK_BYTES / 4 {
            let mut buffer = vec![0; len];
            file.read_exact_at(&mut buffer, self.offset - begin)?;
            Bytes::from(buffer)
        } else {
            let spare = self.pool.free.lock().pop();
            let mut buffer = spare.unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice());
            file.read_exact_at(
                buffer.get_mut(..len).unwrap_or_default(),
                self.offset - begin,
            )?;
            Bytes::from_owner(PooledBuffer {
                buffer,
                len,
                pool: Arc::clone(&self.pool),
            })
        };
        self.offset += len as u64;
        self.open = Some((file, begin, end));
        Ok(bytes)
    }

    /// Copies the rest into a file, in the kernel where it can.
    pub(in crate::server) fn copy_to(&mut self, mut target: &File) -> io::Result<()> {
        while self.remaining() > 0 {
            let (mut file, begin, end) = match self
                .open
                .take_if(|(_, begin, end)| (*begin..*end).contains(&self.offset))
            {
                Some(open) => open,
                None => self.open_part()?,
            };
            file.seek(io::SeekFrom::Start(self.offset - begin))?;
            let want = end.min(self.end) - self.offset;
            if io::copy(&mut file.take(want), &mut target)? != want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.offset += want;
        }
        Ok(())
    }

    /// Opens the part that holds the offset.
    fn open_part(&self) -> io::Result<(File, u64, u64)> {
        let upload = self
            .object
            .record
            .upload
            .as_ref()
            .ok_or_else(|| io::Error::other("read past the file"))?;
        let mut begin = 0;
        for part in &upload.parts {
            let end = begin + part.size;
            if (begin..end).contains(&self.offset) {
                let file = File::open(self.object.dirs.part(&upload.id, part.number))?;
                return Ok((file, begin, end));
            }
            begin = end;
        }
        Err(io::Error::other("read past the parts"))
    }
}

impl Storage {
    /// The object's present version.
    pub(in crate::server) fn head_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Arc<Object>, Refusal> {
        self.read()
            .bucket(bucket)?
            .objects
            .get(key)
            .cloned()
            .ok_or(Refusal::NoSuchKey)
    }

    /// A reader of the object's present version, from its beginning to its end.
    pub(in crate::server) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Reader, Refusal> {
        let state = self.read();
        let bucket = state.bucket(bucket)?;
        let object = Arc::clone(bucket.objects.get(key).ok_or(Refusal::NoSuchKey)?);
        let size = object.record.size;
        let open = match object.record.upload {
            // Under the lock: the name still stands for this version.
            None => Some((File::open(bucket.dirs.object(key))?, 0, size)),
            Some(_) => None,
        };
        Ok(Reader {
            object,
            open,
            offset: 0,
            end: size,
            pool: Arc::clone(&self.buffers),
        })
    }
}
