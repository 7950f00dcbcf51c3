//! Metrics as a client gets them: over a socket, and read as strictly as the specification of
//! OpenMetrics 1.0 has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// One family.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// Name, labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

/// A whole exposition.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
}

/// The request of a client that is in no hurry.
pub const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends a request and reads the answer to its end: the head, and the body.
pub fn answer(mut stream: impl Read + Write, request: &[u8]) -> io::Result<(String, String)> {
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let parts = answer.split_once("\r\n\r\n");
    let (head, body) = parts.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Asks over a socket in the filesystem.
pub fn answer_at(path: &Path, request: &[u8]) -> io::Result<(String, String)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    answer(stream, request)
}

/// The metrics at a socket in the filesystem.
pub fn scrape(path: &Path) -> Exposition {
    read_answer(answer_at(path, REQUEST).expect("an answer"))
}

/// The metrics at a port.
pub fn scrape_port(address: SocketAddr) -> Exposition {
    let stream = TcpStream::connect(address).expect("connected");
    read_answer(answer(stream, REQUEST).expect("an answer"))
}

fn read_answer((head, body): (String, String)) -> Exposition {
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(
            "\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        ),
        "{head}"
    );
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    Exposition::parse(&body)
}

impl Exposition {
    /// Reads a text; panics at everything that the specification does not allow.
    pub fn parse(text: &str) -> Exposition {
        let lines = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut families = BTreeMap::new();
        let mut current: Option<(String, Family)> = None;
        for line in lines.lines() {
            assert!(!line.is_empty(), "an empty line");
            if let Some(rest) = line.strip_prefix("# ") {
                let (word, rest) = rest.split_once(' ').expect(line);
                let (name, text) = rest.split_once(' ').expect(line);
                assert!(is_name(name), "{line}");
                if word == "HELP" {
                    finish(current.take(), &mut families);
                    let help = text.to_owned();
                    current = Some((
                        name.to_owned(),
                        Family {
                            help,
                            ..Family::default()
                        },
                    ));
                    continue;
                }
                let (of, family) = current.as_mut().expect(line);
                assert_eq!(of, name, "{line}");
                assert!(family.samples.is_empty(), "{line}");
                match word {
                    "TYPE" => {
                        assert!(family.kind.is_empty(), "{line}");
                        family.kind = text.to_owned();
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (name, family) = current.as_mut().expect(line);
            let sample = read_sample(line);
            check_name(name, &family.kind, &sample, line);
            family.samples.push(sample);
        }
        finish(current, &mut families);
        assert!(!families.is_empty());
        Exposition { families }
    }

    /// The sample of this name whose labels are these.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let samples = self.families.values().flat_map(|family| &family.samples);
        let mut found = samples.filter(|(of, labels, _)| of == name && *labels == wanted);
        let (_, _, value) = found
            .next()
            .unwrap_or_else(|| panic!("no {name} {labels:?}"));
        *value
    }

    /// All samples of this name that have this label, together.
    pub fn sum(&self, name: &str, label: (&str, &str)) -> f64 {
        let samples = self.families.values().flat_map(|family| &family.samples);
        let of = samples.filter(|(of, labels, _)| {
            of == name && labels.get(label.0).is_some_and(|value| value == label.1)
        });
        of.map(|(_, _, value)| value).sum()
    }

    /// Every counter here is at least what it was `before`.
    pub fn assert_grown_since(&self, before: &Exposition) {
        for (name, family) in &before.families {
            if family.kind != "counter" && family.kind != "histogram" {
                continue;
            }
            for (sample, labels, value) in &family.samples {
                let now = &self.families[name].samples;
                let now = now
                    .iter()
                    .find(|(of, with, _)| of == sample && with == labels);
                let (_, _, now) = now.expect("a sample does not vanish");
                assert!(now >= value, "{sample} {labels:?}: {value}, then {now}");
            }
        }
    }
}

fn finish(family: Option<(String, Family)>, families: &mut BTreeMap<String, Family>) {
    let Some((name, family)) = family else { return };
    assert!(name.starts_with("strongroom_"), "{name}");
    assert!(
        family.help.len() > 5 && family.help.ends_with('.'),
        "{name}: {}",
        family.help
    );
    let kinds = ["counter", "gauge", "histogram", "info"];
    assert!(
        kinds.contains(&family.kind.as_str()),
        "{name}: {}",
        family.kind
    );
    for suffix in ["_total", "_count", "_sum", "_bucket", "_info", "_created"] {
        assert!(!name.ends_with(suffix), "{name} ends like a sample");
    }
    let mut seen = BTreeSet::new();
    for (sample, labels, value) in &family.samples {
        assert!(seen.insert((sample, labels)), "{sample} {labels:?} twice");
        match family.kind.as_str() {
            "counter" => assert!(*value >= 0.0 && value.is_finite(), "{sample}"),
            "info" => assert!(*value == 1.0, "{sample}"),
            _ => assert!(!value.is_nan(), "{sample}"),
        }
    }
    if family.kind == "histogram" {
        check_histograms(&name, &family);
    }
    let again = families.insert(name.clone(), family);
    assert!(again.is_none(), "{name} twice");
}

fn check_name(family: &str, kind: &str, (sample, labels, _): &(String, Labels, f64), line: &str) {
    let suffixes: &[&str] = match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => panic!("a sample without a type: {line}"),
    };
    let suffix = sample.strip_prefix(family);
    assert!(
        suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
        "{line}"
    );
    assert_eq!(
        labels.contains_key("le"),
        suffix == Some("_bucket"),
        "{line}"
    );
}

/// Buckets are cumulative, in order, and end at all that was counted.
fn check_histograms(name: &str, family: &Family) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut sums, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let le = labels.remove("le");
        match (le, sample.ends_with("_sum")) {
            (Some(le), _) => {
                let bound = if le == "+Inf" {
                    f64::INFINITY
                } else {
                    le.parse().expect("a bound")
                };
                buckets.entry(labels).or_default().push((bound, *value));
            }
            (None, true) => drop(sums.insert(labels, *value)),
            (None, false) => drop(counts.insert(labels, *value)),
        }
    }
    assert!(
        buckets.keys().eq(sums.keys()) && buckets.keys().eq(counts.keys()),
        "{name}"
    );
    for (labels, buckets) in &buckets {
        assert!(
            buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name}: {buckets:?}"
        );
        let (bound, all) = buckets.last().expect("a bucket");
        assert!(
            bound.is_infinite() && *all == counts[labels],
            "{name}: {buckets:?}"
        );
        assert!(*all > 0.0 && sums[labels] >= 0.0, "{name}");
    }
}

fn read_sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    let value = match rest.strip_prefix('{') {
        None => rest,
        Some(rest) => {
            let (text, value) = rest.rsplit_once('}').expect(line);
            for label in text.split("\",") {
                let (name, value) = label.split_once("=\"").expect(line);
                assert!(is_name(name) && !name.starts_with("__"), "{line}");
                let value = value.trim_end_matches('"');
                let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
                assert!(value.chars().all(plain), "{line}");
                let twice = labels.insert(name.to_owned(), value.to_owned());
                assert!(twice.is_none(), "{line}");
            }
            value
        }
    };
    let value = value.strip_prefix(' ').expect(line);
    (name.to_owned(), labels, value.parse().expect(line))
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    !text.is_empty() && text.chars().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit())
}
