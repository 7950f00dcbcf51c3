//! Logs and counters.
//!
//! Counters are plain atomics that live as long as the process; `strongroom status` and the metrics
//! read them.
//! Nothing here ever holds a secret, a name or a byte of content: labels are operation kinds. Only
//! `inodes.rs` asks for names, where the user wants them in the log.

mod counters;
mod histogram;
mod inodes;
mod kernel_requests;
mod line;
pub mod log;
mod log_file;
mod metrics;
mod store_requests;
mod text;

pub use counters::{Counter, Gauge};
pub use histogram::{Histogram, HistogramCounts};
pub use inodes::{InLog, log_paths};
pub use kernel_requests::{KernelRequests, RequestKind};
pub use line::LogFormat;
pub use log_file::{LogTarget, before as log_before};
pub use metrics::Metrics;
pub use store_requests::{Outcome, StoreRequests};
pub use text::{human_size, moment, shown, shown_json};
