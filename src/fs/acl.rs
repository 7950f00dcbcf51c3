//! POSIX access control lists in their xattr form (version 2), and how they and the permission bits
//! follow each other.
//!
//! The kernel checks access and validates the lists that applications set; this side keeps lists
//! and bits in step, as `posix_acl_update_mode`, `posix_acl_chmod` and `posix_acl_create` do for
//! local filesystems. The form: a little-endian u32 version, then entries of u16 tag, u16
//! permissions, u32 id.

const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;
const HEADER_LEN: usize = 4;
/// The id of entries that name neither a user nor a group.
const NO_ID: u32 = u32::MAX;

/// The xattr of the list that is checked.
pub const ACCESS_XATTR: &[u8] = b"system.posix_acl_access";
/// The xattr of the list that new entries of a directory inherit.
pub const DEFAULT_XATTR: &[u8] = b"system.posix_acl_default";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    UserObj = 0x01,
    User = 0x02,
    GroupObj = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

impl Tag {
    fn parse(value: u16) -> Option<Tag> {
        [
            Tag::UserObj,
            Tag::User,
            Tag::GroupObj,
            Tag::Group,
            Tag::Mask,
            Tag::Other,
        ]
        .into_iter()
        .find(|tag| *tag as u16 == value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    perm: u16,
    id: u32,
}

/// Why bytes are not a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// EOPNOTSUPP.
    #[error("an access control list of an unknown version")]
    Version,
    /// EINVAL.
    #[error("not a valid access control list")]
    Invalid,
}

/// A valid list: entries in order, one owner, one group, one other, at most one mask, and a mask
/// where somebody is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads the xattr form; `None` is the empty list, which means removal.
    ///
    /// # Errors
    /// [`AclError`] if the bytes are no valid list.
    pub fn parse(bytes: &[u8]) -> Result<Option<Acl>, AclError> {
        let (version, rest) = bytes
            .split_at_checked(HEADER_LEN)
            .ok_or(AclError::Invalid)?;
        if version != VERSION.to_le_bytes() {
            return Err(AclError::Version);
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let chunks = rest.chunks_exact(ENTRY_LEN);
        if !chunks.remainder().is_empty() {
            return Err(AclError::Invalid);
        }
        let entries = chunks.map(parse_entry).collect::<Result<Vec<_>, _>>()?;
        let acl = Acl { entries };
        if acl.is_valid() {
            Ok(Some(acl))
        } else {
            Err(AclError::Invalid)
        }
    }

    /// The xattr form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + ENTRY_LEN * self.entries.len());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// The permission bits that this list shows as, and whether they express the whole list.
    pub fn equivalent_mode(&self) -> (u32, bool) {
        let mut mode = 0;
        let mut exact = true;
        for entry in &self.entries {
            let perm = u32::from(entry.perm);
            match entry.tag {
                Tag::UserObj => mode |= perm << 6,
                Tag::GroupObj => mode |= perm << 3,
                Tag::Other => mode |= perm,
                Tag::Mask => {
                    mode = (mode & !0o070) | (perm << 3);
                    exact = false;
                }
                Tag::User | Tag::Group => exact = false,
            }
        }
        (mode, exact)
    }

    /// Follows a chmod: owner and other take their bits, and the mask takes the group's bits (the
    /// owning group does where there is no mask).
    pub fn chmod(&mut self, mode: u32) {
        let masked = self.has(Tag::Mask);
        for entry in &mut self.entries {
            match entry.tag {
                Tag::UserObj => entry.perm = bits(mode >> 6),
                Tag::Mask => entry.perm = bits(mode >> 3),
                Tag::GroupObj if !masked => entry.perm = bits(mode >> 3),
                Tag::Other => entry.perm = bits(mode),
                Tag::User | Tag::GroupObj | Tag::Group => {}
            }
        }
    }

    /// Makes a directory's default list the access list of an inode created in it with `mode`: each
    /// is limited by the other. Returns the permission bits, and whether they express the whole
    /// list, which then need not be stored.
    pub fn inherit(&mut self, mode: u32) -> (u32, bool) {
        let masked = self.has(Tag::Mask);
        for entry in &mut self.entries {
            match entry.tag {
                Tag::UserObj => entry.perm &= bits(mode >> 6),
                Tag::Mask => entry.perm &= bits(mode >> 3),
                Tag::GroupObj if !masked => entry.perm &= bits(mode >> 3),
                Tag::Other => entry.perm &= bits(mode),
                Tag::User | Tag::GroupObj | Tag::Group => {}
            }
        }
        let (equivalent, exact) = self.equivalent_mode();
        ((mode & !0o777) | equivalent, exact)
    }

    fn has(&self, tag: Tag) -> bool {
        self.entries.iter().any(|entry| entry.tag == tag)
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Group);
        self.entries.is_sorted_by_key(|entry| entry.tag)
            && [Tag::UserObj, Tag::GroupObj, Tag::Other]
                .into_iter()
                .all(|tag| count(tag) == 1)
            && count(Tag::Mask) <= 1
            && (named == 0 || count(Tag::Mask) == 1)
            && self
                .entries
                .iter()
                .all(|entry| entry.id != NO_ID || !matches!(entry.tag, Tag::User | Tag::Group))
    }
}

