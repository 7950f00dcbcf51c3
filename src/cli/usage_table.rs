//! The answer of `usage`, for people and for programs.

use serde_json::json;

use super::price::Cost;
use crate::{
    check::{Kind, Tally, Usage},
    telemetry::{human_size, shown},
};

/// A URL has at most 64 + 512 bytes.
const URL_CHARS_MAX: usize = 600;

/// All kinds, in the order of the table.
const KINDS: [(Kind, &str); 13] = [
    (Kind::Packs, "contents of several files each"),
    (Kind::Single, "contents of one file each"),
    (Kind::Waiting, "contents waiting for deletion"),
    (Kind::Uncommitted, "contents not committed yet"),
    (Kind::Leftovers, "leftovers that nothing names"),
    (Kind::Log, "metadata: log"),
    (Kind::Tables, "metadata: tables"),
    (Kind::Manifests, "metadata: manifests"),
    (Kind::Upkeep, "metadata: upkeep"),
    (Kind::Header, "volume header and its copy"),
    (Kind::Lease, "lease"),
    (Kind::Notes, "notes of read-only mounts"),
    (Kind::Foreign, "not made by Strongroom"),
];

/// The table.
pub fn render(usage: &Usage, cost: Option<&Cost>) -> String {
    let mut lines = vec![
        shown(&usage.url, URL_CHARS_MAX),
        format!(
            "{:<32}{:>10}{:>12}{:>12}{:>12}",
            "", "objects", "stored", "live", "dead"
        ),
    ];
    for (kind, name) in KINDS {
        if let Some(tally) = usage.kinds.get(&kind) {
            lines.push(row(name, tally));
        }
    }
    lines.push(row("total", &usage.total));
    if usage.epochs.len() > 1 {
        for of in &usage.epochs {
            let name = format!("contents under key epoch {}", of.epoch);
            lines.push(row(&name, &of.tally));
        }
    }
    match &usage.uploads {
        None => lines.push("the store does not list unfinished uploads".to_owned()),
        Some(uploads) if uploads.uploads > 0 => {
            let more = match uploads.unmeasured {
                0 => String::new(),
                more => format!(", and those of {more} more"),
            };
            lines.push(format!(
                "{} unfinished uploads hold {}{more}",
                uploads.uploads,
                human_size(uploads.bytes)
            ));
        }
        Some(_) => {}
    }
    lines.push(String::new());
    lines.push(format!(
        "{} files of {} in {} directories, {} others; {} of contents, {} of these in the metadata",
        usage.files,
        human_size(usage.logical_bytes),
        usage.directories,
        usage.others,
        human_size(usage.allocated_bytes),
        human_size(usage.inline_bytes),
    ));
    if let Some(ratio) = usage.ratio() {
        lines.push(format!(
            "{ratio:.3} bytes are stored for a byte of contents"
        ));
    }
    for (count, what) in [
        (usage.nameless, "removed files are still held"),
        (
            usage.missing_objects,
            "objects that files need are not in the bucket: see 'strongroom fsck'",
        ),
        (
            usage.odd_objects,
            "objects have a wrong length: see 'strongroom fsck'",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    if let Some(cost) = cost {
        lines.push(String::new());
        lines.push(format!(
            "stored, a month: {:.2}; mounted all month and idle: {:.2} ({} requests); this look: {:.5}",
            cost.storage_a_month,
            cost.idle_mount_a_month,
            cost.idle_requests_a_month,
            cost.this_look
        ));
        lines.push(format!(
            "at {} for each GB-month and {} for 1,000 requests ({})",
            cost.price_storage, cost.price_requests, cost.prices
        ));
    }
    lines.join("\n")
}

fn row(name: &str, tally: &Tally) -> String {
    let holds_contents = tally.live_bytes + tally.dead_bytes > 0;
    let contents = |bytes| match holds_contents {
        true => human_size(bytes),
        false => String::new(),
    };
    let line = format!(
        "{name:<32}{:>10}{:>12}{:>12}{:>12}",
        tally.objects,
        human_size(tally.bytes),
        contents(tally.live_bytes),
        contents(tally.dead_bytes)
    );
    line.trim_end().to_owned()
}

/// The JSON object.
///
/// # Errors
/// None in practice.
pub fn json(usage: &Usage, cost: Option<&Cost>) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(usage)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("format".to_owned(), json!(1));
        object.insert("stored_to_contents".to_owned(), json!(usage.ratio()));
        if let Some(cost) = cost {
            object.insert("cost".to_owned(), serde_json::to_value(cost)?);
        }
    }
    Ok(value)
}
