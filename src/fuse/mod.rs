//! Translation between the kernel and [`crate::fs`].
