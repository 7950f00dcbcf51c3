//! Lies: the ways in which a store can treat a request.

use std::{sync::Arc, time::Duration};

use super::{
    answer::{Answer, Change},
    endless::Endless,
};

/// Says of a key whether it is meant.
pub type KeyFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The body of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// S3's XML with this code.
    Code(&'static str),
    /// XML with another root, as a proxy on the way would send it.
    Foreign,
    Empty,
}

/// A change of a request, or of its answer.
#[derive(Clone)]
pub enum Lie {
    /// Not done, and refused.
    Refuse(u16, Form),
    /// Not done, and acknowledged.
    Pretend,
    /// Done, and refused all the same.
    RefuseAfter(u16, Form),
    /// Not done; the connection is reset.
    ResetBefore,
    /// Done; the connection is reset instead of an answer.
    ResetAfter,
    /// Held for so long, then passed on.
    Hang(Duration),
    /// Held until the store is healed.
    Withhold,
    /// Done, the answer lost, and done once more after the client's next try was answered.
    LateDuplicate,
    /// Lost, as it seems, and done after the client's next try was answered.
    Overtaken,
    /// Answered by the store at this address.
    From(std::net::SocketAddr),
    /// Conditions are ignored: what must fail succeeds.
    IgnoreCondition,
    /// The answer is changed.
    Change(Change),
    /// The object is said to hold these bytes, under the attributes that it has.
    Instead(Arc<Vec<u8>>),
    /// Another range of the same length than the one asked for, by so many bytes, under the right
    /// label.
    OtherRange(u64),
    /// Keys are left out of a listing.
    Unlist(KeyFilter),
    /// The right body, a byte at a time with this pause between.
    Drip(Duration),
    /// A body, or a head, that does not end.
    Endless(Endless),
}

impl Lie {
    pub fn refuse(status: u16, form: Form) -> Lie {
        Lie::Refuse(status, form)
    }

    /// A change of the answer.
    pub fn change(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Lie {
        Lie::Change(Arc::new(change))
    }
}
