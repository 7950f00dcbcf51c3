//! The screen, drawn in all sizes over the report of a mount.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent},
};

use super::{
    app::{App, Choice},
    draw::draw,
    poll::Told,
    screen::Screen,
};
use crate::session::activity::Activity;

/// Two answers of a real mount under load, a second apart.
const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/activity.jsonl");

fn answers() -> Vec<Activity> {
    let text = fs::read_to_string(ANSWERS).expect("the answers");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an activity"))
        .collect()
}

fn choices(count: usize) -> Vec<Choice> {
    let choice = |number: usize| Choice {
        dir: PathBuf::from(format!("/mnt/vault{number}")),
        url: format!("s3://bucket/volume{number}"),
        state: "mounted".to_owned(),
    };
    (0..count).map(choice).collect()
}

/// A view of one mount after both answers.
fn watching() -> App {
    let mut app = App::new(choices(1));
    let began = Instant::now();
    for (second, activity) in answers().into_iter().enumerate() {
        let at = began + Duration::from_secs(second as u64);
        app.told(Told::Activity(at, Box::new(activity)));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, app)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.collect::<Vec<_>>().join("\n")
}

const SECTIONS: [&str; 6] = [
    "Throughput",
    "Not stored, caches, errors",
    "Memory",
    "What waits for what",
    "Latency",
    "Busiest files by bytes moved",
];

#[test]
fn all_sections_fit_on_80_by_24() {
    let screen = screen(&watching(), 80, 24);
    for section in SECTIONS {
        assert!(screen.contains(section), "{section}:\n{screen}");
    }
    for text in [
        "/mnt/vault0",
        "mounted, writable",
        "programs write",
        "of 128 MiB",
        "for uploads",
        "p99",
        "fs write",
        "s3 ",
        "load.bin",
        "q quit",
    ] {
        assert!(screen.contains(text), "{text}:\n{screen}");
    }
    let rate = screen.lines().find(|line| line.contains("programs write"));
    assert!(rate.expect("a line").contains("/s"), "{screen}");
}

#[test]
fn on_40_by_10_the_most_important_is_there_and_on_200_by_60_everything() {
    let small = screen(&watching(), 40, 10);
    for text in ["Throughput", "to the store", "mounted", "q quit"] {
        assert!(small.contains(text), "{text}:\n{small}");
    }
    let large = screen(&watching(), 200, 60);
    let owners = [
        "dirty", "parked", "upload", "read", "cache", "table", "listing",
    ];
    for text in SECTIONS
        .into_iter()
        .chain(owners)
        .chain(["fs flush", "lease"])
    {
        assert!(large.contains(text), "{text}:\n{large}");
    }
}

#[test]
fn no_size_of_the_terminal_is_too_small_or_too_large() {
    let mut helping = watching();
    helping.key(KeyEvent::from(KeyCode::Char('?')));
    helping.key(KeyEvent::from(KeyCode::Char('p')));
    helping.key(KeyEvent::from(KeyCode::Char('?')));
    let mut choosing = App::new(choices(30));
    choosing.key(KeyEvent::from(KeyCode::Up));
    let empty = App::new(choices(1));
    for app in [&helping, &watching(), &choosing, &empty] {
        for (width, height) in [
            (1, 1),
            (2, 3),
            (7, 100),
            (300, 2),
            (39, 5),
            (76, 8),
            (500, 200),
        ] {
            screen(app, width, height);
        }
        for height in 1..40 {
            screen(app, 80, height);
            screen(app, 40, height);
        }
    }
}

#[test]
fn the_selected_mount_of_a_long_list_is_on_the_screen() {
    let mut app = App::new(choices(30));
    app.key(KeyEvent::from(KeyCode::Up));
    let screen = screen(&app, 60, 10);
    assert!(screen.contains("> /mnt/vault29"), "{screen}");
}

#[test]
fn the_end_of_the_mount_an_outage_and_silence_are_told_on_top() {
    let mut app = watching();
    let second = |screen: &str| screen.lines().nth(1).unwrap_or_default().to_owned();
    let mut activity = answers().pop().expect("an answer");
    activity.status.durability.trouble = Some("store\u{1b}[2J unreachable since noon".to_owned());
    app.told(Told::Activity(Instant::now(), Box::new(activity)));
    let line = second(&screen(&app, 80, 24));
    assert!(line.contains("held up by store"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
    app.told(Told::Problem("no answer within 3 s".to_owned()));
    let line = second(&screen(&app, 80, 24));
    assert!(line.contains("No answer: no answer within 3 s"), "{line}");
    app.told(Told::Ended("it was unmounted".to_owned()));
    let line = second(&screen(&app, 80, 24));
    assert!(
        line.contains("The mount has ended: it was unmounted"),
        "{line}"
    );
}

#[test]
fn help_and_pause_are_seen() {
    let mut app = watching();
    app.key(KeyEvent::from(KeyCode::Char('p')));
    assert!(
        screen(&app, 80, 24)
            .lines()
            .next()
            .expect("a line")
            .ends_with(" PAUSED ")
    );
    app.key(KeyEvent::from(KeyCode::Char('?')));
    assert!(screen(&app, 80, 24).contains("sort the files"));
}

#[test]
fn a_mount_of_an_earlier_version_is_shown_without_latencies() {
    let mut app = App::new(choices(1));
    let status = answers().pop().expect("an answer").status;
    let activity = Activity {
        status,
        ..Activity::default()
    };
    app.told(Told::Activity(Instant::now(), Box::new(activity)));
    let screen = screen(&app, 80, 24);
    assert!(screen.contains("does not tell"), "{screen}");
    assert!(screen.contains("of 128 MiB"), "{screen}");
}

const PANICS: &str = "STRONGROOM_TEST_TOP_PANICS";

/// The other side of the next test: without it nothing happens here.
#[test]
fn a_view_that_panics_if_it_is_told_to() {
    if std::env::var_os(PANICS).is_some() {
        let mut screen = Screen::take().expect("a terminal");
        screen.draw(&App::new(choices(1))).expect("drawn");
        panic!("as it was told to");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_its_message() {
    let program = std::env::current_exe().expect("this program");
    let work = format!(
        "stty -g; {} --exact --nocapture cli::top::tests::a_view_that_panics_if_it_is_told_to; stty -g",
        program.display()
    );
    let ended = Command::new("script")
        .args(["-qec", &work, "/dev/null"])
        .env(PANICS, "1")
        .output()
        .expect("script runs");
    let shown = String::from_utf8_lossy(&ended.stdout);
    let (taken, given) = (shown.find("\u{1b}[?1049h"), shown.find("\u{1b}[?1049l"));
    let message = shown.find("as it was told to");
    assert!(
        taken.is_some() && taken < given && given < message,
        "{shown:?}"
    );
    let modes: Vec<&str> = shown.lines().filter(|line| is_modes(line)).collect();
    assert!(modes.len() == 2 && modes[0] == modes[1], "{shown:?}");
}

/// Whether a line is what `stty -g` prints.
fn is_modes(line: &str) -> bool {
    let line = line.trim();
    line.len() > 20
        && line
            .bytes()
            .all(|byte| byte == b':' || byte.is_ascii_hexdigit())
}
