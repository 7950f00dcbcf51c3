//! `strongroom mount`: from the command line to a mount that answers, and from there to its end.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    args::LogArgs,
    daemon::{self, Reporter, Side},
    mount_args::MountArgs,
    mount_options,
    observer::TerminalObserver,
    runtime, secret,
};
use crate::{
    fuse,
    seal::{keys::make_process_undumpable, volume::Secret},
    session::{self, Failure, SessionConfig, errors, mountpoint},
    telemetry::shown,
};

/// A path may have 4,096 bytes.
const PATH_CHARS_MAX: usize = 4096;

/// Runs the command. No thread exists yet.
pub fn run(mut args: MountArgs) -> Result<(), Failure> {
    mount_options::apply(&mut args)?;
    let url = session::parse_url(&args.url)?;
    let memory_bytes = session::memory_bytes(args.memory)?;
    let mount_point = mountpoint::check(&args.dir)?;
    if mountpoint::is_own_dead(&mount_point) {
        // Standard error may be closed; there is nobody to tell then.
        let _ = writeln!(
            io::stderr(),
            "strongroom: the process of the mount on {} has died; this mount takes its place. What was fsynced is in the store; check \
             the last writes",
            shown(&mount_point.display().to_string(), PATH_CHARS_MAX)
        );
    }
    fuse::check_device().map_err(|error| errors::mount(&error))?;
    // If the system refuses, the mount is as safe as any other program's memory.
    let _ = make_process_undumpable();
    absolute_paths(&mut args)?;
    let state_root = args.state.root()?;
    let config = SessionConfig {
        url,
        store: args.store.settings(),
        mount_point,
        memory_bytes,
        durability: args.durability,
        upload_delay: args.upload_delay,
        refusal_timeout: args.refusal_timeout,
        capacity: args.capacity,
        read_only: args.read_only,
        follow_every: args.follow_every,
        allow_other: args.allow_other,
        takeover: args.takeover,
        accept: args.accept.into(),
        expect: args.expect,
        timeout: args.timeout,
        disk_cache: args.disk_cache.config(&state_root),
        state_root,
        kernel_flags: args.kernel_flags,
        log_paths: args.log_paths,
        metrics: args.metrics_listen,
        recording: args.record.config(),
    };
    secret::with_secret(&args.secret, |secret| {
        let config = config.clone();
        if args.foreground {
            return work(config, secret, &args.log, &Reporter::terminal());
        }
        match daemon::detach()? {
            Side::Parent(outcome) => outcome,
            Side::Child(reporter) => {
                let outcome = work(config, secret, &args.log, &reporter);
                if let Err(error) = &outcome {
                    tracing::error!("{error}");
                    reporter.failed(error);
                }
                outcome
            }
        }
    })
}

/// The process in the background leaves the directory that it was started in.
fn absolute_paths(args: &mut MountArgs) -> Result<(), Failure> {
    let paths = [
        &mut args.state.state_dir,
        &mut args.log.log_file,
        &mut args.store.ca_bundle,
        &mut args.disk_cache.disk_cache_dir,
        &mut args.record.record,
    ];
    let socket = args.metrics_listen.as_mut();
    let socket = socket.and_then(|address| address.path_mut());
    for path in paths.into_iter().flatten().chain(socket) {
        *path = absolute(path)?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::usage(
            format!("path {}: {error}", path.display()),
            "give another path",
        )
    })
}

/// Everything after the fork.
fn work(
    config: SessionConfig,
    secret: Secret,
    log: &LogArgs,
    reporter: &Reporter,
) -> Result<(), Failure> {
    runtime::block_on(async {
        let observer = TerminalObserver::start(reporter, log)?;
        session::mount_and_serve(config, secret, &observer).await
    })
}
