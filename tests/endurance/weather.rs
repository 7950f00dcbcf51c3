//! The store's weather, for some seconds at a time: it refuses, loses, repeats and delays requests.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use crate::{
    stage::Stage,
    support::{
        lying::{
            Form, Kind, Lie, LyingStore, Op, Rule,
            answer::broken,
            request::{ALL, REPEATABLE, WRITES},
        },
        random::Random,
    },
};

/// Spells by kind, and the requests that each of them hit.
#[derive(Default)]
pub struct Weather {
    spells: Mutex<BTreeMap<&'static str, (u64, u64)>>,
}

fn refuse(status: u16, code: &'static str) -> Lie {
    Lie::refuse(status, Form::Code(code))
}

/// A kind of weather, the rule that makes it, and how long it lasts at most.
type Spell = (&'static str, Rule, Duration);

fn spell(random: &mut Random) -> Spell {
    let seconds = |random: &mut Random, least: u64, most: u64| {
        Duration::from_millis(random.between(least * 1000, most * 1000))
    };
    let few = random.between(1, 6);
    let short = Duration::from_secs(3);
    let long = seconds(random, 3, 10);
    let data = [Op::Put, Op::Create, Op::UploadPart, Op::Complete];
    match random.below(12) {
        0 => (
            "503",
            Rule::on(ALL).times(few, refuse(503, "SlowDown")),
            short,
        ),
        1 => (
            "outage, 503",
            Rule::on(ALL).lasting(long, refuse(503, "SlowDown")),
            long,
        ),
        2 => (
            "403 to writes",
            Rule::on(WRITES).lasting(long, refuse(403, "AccessDenied")),
            long,
        ),
        3 => (
            "404 to writes of data",
            Rule::on(data)
                .of([Kind::Data])
                .times(few, refuse(404, "NoSuchKey")),
            short,
        ),
        4 => (
            "500, done all the same",
            Rule::on(WRITES).times(few, Lie::RefuseAfter(500, Form::Code("InternalError"))),
            short,
        ),
        5 => ("reset", Rule::on(ALL).times(few, Lie::ResetBefore), short),
        6 => (
            "answer lost",
            Rule::on(ALL).times(few, Lie::ResetAfter),
            short,
        ),
        7 => (
            "outage, no answer",
            Rule::on(ALL).lasting(long, Lie::Withhold),
            long,
        ),
        8 => (
            "late duplicate",
            Rule::on(REPEATABLE).times(few, Lie::LateDuplicate),
            short,
        ),
        9 => (
            "overtaken",
            Rule::on([Op::Put, Op::UploadPart]).times(few, Lie::Overtaken),
            short,
        ),
        10 => (
            "body broken off",
            Rule::on([Op::Get]).times(few, Lie::change(broken::cut_off)),
            short,
        ),
        _ => (
            "slow",
            Rule::on(ALL).lasting(long, Lie::Hang(Duration::from_millis(300))),
            long,
        ),
    }
}

impl Weather {
    /// Changes until all is over, and leaves a healthy store.
    pub fn blow(&self, store: &LyingStore, stage: &Stage, mut random: Random) {
        while !stage.is_over() {
            stage.pause(Duration::from_millis(random.between(3_000, 12_000)));
            if stage.is_over() {
                return;
            }
            let (name, rule, length) = spell(&mut random);
            let fired = store.lie(rule);
            stage.pause(length);
            store.heal();
            let mut spells = self.spells.lock().expect("weather");
            let (times, requests) = spells.entry(name).or_default();
            *times += 1;
            *requests += fired.count();
        }
    }

    /// Kind, spells, requests.
    pub fn spells(&self) -> Vec<(&'static str, u64, u64)> {
        let spells = self.spells.lock().expect("weather");
        spells
            .iter()
            .map(|(name, (times, requests))| (*name, *times, *requests))
            .collect()
    }

    pub fn requests_hit(&self) -> u64 {
        self.spells().iter().map(|(_, _, requests)| requests).sum()
    }
}
