//! POSIX over [`crate::meta`] and [`crate::data`].
