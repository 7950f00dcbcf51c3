//! `strongroom info`: the facts of the header that need no key.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{
    args::{StoreArgs, TrustArgs},
    runtime,
};
use crate::{
    seal::volume::{FORMAT, HeaderSource, SlotInfo, VolumeHeader},
    session::{
        self, Failure, Fingerprint, connect,
        slot_notes::{LABEL_CHARS_MAX, SlotNote},
        state::StateSeen,
    },
    telemetry::{moment, shown},
};

/// `strongroom info URL`
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Runs the command.
pub fn run(args: InfoArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let (loaded, known) = runtime::block_on(async {
        let store = connect(&url, &args.store.settings()).await?;
        let trust = args.trust.of(&store)?;
        let loaded = session::load_header(&store).await?;
        // Without a key nothing in the header is authentic, so it is compared, and never noted.
        trust.check_header(&loaded.header)?;
        let known = trust.known(loaded.header.volume());
        Ok((loaded, known))
    })?;
    let fingerprint = known
        .filter(|known| known.state != StateSeen::default())
        .map(|known| Fingerprint::of(known.volume, &known.state).to_string());
    let fingerprint = fingerprint.as_deref();
    let source = match &loaded.source {
        HeaderSource::Primary => "strongroom.json".to_owned(),
        HeaderSource::Copy { why } => {
            format!("strongroom.copy.json, because strongroom.json is unusable ({why})")
        }
    };
    let text = if args.json {
        as_json(&url.to_string(), &loaded.header, &source, fingerprint)
    } else {
        as_lines(&url.to_string(), &loaded.header, &source, fingerprint)
    };
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(())
}

fn as_lines(url: &str, header: &VolumeHeader, source: &str, fingerprint: Option<&str>) -> String {
    let mut lines = vec![
        format!("volume    {url}"),
        format!("id        {}", header.volume()),
        format!("format    {FORMAT}"),
        format!("revision  {}", header.revision()),
        format!("header    {source}"),
        epochs_line(header),
        format!(
            "seen      {}",
            fingerprint.unwrap_or("this machine has not mounted it yet")
        ),
    ];
    lines.extend(header.slots().map(|slot| slot_line(&slot, None)));
    lines.join("\n")
}

/// The number of key epochs.
pub fn epochs_line(header: &VolumeHeader) -> String {
    let newest = header.newest_epoch().map_or(0, |epoch| epoch.0);
    match header.epochs().count() {
        1 => "epochs    1".to_owned(),
        count => format!("epochs    {count}, what is written now is sealed under number {newest}"),
    }
}

/// One slot for people.
pub fn slot_line(slot: &SlotInfo, note: Option<&SlotNote>) -> String {
    let derivation = match slot.argon2 {
        Some(argon2) => format!(
            "Argon2id, {} passes, {} MiB, {} lanes",
            argon2.passes,
            argon2.memory_kib / 1024,
            argon2.lanes
        ),
        None => "HKDF-SHA-256".to_owned(),
    };
    let mut line = format!(
        "slot {:<4} {:<13} {derivation}",
        slot.id.0,
        slot.kind.name()
    );
    // These texts were written by somebody who has a key, perhaps on another machine.
    let text = |text: &str| shown(text, LABEL_CHARS_MAX);
    if let Some(made) = note.and_then(|note| note.made_unix_seconds) {
        line += &format!(", made {}", moment(made));
    }
    if let Some(host) = note.and_then(|note| note.host.as_deref()) {
        line += &format!(" on {}", text(host));
    }
    if let Some(label) = note.and_then(|note| note.label.as_deref()) {
        line += &format!(": {}", text(label));
    }
    line
}

/// One slot for programs.
pub fn slot_json(slot: &SlotInfo, note: Option<&SlotNote>) -> serde_json::Value {
    let mut value = json!({ "slot": slot.id.0, "kind": slot.kind.name() });
    if let (Some(argon2), Some(object)) = (slot.argon2, value.as_object_mut()) {
        let parameters = json!({
            "passes": argon2.passes,
            "memory_kib": argon2.memory_kib,
            "lanes": argon2.lanes,
        });
        object.insert("argon2id".to_owned(), parameters);
    }
    if let (Some(note), Some(object)) = (note, value.as_object_mut()) {
        object.insert("label".to_owned(), json!(note.label));
        object.insert(
            "made_unix_seconds".to_owned(),
            json!(note.made_unix_seconds),
        );
        object.insert("host".to_owned(), json!(note.host));
    }
    value
}

fn as_json(url: &str, header: &VolumeHeader, source: &str, fingerprint: Option<&str>) -> String {
    let value = json!({
        "url": url,
        "volume": header.volume().to_string(),
        "format": FORMAT,
        "revision": header.revision(),
        "header": source,
        "fingerprint_seen": fingerprint,
        "epochs": header.epochs().map(|epoch| epoch.0).collect::<Vec<_>>(),
        "slots": header.slots().map(|slot| slot_json(&slot, None)).collect::<Vec<_>>(),
    });
    format!("{value:#}")
}
