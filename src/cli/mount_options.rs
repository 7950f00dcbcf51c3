//! `-o`: the options that `mount(8)` and an fstab line pass.
//!
//! Each option either means one of `mount`'s long options, or a flag of the kernel's, or is meant
//! for `mount(8)` or systemd and has no meaning here. Anything else is refused by name.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{
    disk_cache::parse_cache_size,
    mount_args::MountArgs,
    record_args::{parse_minutes, parse_record_size},
    values::{
        parse_duration, parse_follow_every, parse_log_level, parse_memory, parse_rate, parse_size,
    },
};
use crate::{
    session::{Durability, Failure, KernelFlag},
    telemetry::LogFormat,
};

/// Applies all `-o` lists of `args` to its other fields.
///
/// # Errors
/// An unknown option, a value that is missing, superfluous or cannot be; the option is named.
pub fn apply(args: &mut MountArgs) -> Result<(), Failure> {
    let lists = std::mem::take(&mut args.options);
    for option in lists
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|option| !option.is_empty())
    {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if is_for_others(name) {
            continue;
        }
        match value {
            None => flag(args, name)?,
            Some(value) => setting(args, name, value)?,
        }
    }
    Ok(())
}

/// Options of mount(8) and systemd that stand in fstab and mean nothing to a filesystem.
fn is_for_others(name: &str) -> bool {
    matches!(
        name,
        "defaults"
            | "auto"
            | "noauto"
            | "nofail"
            | "_netdev"
            | "user"
            | "users"
            | "nouser"
            | "owner"
            | "group"
            | "async"
            | "noatime"
            | "nodiratime"
            | "relatime"
            | "lazytime"
            | "exec"
            | "rw"
            | "comment"
            | "default_permissions"
    ) || name.starts_with("x-")
        || name.starts_with("X-")
}

fn flag(args: &mut MountArgs, name: &str) -> Result<(), Failure> {
    match name {
        "ro" | "read-only" => args.read_only = true,
        "allow_other" | "allow-other" => args.allow_other = true,
        "takeover" => args.takeover = true,
        "log-paths" => args.log_paths = true,
        "allow-rollback" => args.accept.allow_rollback = true,
        "allow-other-volume" => args.accept.allow_other_volume = true,
        "path-style" => args.store.path_style = true,
        "noexec" => args.kernel_flags.push(KernelFlag::NoExec),
        "nosuid" => args.kernel_flags.push(KernelFlag::NoSuid),
        "suid" => args.kernel_flags.push(KernelFlag::Suid),
        "nodev" => args.kernel_flags.push(KernelFlag::NoDev),
        "dev" => args.kernel_flags.push(KernelFlag::Dev),
        // `mount -o remount DIR` asks the helper for a second mount with other options.
        "remount" => {
            return Err(Failure::usage(
                "a mount keeps the options that it began with",
                "unmount it and mount it again; only 'mount -i -o remount,ro DIR' and 'remount,rw' work, which the kernel does alone",
            ));
        }
        _ if SETTINGS.contains(&name) => {
            return Err(Failure::usage(
                format!("mount option '{name}' needs a value"),
                format!("write {name}=..."),
            ));
        }
        _ => return Err(unknown(name)),
    }
    Ok(())
}

/// The options that take a value.
const SETTINGS: [&str; 29] = [
    "capacity",
    "passphrase-file",
    "key-file",
    "recovery-key-file",
    "memory",
    "durability",
    "upload-delay",
    "refusal-timeout",
    "follow-every",
    "timeout",
    "disk-cache",
    "disk-cache-dir",
    "state-dir",
    "expect",
    "metrics-listen",
    "record",
    "record-minutes",
    "record-size",
    "log-file",
    "log-level",
    "log-max-size",
    "log-format",
    "endpoint-url",
    "region",
    "profile",
    "ca-bundle",
    "max-upload-rate",
    "max-download-rate",
    "passphrase-command",
];

