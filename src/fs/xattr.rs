//! Extended attributes: namespaces, limits, access control lists, and the one virtual attribute.

use bytes::Bytes;
use nix::errno::Errno;

use super::{
    Acl, AclError, Caller, Fs, FsError,
    acl::{ACCESS_XATTR, DEFAULT_XATTR},
    now,
};
use crate::{
    limits::{NAME_LEN_MAX, XATTR_LIST_LEN_MAX, XATTR_VALUE_LEN_MAX},
    meta::{FileKind, Ino, MetaError, XattrMode},
};

const S_ISGID: u32 = 0o2000;

/// The attribute of a mount's root that names the control socket. It is not listed, not stored and
/// not changeable.
pub const CONTROL_XATTR: &str = "user.strongroom.control";

impl Fs {
    /// The value of [`CONTROL_XATTR`]. It needs nothing from the volume.
    pub fn control(&self) -> Option<Bytes> {
        self.inner.config.control.clone().map(Bytes::from)
    }

    /// One attribute's value.
    ///
    /// # Errors
    /// ENODATA; EOPNOTSUPP outside the known namespaces.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes, FsError> {
        if is_control(ino, name) {
            return self.control().ok_or_else(missing);
        }
        known_namespace(name)?;
        self.meta().xattr(ino, name).await?.ok_or_else(missing)
    }

    /// The names, each with its NUL, as `listxattr` returns them. Those of `trusted` are shown to
    /// root only.
    ///
    /// # Errors
    /// E2BIG if they are longer than a list may be.
    pub async fn listxattr(&self, caller: Caller, ino: Ino) -> Result<Bytes, FsError> {
        let mut list = Vec::new();
        for name in self.meta().xattr_names(ino).await? {
            if caller.uid != 0 && name.starts_with(b"trusted.") {
                continue;
            }
            list.extend_from_slice(&name);
            list.push(0);
        }
        if list.len() > XATTR_LIST_LEN_MAX {
            return Err(FsError::new(Errno::E2BIG, "listing attributes"));
        }
        Ok(Bytes::from(list))
    }

    /// Sets an attribute. `flags` are XATTR_CREATE and XATTR_REPLACE. An access control list
    /// changes the permission bits with it.
    ///
    /// # Errors
    /// EEXIST, ENODATA, ERANGE (name), E2BIG (value), EOPNOTSUPP, EINVAL, EROFS; EPERM for the
    /// virtual attribute.
    pub async fn setxattr(
        &self,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), FsError> {
        self.changeable(ino, name)?;
        known_namespace(name)?;
        if name.len() > NAME_LEN_MAX {
            return Err(FsError::new(
                Errno::ERANGE,
                "setting an attribute with so long a name",
            ));
        }
        if value.len() > XATTR_VALUE_LEN_MAX {
            return Err(FsError::new(
                Errno::E2BIG,
                "setting an attribute to so long a value",
            ));
        }
        let mode = match flags {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => {
                return Err(FsError::new(
                    Errno::EINVAL,
                    "setting an attribute with these flags",
                ));
            }
        };
        if name == ACCESS_XATTR || name == DEFAULT_XATTR {
            return self.set_acl(caller, ino, name, value, mode).await;
        }
        let _change = self.data().begin_attribute_change(ino, false).await;
        Ok(self
            .meta()
            .set_xattr(ino, name, value, mode, None, now())
            .await?)
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// ENODATA, EOPNOTSUPP, EROFS; EPERM for the virtual attribute.
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), FsError> {
        self.changeable(ino, name)?;
        known_namespace(name)?;
        let _change = self.data().begin_attribute_change(ino, false).await;
        let removed = self.meta().remove_xattr(ino, name, now()).await;
        match removed {
            // As on local filesystems, removing a list that is not there succeeds.
            Err(MetaError::NoAttribute) if name == ACCESS_XATTR || name == DEFAULT_XATTR => Ok(()),
            other => Ok(other?),
        }
    }

    fn changeable(&self, ino: Ino, name: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        if is_control(ino, name) {
            return Err(FsError::new(Errno::EPERM, "changing the control attribute"));
        }
        Ok(())
    }

    async fn set_acl(
        &self,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), FsError> {
        let acl = Acl::parse(value).map_err(|error| {
            let errno = match error {
                AclError::Version => Errno::EOPNOTSUPP,
                AclError::Invalid => Errno::EINVAL,
            };
            FsError {
                source: Some(Box::new(error)),
                ..FsError::new(errno, "setting an access control list")
            }
        })?;
        let Some(acl) = acl else {
            return self.removexattr(ino, name).await;
        };
        let record = self.record(ino).await?;
        if name == DEFAULT_XATTR {
            if record.kind != FileKind::Directory {
                return Err(FsError::new(
                    Errno::EACCES,
                    "setting a default access control list on an inode that is not a directory",
                ));
            }
            return Ok(self
                .meta()
                .set_xattr(ino, name, value, mode, None, now())
                .await?);
        }
        let (equivalent, exact) = acl.equivalent_mode();
        let mut bits = (record.mode & !0o777) | equivalent;
        if bits & S_ISGID != 0 && !caller.in_group_or_capable(record.gid) {
            bits &= !S_ISGID;
        }
        let _change = self.data().begin_attribute_change(ino, false).await;
        if !exact {
            return Ok(self
                .meta()
                .set_xattr(ino, name, value, mode, Some(bits), now())
                .await?);
        }
        // The bits express the whole list, so nothing is stored.
        if record.has_xattrs && self.meta().xattr(ino, name).await?.is_some() {
            self.meta().remove_xattr(ino, name, now()).await?;
        }
        self.meta()
            .update_inode(ino, move |inode| {
                inode.mode = bits;
                inode.ctime = now();
                Ok(())
            })
            .await?;
        Ok(())
    }
}

fn is_control(ino: Ino, name: &[u8]) -> bool {
    ino == Ino::ROOT && name == CONTROL_XATTR.as_bytes()
}

fn missing() -> FsError {
    FsError::new(Errno::ENODATA, "reading an attribute that is not set")
}

/// The kernel decides who may use which namespace; this only refuses those that cannot be stored.
fn known_namespace(name: &[u8]) -> Result<(), FsError> {
    let has_suffix = |prefix: &[u8]| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    };
    if has_suffix(b"user.")
        || has_suffix(b"trusted.")
        || has_suffix(b"security.")
        || name == ACCESS_XATTR
        || name == DEFAULT_XATTR
    {
        Ok(())
    } else {
        Err(FsError::new(
            Errno::EOPNOTSUPP,
            "using an attribute of this namespace",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_namespaces_are_known() {
        for name in [
            "user.x",
            "trusted.x",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ] {
            assert!(known_namespace(name.as_bytes()).is_ok(), "{name}");
        }
        for name in ["user.", "system.x", "x", "btrfs.compression", ""] {
            assert_eq!(
                known_namespace(name.as_bytes()).unwrap_err().errno,
                Errno::EOPNOTSUPP,
                "{name}"
            );
        }
    }
}
