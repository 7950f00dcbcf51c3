//! How fast the store is from here: the latency of small requests, and the bandwidth of one.

use std::time::Duration;

use super::{
    refusal::untried,
    report::{Check, Outcome},
    sheet::Sheet,
};
use crate::{
    store::{
        S3Url,
        probe::{Carried, Probe, ProbeFailure},
    },
    telemetry::human_size,
};

const MIB: usize = 1 << 20;
/// The first object. A second one is larger where this one was quick.
const FIRST_LEN: usize = MIB;
/// The second object is to take about so long, each way.
const SECOND_TAKES: Duration = Duration::from_millis(700);
const SECOND_LEN_MAX: usize = 16 * MIB;

/// Each fsync waits for at least one request.
const LATENCY_HIGH: Duration = Duration::from_millis(400);
/// A backup of 100 GiB takes more than a day.
const BANDWIDTH_LOW: u64 = 1 << 20;

/// Measures both.
pub(super) async fn measure(sheet: &Sheet<'_>, probe: &Probe<'_>, url: &S3Url) {
    if !sheet.is_well(Check::Get) {
        return sheet.skip_all(&[Check::Latency, Check::Bandwidth], "it needs 'get'");
    }
    let small = async {
        match probe.latencies().await {
            Ok(took) => {
                let latency = median(took);
                (latency_outcome(latency), Some(latency))
            }
            Err(failure) => (untried(failure, url), None),
        }
    };
    let latency = sheet.check(Check::Latency, small).await.flatten();
    sheet.measured(|measured| {
        measured.latency_us = latency.map(|latency| whole(latency.as_micros()));
    });
    let large = async {
        match carry(probe).await {
            Ok((len, carried)) => {
                let rates = (rate(len, carried.up), rate(len, carried.down));
                (bandwidth_outcome(len, rates), Some(rates))
            }
            Err(failure) => (untried(failure, url), None),
        }
    };
    if let Some((up, down)) = sheet.check(Check::Bandwidth, large).await.flatten() {
        sheet.measured(|measured| {
            measured.upload_bytes_per_second = Some(up);
            measured.download_bytes_per_second = Some(down);
        });
    }
}

async fn carry(probe: &Probe<'_>) -> Result<(usize, Carried), ProbeFailure> {
    let first = probe.carry(FIRST_LEN).await?;
    let len = second_len(first.up.max(first.down));
    if len <= FIRST_LEN {
        return Ok((FIRST_LEN, first));
    }
    Ok((len, probe.carry(len).await?))
}

/// The length of the second object, whole MiB, where the slower way of the first one took so long.
fn second_len(took: Duration) -> usize {
    let times = SECOND_TAKES.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let mib = times.clamp(0.0, (SECOND_LEN_MAX / MIB) as f64) as usize;
    mib * MIB
}

/// Bytes a second.
fn rate(len: usize, took: Duration) -> u64 {
    (len as f64 / took.as_secs_f64().max(1e-6)) as u64
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn latency_outcome(latency: Duration) -> Outcome {
    let found = format!(
        "{:.1} ms for a small request, the median of some",
        latency.as_secs_f64() * 1e3
    );
    match latency > LATENCY_HIGH {
        true => Outcome::warning(
            format!("{found}: each fsync waits for at least one"),
            "use a region, or a store, that is nearer",
        ),
        false => Outcome::ok(found),
    }
}

fn bandwidth_outcome(len: usize, (up, down): (u64, u64)) -> Outcome {
    let found = format!(
        "{}/s up and {}/s down in one request of {}; a mount sends several at once",
        human_size(up),
        human_size(down),
        human_size(len as u64)
    );
    match up.min(down) < BANDWIDTH_LOW {
        true => Outcome::warning(
            found,
            "expect backups to take long; see what else uses the line",
        ),
        false => Outcome::ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::doctor::report::Verdict;

    #[test]
    fn the_second_object_is_as_large_as_the_line_is_fast() {
        let mib = |ms| second_len(Duration::from_millis(ms)) / MIB;
        assert_eq!(
            [mib(0), mib(1), mib(69), mib(340), mib(701)],
            [16, 16, 10, 2, 0]
        );
    }

    #[test]
    fn the_middle_of_the_latencies_counts() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(900), ms(3), ms(5)]), ms(5));
        assert_eq!(median(Vec::new()), Duration::ZERO);
        assert_eq!(latency_outcome(ms(400)).verdict, Verdict::Ok);
        assert_eq!(latency_outcome(ms(401)).verdict, Verdict::Warning);
    }

    #[test]
    fn the_slower_way_is_judged() {
        let of = |up, down| bandwidth_outcome(MIB, (up, down)).verdict;
        assert_eq!(rate(MIB, Duration::from_secs(2)), 512 << 10);
        assert_eq!(of(1 << 20, 1 << 20), Verdict::Ok);
        assert_eq!(of(1 << 30, (1 << 20) - 1), Verdict::Warning);
        assert_eq!(of((1 << 20) - 1, 1 << 30), Verdict::Warning);
    }
}
