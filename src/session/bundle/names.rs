//! The names that are known before anything is packed: from the command line, the environment, the
//! mounts, and the notes of this machine.

use std::path::Path;

use super::{
    living::Diagnosed,
    scrub::{Scrub, VOLUME},
};
use crate::{
    session::{doctor::DoctorPlan, state},
    store::S3Url,
};

/// Variables whose values are names, or secrets that must not be there anyway.
const VARIABLES: [(&str, &str); 8] = [
    ("HOME", "<home>"),
    ("USER", USER),
    ("LOGNAME", USER),
    ("AWS_PROFILE", "<profile>"),
    ("AWS_CA_BUNDLE", "<certificates>"),
    ("AWS_ACCESS_KEY_ID", "<access key>"),
    ("AWS_SECRET_ACCESS_KEY", "<secret>"),
    ("AWS_SESSION_TOKEN", "<secret>"),
];
/// Variables whose values are URLs of endpoints.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

const USER: &str = "<user>";
/// Every machine has a user of this name.
const ROOT: &str = "root";

/// All of them.
pub(super) fn known(plan: &DoctorPlan, living: &[Diagnosed]) -> Scrub {
    let mut names = Scrub::default();
    of_machine(&mut names);
    names.name(&text(&plan.state_root), "<state directory>");
    names.name(&text(plan.disk_cache.root()), "<disk cache>");
    let settings = &plan.store;
    endpoint(&mut names, settings.endpoint_url.as_deref());
    profile(&mut names, settings.profile.as_deref());
    certificates(&mut names, settings.ca_bundle.as_deref());
    if let Some(url) = &plan.url {
        place(&mut names, &url.to_string());
    }
    for mount in living {
        of_mount(&mut names, mount);
    }
    for (volume, _) in state::volumes(&plan.state_root) {
        names.name(&volume, VOLUME);
    }
    for (known, _) in state::places(&plan.state_root) {
        if let Some((store, url)) = known.rsplit_once(" s3://") {
            endpoint(&mut names, Some(store));
            place(&mut names, &format!("s3://{url}"));
        }
    }
    names
}

fn of_machine(names: &mut Scrub) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    for (name, mask) in VARIABLES {
        let value = variable(name);
        if mask != USER || value != ROOT {
            names.name(&value, mask);
        }
    }
    for name in ENDPOINTS {
        endpoint(names, Some(&variable(name)));
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    names.name(&host, "<host>");
    // It may be told without its domain.
    names.name(host.split('.').next().unwrap_or_default(), "<host>");
}

fn of_mount(names: &mut Scrub, Diagnosed { mount, diagnosis }: &Diagnosed) {
    names.name(&text(&mount.mount_point), "<mount point>");
    place(names, &mount.url);
    let Some(diagnosis) = diagnosis else { return };
    names.name(&diagnosis.status.mount.volume, VOLUME);
    names.name(&diagnosis.status.mount.fingerprint, "<fingerprint>");
    if let Some(file) = &diagnosis.log_file {
        names.name(file, "<log file>");
    }
    if let Some(recording) = &diagnosis.status.recording {
        names.name(&recording.file, "<recording>");
    }
    let reached = &diagnosis.reached;
    endpoint(names, reached.endpoint_url.as_deref());
    profile(names, reached.profile.as_deref());
    certificates(names, reached.ca_bundle.as_deref().map(Path::new));
}

/// The bucket and the prefix of a URL, and the segments of the prefix.
fn place(names: &mut Scrub, url: &str) {
    let Ok(url) = url.parse::<S3Url>() else {
        return;
    };
    names.name(&url.bucket, "<bucket>");
    let prefix = url.prefix.trim_matches('/');
    names.name(prefix, "<prefix>");
    for segment in prefix.split('/') {
        names.name(segment, "<prefix>");
    }
}

/// The address and the host of an endpoint. That of AWS is told as "AWS S3 in REGION", which names
/// nobody.
fn endpoint(names: &mut Scrub, url: Option<&str>) {
    let Some((_, address)) = url.and_then(|url| url.split_once("://")) else {
        return;
    };
    let address = address.trim_end_matches('/');
    names.name(address, "<endpoint>");
    let host = address.split(['/', ':']).next().unwrap_or_default();
    names.name(host, "<endpoint>");
}

fn profile(names: &mut Scrub, profile: Option<&str>) {
    names.name(profile.unwrap_or_default(), "<profile>");
}

fn certificates(names: &mut Scrub, path: Option<&Path>) {
    names.name(&path.map(text).unwrap_or_default(), "<certificates>");
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
