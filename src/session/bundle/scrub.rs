//! Texts that are about to travel, without names.
//!
//! Two sieves. The first one knows names: of the bucket, the prefix, the endpoint, directories, the
//! user, the host. The second one knows shapes, for names that nobody could know beforehand: URLs,
//! absolute paths, ARNs, addresses, access keys, long random words. Both replace rather too much.
//! No part of a text passes because it looks harmless in its place, so that a store, which may send
//! any text, cannot choose one that passes for another.

use serde_json::Value;

use super::words::{Shape, Words};
use crate::{
    session::doctor::{Line, Recommendation, Report},
    telemetry::shown,
};

/// A shorter name counts as one only where it is a whole word: a bucket may be called `data`.
const LEN_UNMISTAKABLE: usize = 8;

/// The mask of a volume's id.
pub(super) const VOLUME: &str = "<volume>";

/// The names that are known, and the words that take their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrub {
    /// The longest first.
    names: Vec<(String, &'static str)>,
}

impl Scrub {
    /// From now on `name` is replaced by `<mask>`, in each form in which it may stand in a text.
    pub(super) fn name(&mut self, name: &str, mask: &'static str) {
        let json = serde_json::to_string(name).unwrap_or_default();
        let json = json.trim_matches('"').to_owned();
        for form in [name.to_owned(), json, shown(name, usize::MAX)] {
            // Root directories and the like are no names.
            if !form.trim_matches('/').is_empty() && !self.names.iter().any(|(is, _)| *is == form) {
                self.names.push((form, mask));
            }
        }
        self.names
            .sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }

    /// A text of ours that has no names but the ids of volumes.
    pub(super) fn ids(&self, text: &str) -> String {
        let ids = self.names.iter().filter(|(_, mask)| *mask == VOLUME);
        ids.fold(text.to_owned(), |text, (id, mask)| text.replace(id, mask))
    }

    /// One text, of one or more lines.
    pub(super) fn text(&self, text: &str) -> String {
        shapes_masked(&self.names_masked(text))
    }

    /// All texts in a document; its keys are ours.
    pub(super) fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The report of an examination.
    pub(super) fn report(&self, report: &Report) -> Report {
        let setting = |setting: &Recommendation| Recommendation {
            value: self.text(&setting.value),
            because: self.text(&setting.because),
            ..setting.clone()
        };
        Report {
            url: report.url.as_deref().map(|url| self.text(url)),
            checks: report.checks.iter().map(|line| self.line(line)).collect(),
            recommended: report.recommended.iter().map(setting).collect(),
            ..report.clone()
        }
    }

    fn line(&self, line: &Line) -> Line {
        let mut with_its_own = self.clone();
        for name in &line.names {
            with_its_own.name(name, "<name>");
        }
        let advice = line.advice.as_deref();
        Line {
            found: with_its_own.text(&line.found),
            advice: advice.map(|advice| with_its_own.text(advice)),
            names: Vec::new(),
            ..line.clone()
        }
    }

    fn names_masked(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let (mut rest, mut before) = (text, None);
        while let Some(next) = rest.chars().next() {
            let found = self.names.iter().find_map(|(name, mask)| {
                let behind = rest.strip_prefix(name.as_str())?;
                let ends = |side: Option<char>| !side.is_some_and(char::is_alphanumeric);
                let is_word = ends(before) && ends(behind.chars().next());
                (is_word || name.len() >= LEN_UNMISTAKABLE).then_some((behind, *mask))
            });
            match found {
                Some((behind, mask)) => {
                    masked.push_str(mask);
                    (rest, before) = (behind, Some('>'));
                }
                None => {
                    masked.push(next);
                    (rest, before) = (rest.get(next.len_utf8()..).unwrap_or_default(), Some(next));
                }
            }
        }
        masked
    }
}

fn shapes_masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for (word, shape) in Words::of(text) {
        match shape {
            Shape::Plain => masked.push_str(word),
            Shape::Named(mask) => masked.push_str(mask),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::doctor::{Measured, Verdict};

    fn scrub() -> Scrub {
        let mut scrub = Scrub::default();
        for (name, mask) in [
            ("data", "<bucket>"),
            ("laptop-of-ann", "<prefix>"),
            ("/mnt/my \"vault\"", "<mount point>"),
            ("127.0.0.1:9000", "<endpoint>"),
            ("/", "<never>"),
            ("", "<never>"),
        ] {
            scrub.name(name, mask);
        }
        scrub
    }

    #[test]
    fn known_names_go_short_ones_only_as_whole_words() {
        let scrub = scrub();
        assert_eq!(
            scrub.text("s3://data/laptop-of-ann at http://127.0.0.1:9000/x"),
            "s3://<bucket>/<prefix> at http://<endpoint><path>"
        );
        assert_eq!(
            scrub.text("metadata of data_laptop-of-anns, data."),
            "metadata of <bucket>_<prefix>s, <bucket>."
        );
        assert_eq!(
            scrub.text("is mounted on /mnt/my \"vault\" (writable)"),
            "is mounted on <mount point> (writable)"
        );
        let mut value = serde_json::json!({"data": ["/mnt/my \"vault\"", 5, null]});
        scrub.json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"data": ["<mount point>", 5, null]})
        );
    }

    #[test]
    fn names_that_the_store_supplied_go_from_their_line_alone() {
        let line = |found: &str, names: &[&str]| Line {
            check: "volume",
            verdict: Verdict::Warning,
            found: found.to_owned(),
            advice: Some("see meow".to_owned()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let report = Report {
            format: 1,
            version: "1",
            url: Some("s3://data/laptop-of-ann".to_owned()),
            verdict: Verdict::Warning,
            checks: vec![line("such as meow: no", &["meow"]), line("meow", &[])],
            measured: Measured::default(),
            recommended: Vec::new(),
        };
        let report = scrub().report(&report);
        assert_eq!(report.url.as_deref(), Some("s3://<bucket>/<prefix>"));
        let found: Vec<_> = report.checks.iter().map(|line| &*line.found).collect();
        assert_eq!(found, ["such as <name>: no", "meow"]);
        assert_eq!(report.checks[0].advice.as_deref(), Some("see <name>"));
    }
}
