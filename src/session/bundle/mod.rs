//! Everything that a report of a fault needs, in one file: `strongroom doctor --bundle`.
//!
//! Promises: no secret, content or name goes in. The status and the report of the examination are
//! scrubbed text by text, log lines that may name something are left out, and metrics and
//! recordings have no names by construction. The bundle says of itself what is in it and what was
//! left out. It has at most 64 MiB. A mount that hangs or has died costs what it would have said,
//! and nothing else. A file is read only if it belongs to the user of the mount that named it.
//! Never: asks the store; writes or prints anything.
//!
//! | file | what it holds |
//! |---|---|
//! | `living.rs` | the mounts that the machine has, and their answers |
//! | `log.rs` | the end of a log |
//! | `machine.rs` | program, kernel, FUSE |
//! | `names.rs` | the names that are known beforehand |
//! | `scrub.rs`, `words.rs` | texts without names |
//! | `pack.rs` | the container, and the file that explains it |

mod living;
mod log;
mod machine;
mod names;
mod pack;
mod scrub;
mod words;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;

pub use living::Diagnosed;
pub use pack::Packed;

use self::{
    log::{open_own, tail},
    pack::{BUNDLE_BYTES_MAX, Entry, README},
    scrub::{Scrub, VOLUME},
};
use super::{
    diagnosis::Diagnosis,
    doctor::{DoctorPlan, Report},
    failure::Failure,
    recording,
    state::{self, VolumeState},
};
use crate::{record, telemetry::shown_json};

/// Volumes of ended mounts that go in.
const ENDED_MAX: usize = 3;

/// A bundle under way.
pub struct Bundle {
    scrub: Scrub,
    entries: Vec<Entry>,
    left_out: Vec<String>,
    /// Files that are in it already.
    taken: BTreeSet<PathBuf>,
}

impl Bundle {
    /// Collects all but the report of the examination: of `mount`, or else of all mounts of the
    /// volume that the plan names, or of all mounts. It waits for mounts that hang, for some
    /// seconds.
    ///
    /// # Errors
    /// The kernel's table of mounts cannot be read.
    pub fn collect(plan: &DoctorPlan, mount: Option<Diagnosed>) -> Result<Bundle, Failure> {
        let url = plan.url.as_ref().map(ToString::to_string);
        let (living, more) = match mount {
            Some(mount) => (vec![mount], 0),
            None => living::all(url.as_deref())?,
        };
        let mut bundle = Bundle {
            scrub: names::known(plan, &living),
            entries: Vec::new(),
            left_out: Vec::new(),
            taken: BTreeSet::new(),
        };
        let mut facts = machine::facts();
        bundle.scrub.json(&mut facts);
        bundle.add_json("machine.json", "program, kernel and FUSE", &facts);
        for (number, found) in living.iter().enumerate() {
            bundle.add_living(&format!("mount-{}", number + 1), found);
        }
        if living.is_empty() {
            bundle.leave_out("status and metrics: there is no such mount");
        }
        if more > 0 {
            bundle.leave_out(&format!("{more} more mounts: name one by its directory"));
        }
        bundle.add_ended(&plan.state_root, url.as_deref());
        Ok(bundle)
    }

    /// The report of the examination as it may travel.
    pub fn scrubbed(&self, report: &Report) -> Report {
        self.scrub.report(report)
    }

    /// Packs all of it, with the report of the examination as text and as JSON. Returns the
    /// archive, what is in it, and what was left out.
    ///
    /// # Errors
    /// It cannot be put together.
    pub fn pack(
        mut self,
        text: &str,
        json: &str,
    ) -> io::Result<(Vec<u8>, Vec<Packed>, Vec<String>)> {
        let about = "the checks of 'strongroom doctor'";
        self.add("doctor.txt", about, text.as_bytes().to_vec());
        self.add(
            "doctor.json",
            "the checks as JSON",
            json.as_bytes().to_vec(),
        );
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let readme = Entry {
            name: README.to_owned(),
            about: "this file".to_owned(),
            contents: pack::readme(&self.entries, &self.left_out).into_bytes(),
        };
        self.entries.insert(0, readme);
        let packed = self.entries.iter().map(Entry::packed).collect();
        Ok((pack::archive(&self.entries)?, packed, self.left_out))
    }

