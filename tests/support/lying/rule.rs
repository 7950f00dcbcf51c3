//! Rules: which requests are lied to, and how often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    lie::{KeyFilter, Lie},
    request::{Kind, Op, Request},
};

/// A lie and the requests that it is told to.
pub struct Rule {
    ops: Vec<Op>,
    kinds: Vec<Kind>,
    keys: Option<KeyFilter>,
    only_conditional: bool,
    asked_min: u64,
    skip: u64,
    times: u64,
    lasting: Option<Duration>,
    pub(super) lie: Lie,
}

impl Rule {
    /// For requests of these operations.
    pub fn on(ops: impl Into<Vec<Op>>) -> Rule {
        Rule {
            ops: ops.into(),
            kinds: Vec::new(),
            keys: None,
            only_conditional: false,
            asked_min: 0,
            skip: 0,
            times: 0,
            lasting: None,
            lie: Lie::ResetBefore,
        }
    }

    /// Only about objects of these kinds.
    pub fn of(mut self, kinds: impl Into<Vec<Kind>>) -> Rule {
        self.kinds = kinds.into();
        self
    }

    /// Only about these keys.
    pub fn keys(mut self, keys: impl Fn(&str) -> bool + Send + Sync + 'static) -> Rule {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// Only with a condition.
    pub fn conditional(mut self) -> Rule {
        self.only_conditional = true;
        self
    }

    /// Only if so many bytes of an object are asked for.
    pub fn asking_for(mut self, bytes: u64) -> Rule {
        self.asked_min = bytes;
        self
    }

    /// The first `skip` that fit are treated honestly.
    pub fn skip(mut self, skip: u64) -> Rule {
        self.skip = skip;
        self
    }

    /// Tells `lie` this often.
    pub fn times(mut self, times: u64, lie: Lie) -> Rule {
        (self.times, self.lie) = (times, lie);
        self
    }

    /// Tells `lie` once.
    pub fn once(self, lie: Lie) -> Rule {
        self.times(1, lie)
    }

    /// Tells `lie` until healed.
    pub fn always(self, lie: Lie) -> Rule {
        self.times(u64::MAX, lie)
    }

    /// Tells `lie` for this long.
    pub fn lasting(mut self, time: Duration, lie: Lie) -> Rule {
        self.lasting = Some(time);
        self.always(lie)
    }
}

/// A rule in force.
pub(super) struct Active {
    pub(super) rule: Rule,
    since: Instant,
    seen: AtomicU64,
    fired: AtomicU64,
}

impl Active {
    pub(super) fn new(rule: Rule) -> Active {
        Active {
            rule,
            since: Instant::now(),
            seen: AtomicU64::new(0),
            fired: AtomicU64::new(0),
        }
    }

    /// Does it treat this request? Counts it if so.
    pub(super) fn takes(&self, request: &Request) -> bool {
        let rule = &self.rule;
        let fits = rule.ops.contains(&request.op)
            && (rule.kinds.is_empty() || rule.kinds.contains(&request.kind))
            && rule.keys.as_ref().is_none_or(|keys| keys(&request.key))
            && (!rule.only_conditional || request.is_conditional())
            && (rule.asked_min == 0 || request.asked_bytes() >= rule.asked_min)
            && rule.lasting.is_none_or(|time| self.since.elapsed() < time);
        if !fits || self.seen.fetch_add(1, Ordering::Relaxed) < rule.skip {
            return false;
        }
        let another = |fired| (fired < rule.times).then_some(fired + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.fired.fetch_update(set, get, another).is_ok()
    }
}

/// The count of a rule's applications.
pub struct Fired(pub(super) Arc<Active>);

impl Fired {
    pub fn count(&self) -> u64 {
        self.0.fired.load(Ordering::Relaxed)
    }

    /// Waits until it was applied at least once.
    pub fn wait(&self, patience: Duration) -> bool {
        let began = Instant::now();
        while self.count() == 0 {
            if began.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}
