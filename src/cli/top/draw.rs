//! The screen: which section goes where, by how much room there is.
//!
//! Nothing here depends on the size of the terminal being large enough: what has no room is left
//! out, the least important first.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph},
};

use super::{
    app::App,
    panels::{self, Panel},
    style::{BAD, BOLD, DIM, GOOD},
};
use crate::telemetry::{human_size, shown};

/// Longer texts of the mount's are cut.
const TEXT_CHARS_MAX: usize = 500;

/// From this width on two sections stand beside each other.
const WIDE: u16 = 76;

/// Lines of the screen from its top: the title, and how the mount is.
const HEAD: u16 = 2;

const KEYS: &str = " q quit  p pause  s sort  ? help";
const KEYS_OF_SEVERAL: &str = " q quit  p pause  s sort  ? help  tab next mount  esc list";
const KEYS_OF_LIST: &str = " q quit  arrows choose  enter watch";

const HELP: [&str; 12] = [
    "q, Ctrl-C   quit",
    "p, space    pause, and go on",
    "s           sort the files by another column",
    "tab, arrows the next mount, or the one before",
    "esc         the list of mounts",
    "?           this help; any key takes it away",
    "",
    "Rates and latencies are of the last second.",
    "p50: half are faster; p99: 1 in 100 is slower.",
    "Files: those that are open. Reads that the kernel",
    "answers from its page cache are not seen.",
    "docs/operations.md says more (\"A live view\").",
];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if app.choosing {
        list(frame, app, area);
    } else {
        mount(frame, app, area);
    }
    if app.help {
        help(frame, area);
    }
}

/// A row of the screen: panels beside each other, the lines that they need, and those that they
/// could use.
struct Band {
    panels: &'static [Panel],
    needs: u16,
    wants: u16,
}

/// The bands, the most important first; they stand in this order too.
fn bands(app: &App, width: u16) -> Vec<Band> {
    let owners = app.watched.last.as_ref();
    let owners = owners.map_or(0, |(_, activity)| activity.status.memory.owners.len());
    let memory = u16::try_from(owners).unwrap_or(u16::MAX).saturating_add(2);
    let band = |panels, needs, wants| Band {
        panels,
        needs,
        wants,
    };
    if width >= WIDE {
        return vec![
            band(&[Panel::Throughput], 5, 6),
            band(&[Panel::Durability, Panel::Memory], 6, memory.max(7)),
            band(&[Panel::Waits, Panel::Latency], 5, 14),
            band(&[Panel::Files], 3, u16::MAX),
        ];
    }
    vec![
        band(&[Panel::Throughput], 5, 6),
        band(&[Panel::Durability], 3, 7),
        band(&[Panel::Files], 3, 8),
        band(&[Panel::Waits], 5, 5),
        band(&[Panel::Memory], 4, memory),
        band(&[Panel::Latency], 3, u16::MAX),
    ]
}

/// The height of each band: first what each needs, as long as there is room, then what it wants.
fn heights(bands: &[Band], room: u16) -> Vec<u16> {
    let mut left = room;
    let needed = bands.iter().map(|band| {
        let height = if band.needs <= left { band.needs } else { 0 };
        left -= height;
        height
    });
    let mut heights: Vec<u16> = needed.collect();
    for (height, band) in heights.iter_mut().zip(bands) {
        if *height > 0 {
            let more = (band.wants.saturating_sub(*height)).min(left);
            *height += more;
            left -= more;
        }
    }
    heights
}

fn mount(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let bands = bands(app, area.width);
    let room = area.height.saturating_sub(HEAD + 1);
    let heights = heights(&bands, room);
    let mut rest = area;
    head(frame, app, take(&mut rest, HEAD));
    for (band, height) in bands.iter().zip(heights) {
        let row = take(&mut rest, height);
        let share = Constraint::Ratio(1, u32::try_from(band.panels.len()).unwrap_or(1));
        let columns = Layout::horizontal(band.panels.iter().map(|_| share)).split(row);
        for (panel, column) in band.panels.iter().zip(columns.iter()) {
            section(frame, app, *panel, *column);
        }
    }
    let keys = match app.mounts.len() {
        0 | 1 => KEYS,
        _ => KEYS_OF_SEVERAL,
    };
    foot(frame, area, keys);
}

