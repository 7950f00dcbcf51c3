//! `strongroom usage`: the objects of a volume and their bytes, by kind.

use std::io::Write;

use clap::Args;

use super::{
    look,
    price::{Prices, parse_price},
    usage_table,
    visit::OpenArgs,
};
use crate::{
    check::{Answer, Usage},
    session::{Failure, control::Look},
    telemetry::shown_json,
};

/// `strongroom usage URL|DIR`
#[derive(Args, Debug)]
#[command(
    long_about = "Shows which objects a volume has in the bucket and how many bytes they take, by kind: contents that \
                  files have and have no more, the metadata, leftovers, unfinished uploads. Each object is of exactly \
                  one kind. It reads the metadata and lists the bucket: a request for each thousand objects. A \
                  running mount answers by itself, without a secret.",
    after_help = "\
Examples:
  strongroom usage /mnt/vault
  strongroom usage s3://bucket/laptop --passphrase-file pass --json
  strongroom usage /mnt/vault --cost --price-storage 0.006 --price-request 0.01"
)]
pub struct UsageArgs {
    /// The volume (s3://bucket/prefix), or the directory that it is mounted on
    #[arg(value_name = "URL|DIR")]
    place: String,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Say what it costs; the prices are known only of AWS (S3 Standard, us-east-1)
    #[arg(long, help_heading = "Cost")]
    cost: bool,

    /// The price of a GB (2^30 bytes) for a month
    #[arg(long, value_name = "PER_GB_MONTH", requires = "cost", value_parser = parse_price, help_heading = "Cost")]
    price_storage: Option<f64>,

    /// The price of a thousand requests that write or list
    #[arg(long, value_name = "PER_1000", requires = "cost", value_parser = parse_price, help_heading = "Cost")]
    price_request: Option<f64>,

    #[command(flatten)]
    open: OpenArgs,
}

/// Runs the command.
pub fn run(args: &UsageArgs) -> Result<(), Failure> {
    let mut found = None;
    look::ask(&args.place, &args.open, Look::Usage, &mut |answer| {
        if let Answer::Usage(usage) = answer {
            found = Some(*usage);
        }
    })?;
    let usage = found.ok_or_else(|| Failure::unexpected("there was no answer"))?;
    let prices = args
        .cost
        .then(|| Prices::of(usage.is_aws, args.price_storage, args.price_request));
    // The answer has been paid for: it is printed even if its costs cannot be told.
    let (prices, error) = match prices.transpose() {
        Ok(prices) => (prices, None),
        Err(error) => (None, Some(error)),
    };
    let text = text(args, &usage, prices)?;
    // A reader that has gone is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
    error.map_or(Ok(()), Err)
}

fn text(args: &UsageArgs, usage: &Usage, prices: Option<Prices>) -> Result<String, Failure> {
    let cost = prices.map(|prices| prices.cost(usage));
    if !args.json {
        return Ok(usage_table::render(usage, cost.as_ref()));
    }
    let json = usage_table::json(usage, cost.as_ref())
        .and_then(|json| serde_json::to_string_pretty(&json));
    json.map(|json| shown_json(&json))
        .map_err(|error| Failure::unexpected(format!("cannot print the answer: {error}")))
}
