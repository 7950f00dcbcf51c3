//! The list of mounts, as a table for people and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    session::mounts::{DEAD, ListedMount, SILENT},
    telemetry::{human_size, shown},
};

/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 6000;

/// The version of the list's form.
const LIST_FORMAT: u32 = 1;

#[derive(Serialize)]
pub struct List<'a> {
    format: u32,
    mounts: &'a [ListedMount],
}

/// The list for `--json`.
pub fn json(mounts: &[ListedMount]) -> List<'_> {
    List {
        format: LIST_FORMAT,
        mounts,
    }
}

/// A line for each mount, and one below it for an obstacle.
pub fn render(mounts: &[ListedMount]) -> String {
    if mounts.is_empty() {
        return "no Strongroom volume is mounted".to_owned();
    }
    let rows: Vec<[String; 4]> = mounts.iter().map(row).collect();
    let width = |column: fn(&[String; 4]) -> &String, heading: &str| {
        let widths = rows.iter().map(|row| column(row).chars().count());
        widths.max().unwrap_or(0).max(heading.len())
    };
    let headings = ["DIRECTORY", "STATE", "NOT STORED", "VOLUME"];
    let widths = [
        width(|[directory, ..]| directory, "DIRECTORY"),
        width(|[_, state, ..]| state, "STATE"),
        width(|[_, _, dirty, _]| dirty, "NOT STORED"),
    ];
    let mut text = String::new();
    let mut line = |[directory, state, dirty, volume]: [&str; 4]| {
        let [a, b, c] = widths;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{directory:<a$}  {state:<b$}  {dirty:>c$}  {volume}");
    };
    line(headings);
    for ([directory, state, dirty, volume], mount) in rows.iter().zip(mounts) {
        line([directory, state, dirty, volume]);
        if let Some(why) = &mount.trouble {
            line([
                "",
                "",
                "",
                &format!("held up by {}", shown(why, TEXT_CHARS_MAX)),
            ]);
        }
    }
    text
}

fn row(mount: &ListedMount) -> [String; 4] {
    let state = match mount.state.as_str() {
        DEAD => "dead: its process has died".to_owned(),
        SILENT => "silent: no answer".to_owned(),
        state => shown(state, TEXT_CHARS_MAX),
    };
    [
        shown(&mount.mount_point.to_string_lossy(), TEXT_CHARS_MAX),
        state,
        mount.dirty_bytes.map_or_else(|| "?".to_owned(), human_size),
        shown(&mount.url, TEXT_CHARS_MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(directory: &str, state: &str) -> ListedMount {
        ListedMount {
            mount_point: directory.into(),
            url: "s3://bucket/laptop".to_owned(),
            user: Some(1000),
            state: state.to_owned(),
            pid: None,
            dirty_bytes: None,
            oldest_change_ms: None,
            trouble: None,
            report: None,
            address: None,
        }
    }

    #[test]
    fn each_mount_is_a_line_and_its_obstacle_another() {
        let mut held_up = mount("/mnt/b\u{1b}[2J", "mounted");
        held_up.dirty_bytes = Some(3 << 20);
        held_up.trouble = Some("the store does not answer".to_owned());
        let text = render(&[mount("/mnt/a", DEAD), held_up]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "DIRECTORY        STATE                       NOT STORED  VOLUME",
                "/mnt/a           dead: its process has died           ?  s3://bucket/laptop",
                "/mnt/b\\u{1b}[2J  mounted                        3.0 MiB  s3://bucket/laptop",
                "                                                         held up by the store does not answer",
            ]
        );
        assert!(render(&[]).starts_with("no Strongroom volume"));
    }
}