/// Cuts lines off the top of an area.
fn take(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

fn section(frame: &mut Frame<'_>, app: &App, panel: Panel, area: Rect) {
    if area.is_empty() {
        return;
    }
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(DIM)
        .title(Span::styled(format!(" {} ", panel.title(app)), BOLD));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    panels::draw(frame, app, panel, inner);
}

fn head(frame: &mut Frame<'_>, app: &App, area: Rect) {
    frame.render_widget(Paragraph::new(vec![title(app), state(app)]), area);
    if app.paused {
        let text = Span::styled(" PAUSED ", BAD.add_modifier(Modifier::REVERSED));
        let width = 8.min(area.width);
        let x = area.right().saturating_sub(width);
        let corner = Rect::new(x, area.y, width, area.height.min(1));
        frame.render_widget(text, corner);
    }
}

fn title(app: &App) -> Line<'static> {
    let mut spans = vec![Span::styled(" strongroom ", BOLD)];
    if let Some(choice) = app.choice() {
        let dir = choice.dir.to_string_lossy();
        spans.push(Span::raw(shown(&dir, TEXT_CHARS_MAX)));
        if app.mounts.len() > 1 {
            let place = format!(" ({} of {})", app.selected + 1, app.mounts.len());
            spans.push(Span::styled(place, DIM));
        }
        let url = shown(&choice.url, TEXT_CHARS_MAX);
        spans.push(Span::styled(format!("  {url}"), DIM));
    }
    Line::from(spans)
}

/// The line that says whether all is well.
fn state(app: &App) -> Line<'static> {
    let watched = &app.watched;
    if let Some(how) = &watched.ended {
        let how = shown(how, TEXT_CHARS_MAX);
        return Line::from(Span::styled(format!(" The mount has ended: {how}"), BAD));
    }
    if let Some(problem) = &watched.problem {
        let problem = shown(problem, TEXT_CHARS_MAX);
        return Line::from(Span::styled(format!(" No answer: {problem}"), BAD));
    }
    let Some((_, activity)) = &watched.last else {
        return Line::from(Span::styled(" asking ...", DIM));
    };
    let status = &activity.status;
    if let Some(trouble) = &status.durability.trouble {
        let trouble = shown(trouble, TEXT_CHARS_MAX);
        return Line::from(Span::styled(format!(" held up by {trouble}"), BAD));
    }
    let access = match status.mount.read_only {
        true => "read-only",
        false => "writable",
    };
    let state = shown(&status.mount.state, TEXT_CHARS_MAX);
    let style = if state == "mounted" { GOOD } else { BAD };
    let volume = &status.volume;
    Line::from(vec![
        Span::styled(format!(" {state}"), style),
        Span::raw(format!(
            ", {access}, {} in {} inodes",
            human_size(volume.bytes),
            volume.inodes
        )),
    ])
}

fn foot(frame: &mut Frame<'_>, area: Rect, keys: &str) {
    let y = area.bottom().saturating_sub(1);
    let line = Rect::new(area.x, y, area.width, area.height.min(1));
    frame.render_widget(Clear, line);
    frame.render_widget(Line::styled(keys.to_owned(), DIM), line);
}

fn list(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let mut lines = vec![
        Line::styled(" strongroom: which mount?", BOLD),
        Line::raw(""),
    ];
    // The selected one is always among those that have room.
    let room = usize::from(area.height.saturating_sub(3)).max(1);
    let first = (app.selected + 1).saturating_sub(room);
    for (number, choice) in app.mounts.iter().enumerate().skip(first).take(room) {
        let is_selected = number == app.selected;
        let text = format!(
            " {} {}  {}  {}",
            if is_selected { '>' } else { ' ' },
            shown(&choice.dir.to_string_lossy(), TEXT_CHARS_MAX),
            shown(&choice.state, TEXT_CHARS_MAX),
            shown(&choice.url, TEXT_CHARS_MAX)
        );
        let style = match is_selected {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        lines.push(Line::styled(text, style));
    }
    frame.render_widget(Paragraph::new(lines), area);
    foot(frame, area, KEYS_OF_LIST);
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let width = 54.min(area.width);
    let height = (HELP.len() as u16 + 2).min(area.height);
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let place = Rect::new(x, y, width, height);
    frame.render_widget(Clear, place);
    let block = Block::new().borders(Borders::ALL).title(" Help ");
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|line| Line::raw(format!(" {line}")))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
