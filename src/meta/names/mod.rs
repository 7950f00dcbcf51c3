//! Names and inodes: the operations on the tree.

mod entries;
mod inode;
mod lookup;
mod read_along;
mod rename;
pub(super) mod replaced;
pub(super) mod rules;
mod xattr;

pub use entries::{NewInode, Removal};
pub use rename::{RenameMode, RenameSource};
pub use xattr::XattrMode;
