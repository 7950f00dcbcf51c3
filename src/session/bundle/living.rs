//! The mounts of this machine, and all that they say.

use std::{path::Path, time::Duration};

use nix::unistd::geteuid;

use crate::session::{
    config::StoreSettings,
    control,
    diagnosis::Diagnosis,
    failure::Failure,
    mounts::{self, ListedMount},
};

/// How long a mount may take to answer; it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Mounts that go into a bundle.
const MOUNTS_MAX: usize = 8;

/// A mount, and all that it says.
#[derive(Clone, Debug)]
pub struct Diagnosed {
    /// The mount.
    pub mount: ListedMount,
    /// Its answer; `None` if it gives none.
    pub diagnosis: Option<Diagnosis>,
}

impl Diagnosed {
    /// The mount at this directory, dead or alive.
    ///
    /// # Errors
    /// Those of [`mounts::find`].
    pub fn at(dir: &Path) -> Result<Diagnosed, Failure> {
        mounts::find(dir).map(Diagnosed::of)
    }

    /// `settings`, and where they leave something open, those by which the mount reaches its store.
    /// A mount of another user's has no say: it could lead root's credentials anywhere.
    pub fn reached(&self, settings: StoreSettings) -> StoreSettings {
        let is_own = self.mount.user == Some(geteuid().as_raw());
        match self.diagnosis.as_ref().filter(|_| is_own) {
            Some(diagnosis) => diagnosis.reached.complete(settings),
            None => settings,
        }
    }

    fn of(mount: ListedMount) -> Diagnosed {
        let address = mount.address.as_ref();
        let asked = address.map(|address| control::ask_diagnosis(address, ANSWER_WITHIN));
        Diagnosed {
            mount,
            diagnosis: asked.and_then(Result::ok),
        }
    }
}

/// The mounts of a volume, or of all volumes, and how many more there are.
///
/// # Errors
/// Those of [`mounts::list`].
pub(super) fn all(url: Option<&str>) -> Result<(Vec<Diagnosed>, usize), Failure> {
    let mut listed = mounts::list()?;
    listed.retain(|mount| url.is_none_or(|url| mount.url == url));
    let more = listed.len().saturating_sub(MOUNTS_MAX);
    listed.truncate(MOUNTS_MAX);
    Ok((listed.into_iter().map(Diagnosed::of).collect(), more))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::session::{diagnosis::Reached, mounts::SILENT};

    #[test]
    fn only_ones_own_mount_says_where_credentials_are_sent() {
        let reached = Reached {
            endpoint_url: Some("https://theirs".to_owned()),
            region: Some("there".to_owned()),
            ..Reached::default()
        };
        let by = |user| Diagnosed {
            mount: ListedMount {
                mount_point: PathBuf::from("/mnt"),
                url: "s3://bucket".to_owned(),
                user: Some(user),
                state: SILENT.to_owned(),
                pid: None,
                dirty_bytes: None,
                oldest_change_ms: None,
                trouble: None,
                report: None,
                address: None,
            },
            diagnosis: Some(Diagnosis {
                reached: reached.clone(),
                ..Diagnosis::default()
            }),
        };
        let given = StoreSettings {
            region: Some("here".to_owned()),
            ..StoreSettings::default()
        };
        let own = geteuid().as_raw();
        let completed = by(own).reached(given.clone());
        assert_eq!(completed.endpoint_url, reached.endpoint_url);
        assert_eq!(completed.region, given.region, "an option counts more");
        let other = by(own + 1).reached(given);
        assert_eq!(other.endpoint_url, None);
    }
}
