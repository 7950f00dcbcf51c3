//! Recordings of `mount --record`, read as strictly as HAR 1.2 has it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// A request in a recording, and what came of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub number: u64,
    pub operation: String,
    pub kind: String,
    pub url: String,
    pub attempt: u64,
    /// 0 if no answer came.
    pub status: u64,
    pub code: Option<String>,
    pub fault: Option<String>,
    pub wait_ms: f64,
}

impl Entry {
    /// How it ended: status, code and kind of failure.
    pub fn outcome(&self) -> String {
        let words = [self.code.as_deref(), self.fault.as_deref()];
        let words = words.into_iter().flatten();
        words.fold(self.status.to_string(), |told, word| told + " " + word)
    }

    /// Whether the store, or the way to it, failed. What an answer says of what is stored (there
    /// is no such object, the condition does not hold) is no failure, nor is a request that nobody
    /// waited for any longer.
    pub fn has_failed(&self) -> bool {
        match self.fault.as_deref() {
            None | Some("dropped") => self.status >= 400 && ![404, 412, 416].contains(&self.status),
            Some(_) => true,
        }
    }
}

/// The failures, by operation and kind. Requests that are under way at the same time have no order,
/// so those of one kind are sorted by how they ended.
pub fn failures(entries: &[Entry]) -> BTreeMap<(String, String), Vec<String>> {
    let mut failures: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.has_failed()) {
        let key = (entry.operation.clone(), entry.kind.clone());
        failures.entry(key).or_default().push(entry.outcome());
    }
    failures.values_mut().for_each(|outcomes| outcomes.sort());
    failures
}

/// The entries of a recording in the order in which the requests began.
pub fn read(path: &Path) -> Vec<Entry> {
    let bytes = fs::read(path).expect("a recording");
    parse(&bytes)
}

/// The same of a recording in memory.
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    let document: Value = serde_json::from_slice(bytes).expect("JSON");
    let log = &document["log"];
    assert_eq!(log["version"], "1.2");
    assert_eq!(log["creator"]["name"], "strongroom");
    assert!(log["creator"]["version"].is_string());
    let entries = log["entries"].as_array().expect("entries");
    let mut entries: Vec<Entry> = entries.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.number);
    assert!(
        entries.is_sorted_by(|a, b| a.number < b.number),
        "a request stands there twice"
    );
    entries
}

fn entry(value: &Value) -> Entry {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (request, response, timings) = (&value["request"], &value["response"], &value["timings"]);
    assert!(value["cache"].is_object(), "{value}");
    for message in [request, response] {
        for field in ["cookies", "headers"] {
            assert!(message[field].is_array(), "{field}: {value}");
        }
        for field in ["headersSize", "bodySize"] {
            assert!(message[field].is_number(), "{field}: {value}");
        }
        assert_eq!(message["httpVersion"], "HTTP/1.1");
    }
    assert!(
        request["queryString"].is_array() && request["method"].is_string(),
        "{value}"
    );
    assert!(
        response["statusText"].is_string() && response["redirectURL"].is_string(),
        "{value}"
    );
    let content = &response["content"];
    assert!(
        content["size"].is_number() && content["mimeType"].is_string(),
        "{value}"
    );
    let spans = ["send", "wait", "receive"].map(|name| timings[name].as_f64().expect("a time"));
    let sum: f64 = spans.iter().sum();
    assert!(
        (value["time"].as_f64().expect("a time") - sum).abs() < 0.01,
        "{value}"
    );
    let started = text(&value["startedDateTime"]).expect("a moment");
    assert!(started.len() >= 20 && started.ends_with('Z'), "{started}");
    Entry {
        number: value["_number"].as_u64().expect("a number"),
        operation: text(&value["_operation"]).expect("an operation"),
        kind: text(&value["_kind"]).expect("a kind"),
        url: text(&request["url"]).expect("a URL"),
        attempt: value["_attempt"].as_u64().expect("a number"),
        status: response["status"].as_u64().expect("a status"),
        code: text(&response["_code"]),
        fault: text(&value["_fault"]),
        wait_ms: spans[1],
    }
}
