//! The answer of a mount to `strongroom doctor`: the report, the metrics, its way to the store, and
//! where its log is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{config::StoreSettings, status::StatusReport};

/// Everything that a mount tells for a report of a fault. Fields are added and never renamed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The report. An obstacle in it names no path.
    pub status: StatusReport,
    /// The metrics as text.
    #[serde(default)]
    pub metrics: Option<String>,
    /// The file that it logs to; `None`: standard error.
    #[serde(default)]
    pub log_file: Option<String>,
    /// Whether lines of its log name paths.
    #[serde(default)]
    pub log_names_paths: bool,
    /// Its way to the store.
    #[serde(default)]
    pub reached: Reached,
}

/// The settings by which a mount reaches its store. Unset fields come from the mount's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The endpoint, wherever it was set; `None`: that of AWS.
    pub endpoint_url: Option<String>,
    /// `--region`.
    pub region: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--ca-bundle`.
    pub ca_bundle: Option<String>,
    /// `--path-style`.
    pub path_style: bool,
}

impl Reached {
    /// `settings`, and where they leave something open, those of the mount.
    pub fn complete(&self, settings: StoreSettings) -> StoreSettings {
        let ca_bundle = self.ca_bundle.as_ref().map(PathBuf::from);
        StoreSettings {
            endpoint_url: settings.endpoint_url.or_else(|| self.endpoint_url.clone()),
            region: settings.region.or_else(|| self.region.clone()),
            profile: settings.profile.or_else(|| self.profile.clone()),
            ca_bundle: settings.ca_bundle.or(ca_bundle),
            path_style: settings.path_style || self.path_style,
            rates: settings.rates,
        }
    }
}
