//! The weather between clients and store: how often requests are late, lost or repeated.

use std::time::Duration;

use crate::rng::Rng;

/// The chances of each event, in so many of a thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Answered 500 or 503, without effect or after it.
    pub error: u32,
    /// Answered 403.
    pub denied: u32,
    /// Answered 404, where the object or upload is one of contents, or is to be written.
    pub missing: u32,
    /// Reads of the metadata that are answered 404, while the volume is opened.
    pub hidden: u32,
    /// Reads of the metadata that are answered 404 while the volume is mounted.
    pub stray: u32,
    /// The connection breaks before the request is carried out.
    pub reset: u32,
    /// The connection breaks after it: the answer is lost.
    pub lost: u32,
    /// No answer ever, with effect or without.
    pub silent: u32,
    /// Carried out a second time, later.
    pub duplicated: u32,
    /// The connection breaks, and the request is carried out later all the same.
    pub late: u32,
    /// The body of the answer breaks off.
    pub broken: u32,
    /// The longest time that an answer takes.
    pub latency_ms: u64,
}

impl Weather {
    pub const CALM: Weather = Weather {
        error: 0,
        denied: 0,
        missing: 0,
        hidden: 0,
        stray: 0,
        reset: 0,
        lost: 0,
        silent: 0,
        duplicated: 0,
        late: 0,
        broken: 0,
        latency_ms: 30,
    };

    /// Weather while the volume is opened: parts of the metadata are not shown.
    pub fn foggy(rng: &mut Rng) -> Weather {
        Weather {
            hidden: 1 + rng.below(250) as u32,
            ..Weather::stormy(rng)
        }
    }

    pub fn is_calm(&self) -> bool {
        let Weather {
            error,
            denied,
            missing,
            hidden,
            stray,
            reset,
            lost,
            silent,
            duplicated: _,
            late,
            broken,
            latency_ms: _,
        } = *self;
        error + denied + missing + hidden + stray + reset + lost + silent + late + broken == 0
    }

    /// Some kinds of trouble, each more or less of it.
    pub fn stormy(rng: &mut Rng) -> Weather {
        let mut some = |most: u64| match rng.permille(400) {
            true => rng.below(most) as u32,
            false => 0,
        };
        Weather {
            error: some(150),
            denied: some(30),
            missing: some(60),
            hidden: 0,
            stray: 0,
            reset: some(80),
            lost: some(120),
            silent: some(10),
            duplicated: some(200),
            late: some(80),
            broken: some(100),
            latency_ms: 5 + u64::from(some(1500)),
        }
    }
}

/// The fate of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Refused(u16, &'static str),
    DoneAndRefused,
    Reset,
    Lost,
    Silent { acts: bool },
    Duplicated(Duration),
    Late(Duration),
    Broken,
}
