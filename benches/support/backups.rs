//! restic and borg back a GiB up, check every byte of it and restore it: on the mount, and beside
//! it on the local disk.
//!
//! Each step on the mount begins on one that knows nothing, and ends when it is unmounted, so when
//! all of it is durable. On the local disk it begins with an empty page cache and ends with a sync.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    harness::{commands::tool, site::Site},
    say,
    support::{MIB, noise, timed},
    warm::empty_page_cache,
};

/// Half of the source, in files of 8 MiB.
const LARGE: usize = 64;
/// The other half, in files of 64 KiB.
const SMALL: usize = 8192;

const GROWTH_MAX: f64 = 1.3;

/// One use of a tool, in the directory that holds its repository.
struct Step {
    name: &'static str,
    line: &'static str,
}

struct Tool {
    name: &'static str,
    prepare: &'static str,
    steps: [Step; 3],
}

/// `$SOURCE` is backed up, `$OUT` is an empty directory on the local disk.
const TOOLS: [Tool; 2] = [
    Tool {
        name: "restic",
        prepare: "restic -q -r restic init",
        steps: [
            Step {
                name: "backup",
                line: "restic -q -r restic backup \"$SOURCE\"",
            },
            Step {
                name: "check --read-data",
                line: "restic -q -r restic check --read-data",
            },
            Step {
                name: "restore",
                line: "restic -q -r restic restore latest --target \"$OUT\"",
            },
        ],
    },
    Tool {
        name: "borg",
        prepare: "borg init --encryption=repokey borg",
        steps: [
            Step {
                name: "create",
                line: "borg create borg::first \"$SOURCE\"",
            },
            Step {
                name: "check --verify-data",
                line: "borg check --verify-data borg",
            },
            Step {
                name: "extract",
                line: "repo=$PWD/borg; cd \"$OUT\" && borg extract \"$repo::first\"",
            },
        ],
    },
];

/// Needs root, who may empty the kernel's page cache.
pub fn run(site: &Site) {
    let source = site.scratch("source");
    make_source(&source);
    for of in &TOOLS {
        let local = site.scratch("local");
        let (on_disk, on_mount) = (
            Caller::new(site, "disk", &source),
            Caller::new(site, "mount", &source),
        );
        on_disk.shell(&local, of.prepare);
        let mount = site.mount();
        on_mount.shell(&mount.dir, of.prepare);
        mount.unmount();
        for step in &of.steps {
            let disk = on_disk.timed_alone(|| {
                on_disk.shell(&local, step.line);
                sync();
            });
            let mounted = on_mount.timed_alone(|| {
                let mount = site.mount();
                on_mount.shell(&mount.dir, step.line);
                mount.unmount();
            });
            let growth = mounted.as_secs_f64() / disk.as_secs_f64();
            say(
                &format!("{} {} of 1 GiB: local disk, mount", of.name, step.name),
                format!(
                    "{:.1} s, {:.1} s",
                    disk.as_secs_f64(),
                    mounted.as_secs_f64()
                ),
                &format!("{growth:.2}, at most {GROWTH_MAX}"),
            );
        }
        on_disk.compare();
        on_mount.compare();
        fs::remove_dir_all(&local).expect("clear");
        let mount = site.mount();
        fs::remove_dir_all(mount.dir.join(of.name)).expect("clear");
        mount.unmount();
    }
}

/// A first use of the tool: no cache, no settings.
struct Caller {
    home: PathBuf,
    out: PathBuf,
    source: PathBuf,
}

impl Caller {
    fn new(site: &Site, name: &str, source: &Path) -> Caller {
        Caller {
            home: fresh(site, &format!("home-{name}")),
            out: fresh(site, &format!("out-{name}")),
            source: source.to_owned(),
        }
    }

    fn shell(&self, dir: &Path, line: &str) {
        let text = |path: &Path| path.to_str().expect("path").to_owned();
        let (home, out, source) = (text(&self.home), text(&self.out), text(&self.source));
        let env = [
            ("SOURCE", source.as_str()),
            ("OUT", out.as_str()),
            ("RESTIC_PASSWORD", "restic"),
            ("RESTIC_CACHE_DIR", home.as_str()),
            ("BORG_PASSPHRASE", "borg"),
            ("BORG_BASE_DIR", home.as_str()),
            ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes"),
        ];
        tool(dir, "bash", &["-euo", "pipefail", "-c", line], &env);
    }

    fn timed_alone(&self, work: impl FnOnce()) -> Duration {
        empty_page_cache();
        timed(work)
    }

    /// The restored files equal the source; both tools keep the whole path.
    fn compare(&self) {
        let restored = self
            .out
            .join(self.source.strip_prefix("/").expect("absolute"));
        let (restored, source) = (restored.to_str().expect("path"), self.source.to_str());
        tool(
            Path::new("/"),
            "diff",
            &["-r", source.expect("path"), restored],
            &[],
        );
    }
}

/// An empty directory of that name.
fn fresh(site: &Site, name: &str) -> PathBuf {
    let dir = site.scratch(name);
    fs::remove_dir_all(&dir).expect("clear");
    site.scratch(name)
}

fn make_source(dir: &Path) {
    let noise = noise(LARGE * 8 * MIB + SMALL * 64);
    for index in 0..LARGE {
        let at = index * 8 * MIB;
        fs::write(
            dir.join(format!("large-{index:02}")),
            &noise[at..at + 8 * MIB],
        )
        .expect("write");
    }
    for index in 0..SMALL {
        let dir = dir.join(format!("d{:03}", index / 100));
        fs::create_dir_all(&dir).expect("mkdir");
        // Each file begins elsewhere in the noise, so that no two have a piece in common that a
        // tool would find.
        let at = index * 64;
        let mut content = noise[at..at + 64 * 1024].to_vec();
        for (place, byte) in content.iter_mut().enumerate() {
            *byte = byte.rotate_left((index % 7) as u32 + 1) ^ (index + place / 512) as u8;
        }
        fs::write(dir.join(format!("f{:02}", index % 100)), content).expect("write");
    }
}

fn sync() {
    assert!(Command::new("sync").status().expect("sync").success());
}
