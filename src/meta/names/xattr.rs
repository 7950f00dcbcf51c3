//! Extended attributes.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    limits::{NAME_LEN_MAX, XATTR_LIST_LEN_MAX, XATTR_VALUE_LEN_MAX},
    meta::{
        Ino, Meta, MetaError, Timestamp, database::backing::Scan, schema, state::change::Change,
    },
};

/// How setxattr treats an existing or missing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Set,
    /// XATTR_CREATE.
    Create,
    /// XATTR_REPLACE.
    Replace,
}

pub(in crate::meta) fn check(name: &[u8], value: &[u8]) -> Result<(), MetaError> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(&0) {
        return Err(MetaError::Limit(
            "an attribute's name has 1 to 255 bytes and no NUL",
        ));
    }
    if value.len() > XATTR_VALUE_LEN_MAX {
        return Err(MetaError::Limit(
            "an attribute's value is at most 64 KiB long",
        ));
    }
    Ok(())
}

impl Meta {
    /// One value. Answered without a read when the inode has none.
    pub async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        if !self.existing_inode(ino).await?.has_xattrs || name.len() > NAME_LEN_MAX {
            return Ok(None);
        }
        let value = self.inner.get(&schema::xattr_key(ino, name)).await?;
        value.map(|value| schema::decode_xattr(&value)).transpose()
    }

    /// All names, sorted.
    pub async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        if !self.existing_inode(ino).await?.has_xattrs {
            return Ok(Vec::new());
        }
        let mut rows = self
            .inner
            .scan(schema::xattr_range(ino), Scan::Forward)
            .await?;
        let mut names = Vec::new();
        while let Some((key, _)) = rows.next().await? {
            names.push(schema::name_of_key(&key)?);
        }
        Ok(names)
    }

    /// Sets one (64 KiB at most) and ctime; `new_mode` changes the permission bits in the same
    /// batch (ACLs).
    pub async fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        new_mode: Option<u32>,
        now: Timestamp,
    ) -> Result<(), MetaError> {
        check(name, value)?;
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        let exists = self.xattr(ino, name).await?.is_some();
        match mode {
            XattrMode::Create if exists => return Err(MetaError::AttributeExists),
            XattrMode::Replace if !exists => return Err(MetaError::NoAttribute),
            _ => {}
        }
        if !exists {
            let names_len: usize = self
                .xattr_names(ino)
                .await?
                .iter()
                .map(|name| name.len() + 1)
                .sum();
            if names_len + name.len() + 1 > XATTR_LIST_LEN_MAX {
                return Err(MetaError::Limit(
                    "the names of an inode's attributes are at most 64 KiB together",
                ));
            }
        }
        inode.has_xattrs = true;
        inode.ctime = now;
        inode.mode = new_mode.unwrap_or(inode.mode);
        let mut change = Change::default();
        change.put(schema::xattr_key(ino, name), schema::encode_xattr(value));
        change.put_inode(&Arc::new(inode));
        self.commit(change, held).await
    }

    /// Removes one, and sets ctime.
    pub async fn remove_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        let names = self.xattr_names(ino).await?;
        if !names.iter().any(|present| *present == *name) {
            return Err(MetaError::NoAttribute);
        }
        inode.has_xattrs = names.len() > 1;
        inode.ctime = now;
        let mut change = Change::default();
        change.delete(schema::xattr_key(ino, name));
        change.put_inode(&Arc::new(inode));
        self.commit(change, held).await
    }
}