    fn add(&mut self, name: &str, about: &str, contents: Vec<u8>) {
        let taken: usize = self.entries.iter().map(|entry| entry.contents.len()).sum();
        if taken + contents.len() > BUNDLE_BYTES_MAX {
            return self.leave_out(&format!("{name}: the bundle would be too large"));
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            about: about.to_owned(),
            contents,
        });
    }

    fn add_json(&mut self, name: &str, about: &str, value: &Value) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.add(name, about, shown_json(&text).into_bytes());
    }

    fn leave_out(&mut self, line: &str) {
        self.left_out.push(line.to_owned());
    }

    fn add_living(&mut self, dir: &str, found: &Diagnosed) {
        let Some(diagnosis) = &found.diagnosis else {
            let line = format!("{dir}: a mount that is {} says nothing", found.mount.state);
            return self.leave_out(&line);
        };
        let about = "the status of a mount, without names";
        let status = self.status(diagnosis);
        self.add_json(&format!("{dir}/status.json"), about, &status);
        let owner = found.mount.user;
        let name = format!("{dir}/requests.har");
        match &diagnosis.status.recording {
            Some(recording) => self.add_recording(&name, Path::new(&recording.file), owner),
            None => self.leave_out(&format!("{name}: nothing is recorded (mount --record)")),
        }
        let Some(metrics) = &diagnosis.metrics else {
            let line =
                format!("{dir}/metrics.txt, {dir}/log.txt: the mount is of an earlier version");
            return self.leave_out(&line);
        };
        let metrics = self.scrub.ids(metrics).into_bytes();
        self.add(
            &format!("{dir}/metrics.txt"),
            "its metrics (OpenMetrics)",
            metrics,
        );
        let name = format!("{dir}/log.txt");
        match (&diagnosis.log_file, diagnosis.log_names_paths) {
            (None, _) => self.leave_out(&format!(
                "{name}: the mount logs to standard error (journalctl may have it)"
            )),
            (Some(path), true) => {
                self.taken.insert(path.into());
                self.leave_out(&format!("{name}: its lines name paths (--log-paths)"));
            }
            (Some(path), false) => self.add_log(&name, Path::new(path), owner),
        }
    }

    /// The report of a mount as it may travel.
    fn status(&self, diagnosis: &Diagnosis) -> Value {
        let mut status = diagnosis.status.clone();
        let mount = &mut status.mount;
        mount.url = "s3://<bucket>/<prefix>".to_owned();
        mount.volume = VOLUME.to_owned();
        mount.mount_point = "<mount point>".to_owned();
        mount.fingerprint = "<fingerprint>".to_owned();
        if let Some(recording) = &mut status.recording {
            recording.file = "<recording>".to_owned();
        }
        // A mount of an earlier version gives its report alone, where an obstacle may name a path.
        if diagnosis.metrics.is_none() {
            let trouble = &mut status.durability.trouble;
            *trouble = trouble.take().map(|_| "<left out>".to_owned());
        }
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        self.scrub.json(&mut value);
        value
    }

    fn add_log(&mut self, name: &str, path: &Path, owner: Option<u32>) {
        self.taken.insert(path.to_owned());
        match tail(path, owner, &self.scrub) {
            Ok(tail) => {
                self.add(name, "the end of its log", tail.text.into_bytes());
                if tail.left_out > 0 {
                    self.leave_out(&format!(
                        "{name}: {} lines that may name something (finer than info, other crates', with paths)",
                        tail.left_out
                    ));
                }
            }
            Err(error) => self.leave_out(&format!("{name}: it cannot be read: {error}")),
        }
    }

    fn add_recording(&mut self, name: &str, path: &Path, owner: Option<u32>) {
        self.taken.insert(path.to_owned());
        let mut contents = Bounded(Vec::new());
        let copied = open_own(path, owner).and_then(|file| record::copy(file, &mut contents));
        match copied {
            Ok(copied) => {
                let about = format!("a recording of {} requests to the store", copied.entries);
                self.add(name, &about, contents.0);
            }
            Err(error) => self.leave_out(&format!("{name}: the recording: {error}")),
        }
    }

    /// Logs and recordings of mounts that have ended, the last ones first.
    fn add_ended(&mut self, root: &Path, url: Option<&str>) {
        let mut volumes = state::volumes(root);
        if let Some(url) = url {
            let places = state::places(root);
            let end = format!(" {url}");
            let at_url = |volume: &str| {
                let mut here = places.iter().filter(|(place, _)| place.ends_with(&end));
                here.any(|(_, there)| there == volume)
            };
            volumes.retain(|(volume, _)| at_url(volume));
        }
        let changed = |state: &VolumeState| {
            let of = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
            let log = of(&state.log_file()).unwrap_or(SystemTime::UNIX_EPOCH);
            log.max(of(&state.recording_note()).unwrap_or(SystemTime::UNIX_EPOCH))
        };
        volumes.sort_by_key(|(_, state)| std::cmp::Reverse(changed(state)));
        let mut number = 0;
        for (_, state) in volumes {
            let log = Some(state.log_file()).filter(|path| path.is_file());
            let log = log.filter(|path| !self.taken.contains(path));
            let recording = recording::find_of(&state);
            let recording = recording.filter(|path| !self.taken.contains(path));
            if log.is_none() && recording.is_none() {
                continue;
            }
            number += 1;
            if number > ENDED_MAX {
                self.leave_out("logs and recordings of more volumes: name one by its URL");
                return;
            }
            let own = Some(nix::unistd::geteuid().as_raw());
            if let Some(path) = log {
                self.add_log(&format!("ended-{number}/log.txt"), &path, own);
            }
            if let Some(path) = recording {
                self.add_recording(&format!("ended-{number}/requests.har"), &path, own);
            }
        }
    }
}

/// A buffer that takes no more than a bundle may have.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BUNDLE_BYTES_MAX / 2 {
            return Err(io::Error::other(
                "it is too large for a bundle; send it beside it",
            ));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
