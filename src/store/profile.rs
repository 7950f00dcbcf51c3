//! The profile of the AWS configuration files that was asked for: whether it is there.

use std::env;

use aws_config::profile;
use aws_types::os_shim_internal::{Env, Fs};

use super::causes::innermost;

/// Names of profiles in advice, at most.
const NAMES_MAX: usize = 5;

/// Checks that the profile that `--profile` names is there, or else the one of `AWS_PROFILE`, which
/// matters only where the environment holds no key. `Err` is what is wrong, and advice.
pub(super) async fn check(option: Option<&str>) -> Result<(), (String, String)> {
    let from_environment = || {
        let has_key = env::var_os("AWS_ACCESS_KEY_ID").is_some();
        env::var("AWS_PROFILE").ok().filter(|_| !has_key)
    };
    let (name, given_by) = match (option, from_environment()) {
        (Some(name), _) => (name.to_owned(), "--profile"),
        (None, Some(name)) if !name.is_empty() => (name, "AWS_PROFILE"),
        (None, _) => return Ok(()),
    };
    let files = format!(
        "{} or {}",
        file("AWS_CONFIG_FILE", "~/.aws/config"),
        file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    );
    #[allow(deprecated)]
    let known = profile::load(&Fs::real(), &Env::real(), &Default::default(), None).await;
    let known = known.map_err(|error| {
        (
            format!("{files} cannot be read ({})", innermost(&error)),
            "mend that file".to_owned(),
        )
    })?;
    if known.get_profile(&name).is_some() {
        return Ok(());
    }
    let mut names: Vec<_> = known.profiles().collect();
    names.sort_unstable();
    names.truncate(NAMES_MAX);
    let advice = match names.is_empty() {
        true => "add it there, or leave the profile away and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        false => format!("correct {given_by}; there are {}", names.join(", ")),
    };
    Err((format!("there is no profile {name} in {files}"), advice))
}

/// The path of one of the two files, as its user knows it.
fn file(variable: &str, usual: &str) -> String {
    env::var(variable)
        .ok()
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| usual.to_owned())
}