fn setting(args: &mut MountArgs, name: &str, value: &str) -> Result<(), Failure> {
    let invalid = |why: String| {
        Failure::usage(
            format!("mount option '{name}': {why}"),
            "see 'strongroom mount --help'",
        )
    };
    if value.is_empty() && SETTINGS.contains(&name) {
        return Err(invalid("the value is empty".to_owned()));
    }
    let (path, text) = (|| Some(PathBuf::from(value)), || Some(value.to_owned()));
    match name {
        "passphrase-file" => args.secret.passphrase_file = path(),
        "passphrase-command" => args.secret.passphrase_command = text(),
        "key-file" => args.secret.key_file = path(),
        "recovery-key-file" => args.secret.recovery_key_file = path(),
        "memory" => args.memory = Some(parse_memory(value).map_err(invalid)?),
        "capacity" => args.capacity = Some(parse_size(value).map_err(invalid)?),
        "durability" => {
            args.durability = Durability::from_str(value, false)
                .map_err(|_| invalid("fsync or close".to_owned()))?
        }
        "upload-delay" => args.upload_delay = parse_duration(value).map_err(invalid)?,
        "refusal-timeout" => args.refusal_timeout = parse_duration(value).map_err(invalid)?,
        "follow-every" => args.follow_every = parse_follow_every(value).map_err(invalid)?,
        "timeout" => args.timeout = parse_duration(value).map_err(invalid)?,
        "disk-cache" => args.disk_cache.disk_cache = parse_cache_size(value).map_err(invalid)?,
        "disk-cache-dir" => args.disk_cache.disk_cache_dir = path(),
        "state-dir" => args.state.state_dir = path(),
        "expect" => args.expect = Some(value.parse().map_err(invalid)?),
        "metrics-listen" => args.metrics_listen = Some(value.parse().map_err(invalid)?),
        "record" => args.record.record = path(),
        "record-minutes" => args.record.record_minutes = parse_minutes(value).map_err(invalid)?,
        "record-size" => args.record.record_size = parse_record_size(value).map_err(invalid)?,
        "log-file" => args.log.log_file = path(),
        "log-level" => args.log.log_level = Some(parse_log_level(value).map_err(invalid)?),
        "log-max-size" => args.log.log_max_size = parse_size(value).map_err(invalid)?,
        "log-format" => {
            args.log.log_format =
                LogFormat::from_str(value, false).map_err(|_| invalid("text or json".to_owned()))?
        }
        "endpoint-url" => args.store.endpoint_url = text(),
        "region" => args.store.region = text(),
        "profile" => args.store.profile = text(),
        "ca-bundle" => args.store.ca_bundle = path(),
        "max-upload-rate" => args.store.max_upload_rate = Some(parse_rate(value).map_err(invalid)?),
        "max-download-rate" => {
            args.store.max_download_rate = Some(parse_rate(value).map_err(invalid)?)
        }
        _ => return Err(unknown(name)),
    }
    Ok(())
}

fn unknown(name: &str) -> Failure {
    Failure::usage(
        format!("unknown mount option '{name}'"),
        "see 'strongroom mount --help' for those there are",
    )
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use clap::Parser;

    use super::*;
    use crate::data::MemoryPlan;
    use crate::session::{Exit, MemorySize};

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        mount: MountArgs,
    }

    fn parse(options: &str) -> Result<MountArgs, Failure> {
        let mut args = Harness::parse_from(["mount", "s3://bucket/x", "/mnt", "-o", options]).mount;
        apply(&mut args).map(|()| args)
    }

    #[test]
    fn an_fstab_line_is_understood() {
        let args = parse("rw,passphrase-file=/etc/pass,memory=256MiB,allow_other,_netdev,nofail,x-systemd.automount,noexec,timeout=5m")
            .expect("understood");
        assert_eq!(
            args.secret.passphrase_file.as_deref(),
            Some(Path::new("/etc/pass"))
        );
        assert_eq!(args.memory, Some(MemorySize::Bytes(256 << 20)));
        assert_eq!(args.timeout, Duration::from_secs(300));
        assert!(args.allow_other && !args.read_only);
        assert_eq!(args.kernel_flags, [KernelFlag::NoExec]);
    }

    #[test]
    fn the_delay_that_the_help_names_is_the_one_that_the_data_path_has() {
        let args = parse("rw").expect("understood");
        let plan = MemoryPlan::for_memory(512 << 20);
        assert_eq!(args.upload_delay, plan.data.write_back_after);
        assert_eq!(args.upload_delay, Duration::from_secs(5));
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        for (options, named) in [
            ("ro,frobnicate", "'frobnicate'"),
            ("frobnicate=7", "'frobnicate'"),
            ("memory", "'memory' needs a value"),
            ("memory=lots", "'memory'"),
            ("key-file=", "'key-file'"),
            ("durability=never", "'durability'"),
            ("log-level=wran", "'log-level'"),
            ("record-minutes=0", "'record-minutes'"),
            ("record-size=1KiB", "'record-size'"),
            ("remount,ro", "keeps the options"),
        ] {
            let error = parse(options).expect_err(options);
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.what.contains(named), "{options}: {error}");
        }
    }

    #[test]
    fn every_setting_in_the_list_is_known() {
        for name in SETTINGS {
            let value = match name {
                "capacity" | "memory" | "disk-cache" | "log-max-size" | "max-upload-rate"
                | "max-download-rate" | "record-size" => "1GiB",
                "record-minutes" => "30",
                "durability" => "close",
                "timeout" | "upload-delay" | "refusal-timeout" | "follow-every" => "3s",
                "metrics-listen" => "127.0.0.1:9464",
                "expect" => "sr1-aaaaaaaaaaaaa-1-pvki",
                "log-level" => "debug",
                "log-format" => "json",
                _ => "value",
            };
            assert!(parse(&format!("{name}={value}")).is_ok(), "{name}");
        }
    }
}
