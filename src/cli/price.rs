//! Costs of a volume, by prices that the user gives or that are known of AWS.

use std::time::Duration;

use serde::Serialize;

use crate::{
    check::Usage,
    session::{Failure, lease},
};

/// List prices of S3 Standard in us-east-1 (aws.amazon.com/s3/pricing): US dollars for each
/// GB-month of the first 50 TB, and for a thousand PUT, COPY, POST or LIST requests.
const AWS_STORAGE: f64 = 0.023;
const AWS_REQUESTS: f64 = 0.005;
/// When these were looked up.
const AWS_AS_OF: &str = "2025-01";

/// AWS bills by this GB.
const GB: f64 = (1u64 << 30) as f64;

/// AWS's month: 730 hours.
const MONTH: Duration = Duration::from_secs(730 * 3600);

/// Prices of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    storage: f64,
    requests: f64,
    /// Both are known, and not given by the user.
    is_known: bool,
}

/// Costs of one volume. The names of the fields are the keys of `usage --json --cost`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The origin of the prices.
    pub prices: String,
    /// For each GB (2^30 bytes) and month.
    pub price_storage: f64,
    /// For a thousand requests.
    pub price_requests: f64,
    /// For what is stored now, each month.
    pub storage_a_month: f64,
    /// Requests of a mount that is idle for a month: its lease is renewed.
    pub idle_requests_a_month: u64,
    /// The cost of these.
    pub idle_mount_a_month: f64,
    /// The cost of this look.
    pub this_look: f64,
}

impl Prices {
    /// Takes the prices that were given, and those that are known where none was.
    ///
    /// # Errors
    /// A price is neither given nor known.
    pub fn of(
        is_aws: bool,
        storage: Option<f64>,
        requests: Option<f64>,
    ) -> Result<Prices, Failure> {
        let known = |price: f64| is_aws.then_some(price);
        match (
            storage.or(known(AWS_STORAGE)),
            requests.or(known(AWS_REQUESTS)),
        ) {
            (Some(price), Some(a_thousand)) => Ok(Prices {
                storage: price,
                requests: a_thousand,
                is_known: storage.is_none() && requests.is_none(),
            }),
            _ => Err(Failure::usage(
                "the prices of this store are not known",
                "give --price-storage PER_GB_MONTH and --price-request PER_1000",
            )),
        }
    }

    /// The costs of a volume at these prices.
    pub fn cost(&self, usage: &Usage) -> Cost {
        let uploads = usage.uploads.unwrap_or_default();
        let stored = usage.total.bytes + uploads.bytes;
        let renewals = MONTH.as_secs() / lease::RENEW_EVERY.as_secs();
        let requests = |count: u64| count as f64 / 1000.0 * self.requests;
        Cost {
            prices: match self.is_known {
                true => format!(
                    "list prices of S3 Standard in us-east-1, in US dollars, as of {AWS_AS_OF}; give others with --price-storage and --price-request"
                ),
                false => "as given".to_owned(),
            },
            price_storage: self.storage,
            price_requests: self.requests,
            storage_a_month: stored as f64 / GB * self.storage,
            idle_requests_a_month: renewals,
            idle_mount_a_month: requests(renewals),
            this_look: requests(usage.requests),
        }
    }
}

/// Reads a price.
pub fn parse_price(text: &str) -> Result<f64, String> {
    let price: Option<f64> = text.parse().ok();
    price
        .filter(|price| price.is_finite() && *price >= 0.0)
        .ok_or_else(|| format!("'{text}' is no price; write a number such as 0.023"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64) -> Usage {
        let mut usage = Usage {
            requests: 4,
            ..Usage::default()
        };
        usage.total.bytes = bytes;
        usage
    }

    #[test]
    fn costs_are_prices_times_amounts() {
        let prices = Prices::of(false, Some(0.02), Some(0.01)).expect("given");
        let cost = prices.cost(&usage(50 << 30));
        assert!((cost.storage_a_month - 1.0).abs() < 1e-9, "{cost:?}");
        assert_eq!(cost.idle_requests_a_month, 87_600);
        assert!((cost.idle_mount_a_month - 0.876).abs() < 1e-9, "{cost:?}");
        assert!((cost.this_look - 0.00004).abs() < 1e-12, "{cost:?}");
        assert_eq!(cost.prices, "as given");
    }

    #[test]
    fn only_the_prices_of_aws_are_known() {
        let known = Prices::of(true, None, None).expect("AWS").cost(&usage(0));
        assert!(known.prices.contains("us-east-1"), "{}", known.prices);
        let error = Prices::of(false, Some(0.02), None).expect_err("one is missing");
        assert!(error.to_string().contains("--price-request"), "{error}");
        assert!(Prices::of(false, None, None).is_err());
    }

    #[test]
    fn a_price_is_a_number_that_is_not_negative() {
        assert_eq!(parse_price("0.023"), Ok(0.023));
        for wrong in ["-1", "cheap", "inf", "NaN", ""] {
            assert!(parse_price(wrong).is_err(), "{wrong}");
        }
    }
}
