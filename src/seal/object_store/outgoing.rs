//! Payloads and attributes as they leave.

use bytes::Bytes;
use object_store::{Attribute, Attributes, PutPayload};

use crate::seal::codec::{Layout, META_FRAME_LOG2, Sealer};

/// The one attribute that goes out, unsealed: a random number with a time in it, by which SlateDB
/// recognises its own object after an answer was lost.
pub(super) const PUT_ID: &str = "slatedbputid";

/// The payload and the bytes that follow it, sealed.
pub(super) fn seal(mut sealer: Sealer, payload: &PutPayload, trailer: &[u8]) -> Bytes {
    let layout = Layout {
        frame_log2: META_FRAME_LOG2,
        plaintext_len: (payload.content_length() + trailer.len()) as u64,
    };
    let mut sealed = Vec::with_capacity(usize::try_from(layout.stored_len()).unwrap_or_default());
    for piece in payload {
        sealer.push(piece, &mut sealed);
    }
    sealer.push(trailer, &mut sealed);
    sealer.finish(&mut sealed);
    Bytes::from(sealed)
}

/// The attributes as user metadata. Only the put id may leave unsealed.
pub(super) fn outgoing(attributes: &Attributes) -> object_store::Result<Vec<(String, String)>> {
    attributes
        .iter()
        .map(|(attribute, value)| match attribute {
            Attribute::Metadata(name) if name == PUT_ID => {
                Ok((name.to_string(), value.to_string()))
            }
            _ => Err(unsupported("attributes other than SlateDB's put id")),
        })
        .collect()
}

pub(super) fn unsupported(what: &'static str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: what.into(),
    }
}