fn bits(mode: u32) -> u16 {
    (mode & 0o7) as u16
}

fn parse_entry(bytes: &[u8]) -> Result<Entry, AclError> {
    let &[t0, t1, p0, p1, i0, i1, i2, i3] = bytes else {
        return Err(AclError::Invalid);
    };
    let tag = Tag::parse(u16::from_le_bytes([t0, t1])).ok_or(AclError::Invalid)?;
    let perm = u16::from_le_bytes([p0, p1]);
    if perm & !0o7 != 0 {
        return Err(AclError::Invalid);
    }
    let id = match tag {
        Tag::User | Tag::Group => u32::from_le_bytes([i0, i1, i2, i3]),
        Tag::UserObj | Tag::GroupObj | Tag::Mask | Tag::Other => NO_ID,
    };
    Ok(Entry { tag, perm, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(Tag, u16, u32)]) -> Acl {
        Acl {
            entries: entries
                .iter()
                .map(|&(tag, perm, id)| Entry { tag, perm, id })
                .collect(),
        }
    }

    fn named() -> Acl {
        acl(&[
            (Tag::UserObj, 7, NO_ID),
            (Tag::User, 6, 1000),
            (Tag::GroupObj, 5, NO_ID),
            (Tag::Mask, 7, NO_ID),
            (Tag::Other, 0, NO_ID),
        ])
    }

    fn minimal() -> Acl {
        acl(&[
            (Tag::UserObj, 6, NO_ID),
            (Tag::GroupObj, 4, NO_ID),
            (Tag::Other, 4, NO_ID),
        ])
    }

    #[test]
    fn the_xattr_form_survives_a_round_trip() {
        for list in [named(), minimal()] {
            assert_eq!(Acl::parse(&list.encode()), Ok(Some(list)));
        }
    }

    #[test]
    fn the_xattr_form_is_the_kernels() {
        let mut expected = vec![2, 0, 0, 0];
        expected.extend_from_slice(&[1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff]);
        expected.extend_from_slice(&[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff]);
        expected.extend_from_slice(&[0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(minimal().encode(), expected);
    }

    #[test]
    fn an_empty_list_means_removal() {
        assert_eq!(Acl::parse(&[2, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(Acl::parse(b""), Err(AclError::Invalid));
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(AclError::Version));
        let good = named().encode();
        assert_eq!(Acl::parse(&good[..good.len() - 1]), Err(AclError::Invalid));
        let without_mask: Vec<_> = named()
            .entries
            .into_iter()
            .filter(|entry| entry.tag != Tag::Mask)
            .collect();
        assert_eq!(
            Acl::parse(
                &Acl {
                    entries: without_mask
                }
                .encode()
            ),
            Err(AclError::Invalid)
        );
        let mut unordered = minimal();
        unordered.entries.reverse();
        assert_eq!(Acl::parse(&unordered.encode()), Err(AclError::Invalid));
        let two_owners = acl(&[
            (Tag::UserObj, 6, NO_ID),
            (Tag::UserObj, 6, NO_ID),
            (Tag::GroupObj, 4, NO_ID),
            (Tag::Other, 4, NO_ID),
        ]);
        assert_eq!(Acl::parse(&two_owners.encode()), Err(AclError::Invalid));
        let mut odd_permission = minimal().encode();
        odd_permission[6] = 8;
        assert_eq!(Acl::parse(&odd_permission), Err(AclError::Invalid));
    }

    #[test]
    fn a_minimal_list_is_its_permission_bits() {
        assert_eq!(minimal().equivalent_mode(), (0o644, true));
    }

    #[test]
    fn the_mask_shows_as_the_groups_bits() {
        assert_eq!(named().equivalent_mode(), (0o770, false));
    }

    #[test]
    fn chmod_changes_the_mask_and_leaves_the_owning_group() {
        let mut list = named();
        list.chmod(0o640);
        assert_eq!(
            list,
            acl(&[
                (Tag::UserObj, 6, NO_ID),
                (Tag::User, 6, 1000),
                (Tag::GroupObj, 5, NO_ID),
                (Tag::Mask, 4, NO_ID),
                (Tag::Other, 0, NO_ID)
            ])
        );
    }

    #[test]
    fn an_inherited_list_is_limited_by_the_mode_that_was_asked_for() {
        let mut list = named();
        assert_eq!(list.inherit(0o100_644), (0o100_640, false));
        assert_eq!(
            list,
            acl(&[
                (Tag::UserObj, 6, NO_ID),
                (Tag::User, 6, 1000),
                (Tag::GroupObj, 5, NO_ID),
                (Tag::Mask, 4, NO_ID),
                (Tag::Other, 0, NO_ID)
            ])
        );
        let mut plain = minimal();
        assert_eq!(plain.inherit(0o777), (0o644, true));
    }
}
