//! Which names are allowed, and how names count as links and as entries of directories.

use crate::{
    limits::NAME_LEN_MAX,
    meta::{Inode, MetaError, Timestamp},
};

/// Links of one inode, at most, and so subdirectories of one directory.
const LINKS_MAX: u32 = u32::MAX - 1;

pub(in crate::meta) fn check_name(name: &[u8]) -> Result<(), MetaError> {
    if name.len() > NAME_LEN_MAX {
        return Err(MetaError::Limit("names are at most 255 bytes long"));
    }
    if name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|byte| matches!(byte, 0 | b'/'))
    {
        return Err(MetaError::Limit(
            "not a name: empty, '.', '..', or with NUL or '/' in it",
        ));
    }
    Ok(())
}

/// Adds one link.
pub(in crate::meta) fn add_link(inode: &mut Inode) -> Result<(), MetaError> {
    if inode.nlink >= LINKS_MAX {
        return Err(MetaError::TooManyLinks(inode.ino));
    }
    inode.nlink += 1;
    Ok(())
}

/// The parent directory after a name was added (+1), removed (-1) or replaced (0) in it.
pub(in crate::meta) fn touched_parent(
    parent: &Inode,
    entries: i64,
    subdirectories: i64,
    now: Timestamp,
) -> Result<Inode, MetaError> {
    let mut parent = parent.clone();
    parent.entries = parent.entries.saturating_add_signed(entries);
    if subdirectories > 0 {
        add_link(&mut parent)?;
    } else if subdirectories < 0 {
        parent.nlink = parent.nlink.saturating_sub(1);
    }
    (parent.mtime, parent.ctime) = (now, now);
    Ok(parent)
}
