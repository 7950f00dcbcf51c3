//! `strongroom serve`: the embedded S3 server alone.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    runtime,
    values::{parse_duration, parse_log_level, parse_size},
};
use crate::{
    server::{
        Faults, RequestLog, SecretString, Server, ServerConfig, ServerError, SyncPolicy, TlsFiles,
    },
    session::Failure,
    telemetry,
};

/// `strongroom serve DIR --listen ADDR`
#[derive(Args, Debug)]
#[command(after_help = "\
The key pair that clients must sign with comes from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

Example:
  AWS_ACCESS_KEY_ID=me AWS_SECRET_ACCESS_KEY=secret strongroom serve ./objects --listen 127.0.0.1:9000")]
pub struct ServeArgs {
    /// The directory that holds the buckets; made when missing
    dir: PathBuf,

    /// The address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// Serve HTTPS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Answer `/stats` and `/faults` there; no authentication, so loopback only
    #[arg(long, value_name = "ADDR")]
    stats_listen: Option<SocketAddr>,

    /// Log each request to this file; `-` is standard error
    #[arg(long, value_name = "FILE")]
    request_log: Option<PathBuf>,

    /// Do not wait for the disk: survives a killed server, not a power cut
    #[arg(long)]
    no_sync: bool,

    /// For tests: delay every request by this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Faults")]
    latency: Option<Duration>,

    /// For tests: the limit over all connections, in bytes a second
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Faults")]
    bandwidth: Option<u64>,

    /// For tests: the share of requests (0 to 1) that fail with 500 or 503
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        help_heading = "Faults"
    )]
    error_rate: f64,

    /// For tests: the share of requests (0 to 1) whose connection is cut
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        help_heading = "Faults"
    )]
    reset_rate: f64,

    /// For tests: the seed that chooses the requests that are hit
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        help_heading = "Faults"
    )]
    fault_seed: u64,

    /// For tests: let requests meet what a recording of `mount --record` tells: the same delays,
    /// errors and broken connections, each in its turn among those of its kind
    #[arg(long, value_name = "FILE", help_heading = "Faults")]
    replay: Option<PathBuf>,

    /// How much is logged to standard error
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = parse_log_level)]
    log_level: String,
}

/// Runs the command.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    telemetry::log::start(&args.log_level, telemetry::LogFormat::default(), None)
        .map_err(|error| Failure::usage(error.to_string(), "see --log-level"))?;
    let config = config(args)?;
    runtime::block_on(serve(config))
}

fn config(args: ServeArgs) -> Result<ServerConfig, Failure> {
    let variable = |name: &str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
            Failure::usage(
                format!("{name} is not set"),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the key pair that clients must use",
            )
        })
    };
    let secret = SecretString::from(variable("AWS_SECRET_ACCESS_KEY")?);
    let mut config = ServerConfig::new(args.dir, variable("AWS_ACCESS_KEY_ID")?, secret);
    config.listen = args.listen;
    config.stats_listen = args.stats_listen;
    config.tls = match (args.tls_cert, args.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        _ => None,
    };
    config.faults = Faults {
        latency: args.latency.unwrap_or_default(),
        bandwidth: args.bandwidth,
        error_rate: args.error_rate,
        reset_rate: args.reset_rate,
        seed: args.fault_seed,
        ..Faults::default()
    };
    config.replay = args.replay;
    config.sync = if args.no_sync {
        SyncPolicy::Never
    } else {
        SyncPolicy::Always
    };
    config.request_log = match args.request_log {
        None => RequestLog::Off,
        Some(path) if path.as_os_str() == "-" => RequestLog::Stderr,
        Some(path) => RequestLog::File(path),
    };
    Ok(config)
}

async fn serve(config: ServerConfig) -> Result<(), Failure> {
    let server = Server::start(config).await.map_err(|error| {
        let advice = match error {
            ServerError::Replay { .. } => "give --replay a file that 'mount --record' has written",
            _ => "choose another address or directory",
        };
        Failure::usage(format!("the server cannot start: {error}"), advice)
    })?;
    let failed =
        |error: std::io::Error| Failure::unexpected(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {}", server.endpoint_url());
    if let Some(address) = server.stats_addr() {
        let _ = writeln!(out, "statistics on http://{address}/stats");
    }
    let _ = out.flush();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}
