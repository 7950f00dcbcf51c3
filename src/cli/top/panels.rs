//! The contents of each section.

use std::{collections::VecDeque, time::Duration};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style},
    text::{Line, Span},
    widgets::{Paragraph, RenderDirection, Sparkline},
};

use super::{
    app::App,
    rates::OperationRate,
    style::{BAD, BOLD, DIM},
    waits::waits,
};
use crate::{
    session::{activity::Activity, status::StatusReport},
    telemetry::{human_size, shown},
};

/// A change that is older than this is shown in red.
const LAG_IS_HIGH_MS: u64 = 60_000;

/// A lease that is older than this is shown in red; it lasts 90 s.
const LEASE_IS_OLD_MS: u64 = 60_000;

/// Longer texts of the mount's are cut.
const TEXT_CHARS_MAX: usize = 500;

/// The width of a rate beside its sparkline.
const RATE_CHARS: u16 = 28;

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    Throughput,
    Durability,
    Memory,
    Latency,
    Waits,
    Files,
}

impl Panel {
    pub fn title(self, app: &App) -> String {
        match self {
            Panel::Throughput => "Throughput".to_owned(),
            Panel::Durability => "Not stored, caches, errors".to_owned(),
            Panel::Memory => "Memory".to_owned(),
            Panel::Latency => "Latency".to_owned(),
            Panel::Waits => "What waits for what".to_owned(),
            Panel::Files => format!("Busiest files by {}", app.sort.name()),
        }
    }
}

/// Draws what stands below a section's title.
pub fn draw(frame: &mut Frame<'_>, app: &App, panel: Panel, area: Rect) {
    if panel == Panel::Throughput {
        return throughput(frame, app, area);
    }
    let Some((_, activity)) = &app.watched.last else {
        return;
    };
    let lines = match panel {
        Panel::Throughput => return,
        Panel::Durability => durability(app, &activity.status),
        Panel::Memory => memory(&activity.status, area.width),
        Panel::Latency => latency(app, activity),
        Panel::Waits => waiting(activity),
        Panel::Files => files(app, area.width),
    };
    frame.render_widget(Paragraph::new(lines), area);
}

fn throughput(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (rates, past) = (&app.watched.rates, &app.watched.past);
    let rows = [
        ("programs read", rates.read, &past.read, Color::Cyan),
        (
            "programs write",
            rates.written,
            &past.written,
            Color::Yellow,
        ),
        (
            "from the store",
            rates.received,
            &past.received,
            Color::Cyan,
        ),
        ("to the store", rates.sent, &past.sent, Color::Yellow),
    ];
    let lines = Layout::vertical(rows.map(|_| Constraint::Length(1))).split(area);
    for ((name, rate, past, colour), line) in rows.into_iter().zip(lines.iter()) {
        let columns = [Constraint::Length(RATE_CHARS), Constraint::Min(0)];
        let [text, graph] = Layout::horizontal(columns).areas(*line);
        let label = Span::raw(format!(" {name:<15}"));
        let value = Span::styled(format!("{:>10}", per_second(rate)), BOLD);
        frame.render_widget(Line::from(vec![label, value]), text);
        sparkline(frame, past, colour, graph);
    }
}

/// The newest value stands at the right.
fn sparkline(frame: &mut Frame<'_>, past: &VecDeque<u64>, colour: Color, area: Rect) {
    let graph = Sparkline::default()
        .data(past.iter().copied())
        .direction(RenderDirection::RightToLeft)
        .style(Style::new().fg(colour));
    frame.render_widget(graph, area);
}

fn durability(app: &App, status: &StatusReport) -> Vec<Line<'static>> {
    let (durability, rates) = (&status.durability, &app.watched.rates);
    let oldest = durability.oldest_change_ms();
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let mut lines = vec![Line::from(vec![
        Span::raw(" not stored  "),
        Span::styled(human_size(durability.dirty_bytes), BOLD),
        Span::raw(", oldest "),
        alarm(seconds(oldest), oldest > LAG_IS_HIGH_MS),
    ])];
    lines.push(Line::from(vec![
        Span::raw(" cache hits  "),
        Span::raw(format!("memory {}", percent(rates.memory_cache))),
        Span::raw(match status.disk_cache {
            Some(_) => format!(", disk {}", percent(rates.disk_cache)),
            None => ", no disk cache".to_owned(),
        }),
    ]));
    lines.push(Line::from(vec![
        Span::raw(" errors/s    "),
        alarm(
            format!("{} to programs", small(rates.fuse_errors)),
            rates.fuse_errors > 0.0,
        ),
        Span::raw(", "),
        alarm(
            format!("{} retries", small(rates.retries)),
            rates.retries > 0.0,
        ),
    ]));
    let failed: Vec<String> = [
        (counter("authentication_failures"), "not authentic"),
        (counter("missing_objects"), "missing"),
        (durability.lost_files, "files lost"),
        (counter("store_errors"), "failed for good"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    lines.push(match failed.is_empty() {
        true => Line::raw(" nothing damaged, missing or lost"),
        false => Line::styled(format!(" since mount {}", failed.join(", ")), BAD),
    });
    if let Some(lease) = &status.lease {
        let age = lease.confirmed_ms_ago;
        let state = shown(&lease.state, TEXT_CHARS_MAX);
        lines.push(Line::from(vec![
            Span::raw(format!(" lease       {state}, confirmed ")),
            alarm(seconds(age), age > LEASE_IS_OLD_MS),
            Span::raw(" ago"),
        ]));
    }
    let link = &status.link;
    let latency = link
        .latency_us
        .map(|us| duration(Some(Duration::from_micros(us))));
    let bandwidth = link.bytes_per_second.map(|bytes| per_second(bytes as f64));
    if let (Some(latency), Some(bandwidth)) = (latency, bandwidth) {
        lines.push(Line::raw(format!(" link        {latency}, {bandwidth}")));
    }
    lines
}

/// The owners with the most first, each with a bar as long as its part of the limit.
fn memory(status: &StatusReport, width: u16) -> Vec<Line<'static>> {
    let memory = &status.memory;
    let limit = memory.limit_bytes.max(1);
    let share = memory.rss_bytes as f64 / limit as f64;
    let mut lines = vec![Line::from(vec![
        Span::raw(" resident   "),
        alarm(
            format!("{:>9}", human_size(memory.rss_bytes)),
            memory.rss_bytes > memory.limit_bytes,
        ),
        Span::raw(format!(
            " of {} ({:.0} %)",
            human_size(memory.limit_bytes),
            share * 100.0
        )),
    ])];
    let mut owners: Vec<_> = memory.owners.iter().collect();
    owners.sort_by_key(|(_, owner)| std::cmp::Reverse((owner.current_bytes, owner.waiting)));
    let room = usize::from(width.saturating_sub(36));
    for (name, owner) in owners {
        let part = owner.current_bytes as f64 / memory.budget_bytes.max(1) as f64;
        let bar = (part.clamp(0.0, 1.0) * room as f64).round() as usize;
        let waiting = match owner.waiting {
            0 => String::new(),
            waiting => format!(" {waiting} waiting"),
        };
        lines.push(Line::from(vec![
            Span::raw(format!(
                " {:<10} {:>9} ",
                shown(name, 10),
                human_size(owner.current_bytes)
            )),
            Span::styled("▆".repeat(bar), Style::new().fg(Color::Blue)),
            Span::styled(waiting, BAD),
        ]));
    }
    lines
}

