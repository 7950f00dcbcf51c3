//! A recording of the requests to the store, as HAR 1.2, and its way back: `mount --record FILE`,
//! `serve --replay FILE`.
//!
//! Promises: no secret, name, address or content can get in, because an [`Exchange`] holds numbers,
//! words of closed lists, and hashes under a key that is made when the recording begins and never
//! written. It is scrubbed as it is recorded; there is no unscrubbed copy. The file is one whole
//! HAR document at every moment, also after `kill -9`, and never larger than it may be. Memory is
//! fixed when the recording begins. A disk that is full or slow costs entries, which are counted,
//! and nothing else.
//! Never: holds up a request; writes over a file that is no recording; is durable beyond what the
//! kernel writes by itself.
//!
//! | file | what it holds |
//! |---|---|
//! | `exchange.rs` | one request and its answer, and all the words for them |
//! | `request.rs`, `kind.rs` | the operation of a request, and the kind of object that it is about, from the request itself |
//! | `pseudonyms.rs` | the recording's key: names for keys, hashes of bodies |
//! | `har.rs` | an exchange as HAR |
//! | `place.rs`, `ring.rs` | the file: whose it is, and its pages |
//! | `recorder.rs` | the queue, and the thread that writes |
//! | `copy.rs` | what is left of a recording, in a whole document without gaps |
//! | `script.rs` | a recording as a list of fates, for the server that replays it |

mod copy;
mod exchange;
mod har;
mod kind;
mod place;
mod pseudonyms;
mod recorder;
mod request;
mod ring;
mod script;

pub use copy::{Copied, copy};
pub use exchange::{Answer, Condition, Exchange, Fault, Form, Moved, Operation, Span, code_in};
pub use kind::{Kind, kind_of};
pub use place::{PlaceError, RecordFile};
pub use pseudonyms::{BodyHash, KeyName, Pseudonyms};
pub use recorder::{MEMORY_BYTES, RecordPlan, Recorder, RecordingStatus, SIZE_MIN_BYTES};
pub use request::{Target, target};
pub use script::{End, Fate, Script, ScriptError};
