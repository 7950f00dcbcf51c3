//! One object's way into the store: it is sealed (`writer.rs`), a machine without I/O says what to
//! ask of the store (`machine.rs`), and a driver asks it (`send.rs`).

mod machine;
mod send;
mod writer;

#[cfg(test)]
pub(crate) use machine::{Answer, Denial, Request, Step, Upload};
pub(crate) use writer::{ObjectWriter, PART_SLACK, Unfinished, sealed_bound};
