//! Space: fallocate, holes, statfs.

use nix::errno::Errno;

use super::{Caller, Fs, FsError, now};
use crate::limits::NAME_LEN_MAX;
use crate::{data::Seek, meta::Ino};

/// The size that a volume without a capacity shows, bytes. A bucket has none, so this is only large
/// enough never to stop a program (1 PiB).
const CAPACITY_BYTES: u64 = 1 << 50;
/// The inodes that a volume shows.
const CAPACITY_INODES: u64 = 1 << 40;
/// The unit of [`Space`]'s blocks, bytes.
const BLOCK_LEN: u32 = 4096;

const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;

/// The answer to `statfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block.
    pub block_len: u32,
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks not in use.
    pub blocks_free: u64,
    /// Inodes of the volume.
    pub inodes: u64,
    /// Inodes not in use.
    pub inodes_free: u64,
    /// The longest name, bytes.
    pub name_len_max: u32,
}

impl Fs {
    /// Allocates (which only extends: a bucket has room), makes a hole, or makes zeros.
    ///
    /// # Errors
    /// EOPNOTSUPP for other modes; ENOSPC beyond the capacity; EINVAL, EFBIG, EROFS, EIO.
    pub async fn fallocate(
        &self,
        caller: Caller,
        ino: Ino,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<(), FsError> {
        self.writable()?;
        let end = offset
            .checked_add(len)
            .ok_or_else(|| FsError::new(Errno::EFBIG, "allocating beyond the largest offset"))?;
        if len == 0 {
            return Err(FsError::new(Errno::EINVAL, "allocating nothing"));
        }
        let (zeroes, keeps_size) = match mode {
            0 => (false, false),
            KEEP_SIZE => (false, true),
            ZERO_RANGE => (true, false),
            mode if mode == PUNCH_HOLE | KEEP_SIZE || mode == ZERO_RANGE | KEEP_SIZE => {
                (true, true)
            }
            _ => return Err(FsError::new(Errno::EOPNOTSUPP, "allocating in this mode")),
        };
        // ext4 does so too, even where nothing is left to be allocated.
        if !caller.keeps_set_id() {
            self.drop_set_id(ino).await?;
        }
        let size = self.getattr(ino).await?.size;
        if !zeroes {
            self.room_for(end.saturating_sub(offset.max(size)))?;
        }
        if zeroes && offset < size {
            self.data()
                .punch_hole(ino, offset..end.min(size), now())
                .await?;
        }
        if !keeps_size && end > size {
            self.truncate(caller, ino, end, now()).await?;
        }
        Ok(())
    }

    /// SEEK_DATA and SEEK_HOLE.
    ///
    /// # Errors
    /// ENXIO beyond the end, or if no data follows; EINVAL for another `whence`.
    pub async fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> Result<u64, FsError> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(FsError::new(Errno::EINVAL, "seeking in this way")),
        };
        let beyond = || FsError::new(Errno::ENXIO, "seeking beyond the end");
        let offset = u64::try_from(offset).map_err(|_| beyond())?;
        self.data()
            .seek(ino, offset, what)
            .await?
            .ok_or_else(beyond)
    }

    /// Bytes of the volume's files, those that are not committed yet included.
    fn used_bytes(&self) -> u64 {
        self.meta()
            .totals()
            .bytes
            .saturating_add(self.data().dirty_bytes())
    }

    /// Whether the volume may grow by so many bytes. Bytes that replace others count twice until
    /// they are committed, so a full volume refuses them too.
    ///
    /// # Errors
    /// ENOSPC.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), FsError> {
        match self.inner.config.capacity {
            Some(capacity) if self.used_bytes().saturating_add(bytes) > capacity => {
                Err(FsError::new(Errno::ENOSPC, "growing beyond --capacity"))
            }
            _ => Ok(()),
        }
    }

    /// The volume's size and use.
    pub fn statfs(&self) -> Space {
        let block = u64::from(BLOCK_LEN);
        let used = self.used_bytes().div_ceil(block);
        let blocks = match self.inner.config.capacity {
            Some(capacity) => (capacity / block).max(used),
            // A volume that outgrows the size shown goes on growing.
            None => (CAPACITY_BYTES / block).max(used.saturating_mul(2)),
        };
        Space {
            block_len: BLOCK_LEN,
            blocks,
            blocks_free: blocks - used,
            inodes: CAPACITY_INODES,
            inodes_free: CAPACITY_INODES.saturating_sub(self.meta().totals().inodes),
            name_len_max: NAME_LEN_MAX as u32,
        }
    }
}
