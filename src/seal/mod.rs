//! Keys, key slots, the sealed-object codec, and the object store that seals what SlateDB writes.
//!
//! Promises: what it returns was authenticated; an object's key is used for that object only and
//! every nonce under it once; secrets are zeroized on drop and have no `Debug` that shows them.
//! Never: talks to the kernel, knows what a file is. `docs/format.md` describes every byte.

pub mod codec;
pub mod keys;
pub mod object_store;
pub mod volume;

mod error;
#[cfg(test)]
mod vectors;
pub use error::SealError;
