//! Keys, key slots, the sealed-object codec, and the object store that seals what SlateDB writes.
//!
//! Promises: every byte that it returns was authenticated. An object's key is used for that object
//! only, and every nonce under it once. Secrets are zeroized on drop, and no `Debug` shows them.
//! Never: talks to the kernel, knows what a file is. `docs/format.md` describes every byte.

pub mod codec;
pub mod keys;
pub mod object_store;
pub mod volume;

mod error;
mod older;
#[cfg(test)]
mod vectors;
pub use error::SealError;
pub use older::{OlderObject, older_objects};