fn latency(app: &App, activity: &Activity) -> Vec<Line<'static>> {
    if activity.bounds_us.is_empty() {
        return vec![Line::styled(" an older version does not tell", DIM)];
    }
    let head = format!(" {:<16}{:>6} {:>7} {:>7}", "", "/s", "p50", "p99");
    let mut lines = vec![Line::styled(head, DIM)];
    let rates = &app.watched.rates;
    // Both kinds are seen, however few lines there are.
    let (mut kernel, mut store) = (active(&rates.kernel), active(&rates.store));
    loop {
        let (a, b) = (kernel.next(), store.next());
        if a.is_none() && b.is_none() {
            return lines;
        }
        let mut line = |from: &str, rate: &OperationRate| {
            let name = format!("{from} {}", shown(&rate.name, TEXT_CHARS_MAX));
            lines.push(Line::raw(format!(
                " {:<16.16}{:>6} {:>7} {:>7}",
                name,
                small(rate.per_second),
                duration(rate.p50),
                duration(rate.p99)
            )));
        };
        a.into_iter().for_each(|rate| line("fs", rate));
        b.into_iter().for_each(|rate| line("s3", rate));
    }
}

fn active(rates: &[OperationRate]) -> impl Iterator<Item = &OperationRate> {
    rates.iter().filter(|rate| rate.per_second > 0.0)
}

fn waiting(activity: &Activity) -> Vec<Line<'static>> {
    let line = |wait: super::waits::Wait| {
        let text = format!(
            " {:>4} {:<6} for {}",
            wait.count,
            shown(&wait.who, 7),
            wait.what
        );
        match wait.count {
            0 => Line::styled(text, DIM),
            _ => Line::raw(text),
        }
    };
    waits(activity).into_iter().map(line).collect()
}

fn files(app: &App, width: u16) -> Vec<Line<'static>> {
    let head = format!(" {:>10} {:>10} {:>9}  file", "read", "written", "inode");
    let mut lines = vec![Line::styled(head, DIM)];
    let room = usize::from(width.saturating_sub(35));
    for file in app.sort.files(&app.watched.rates) {
        let path = shown(&file.file.path, TEXT_CHARS_MAX);
        lines.push(Line::raw(format!(
            " {:>10} {:>10} {:>9}  {}",
            per_second(file.read),
            per_second(file.written),
            file.file.ino,
            end_of(&path, room)
        )));
    }
    lines
}

/// The end of a path says more than its beginning.
fn end_of(path: &str, room: usize) -> String {
    let count = path.chars().count();
    if count <= room {
        return path.to_owned();
    }
    let end: String = path.chars().skip(count + 1 - room.max(1)).collect();
    format!("…{end}")
}

fn alarm(text: String, is_bad: bool) -> Span<'static> {
    Span::styled(text, if is_bad { BAD } else { Style::new() })
}

fn per_second(bytes: f64) -> String {
    match bytes as u64 {
        0 => "-".to_owned(),
        bytes => format!("{}/s", human_size(bytes)),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// A rate in few characters.
fn small(rate: f64) -> String {
    match rate {
        rate if rate >= 9.95 => format!("{rate:.0}"),
        rate if rate > 0.0 => format!("{rate:.1}"),
        _ => "0".to_owned(),
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}

fn duration(duration: Option<Duration>) -> String {
    let Some(us) = duration.map(|duration| duration.as_micros() as f64) else {
        return "-".to_owned();
    };
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_their_columns() {
        assert_eq!(
            [0.0, 0.34, 9.99, 1234.6].map(small),
            ["0", "0.3", "10", "1235"]
        );
        let us = |us| duration(Some(Duration::from_micros(us)));
        assert_eq!(
            [us(70), us(1_250), us(43_210), us(2_500_000)],
            ["70 µs", "1.2 ms", "43 ms", "2.5 s"]
        );
        assert_eq!(end_of("backups/restic/data", 9), "…tic/data");
        assert_eq!(end_of("short", 9), "short");
        assert_eq!(end_of("short", 0), "…");
    }
}
