//! The metrics of a mount in the OpenMetrics text format, over HTTP: `mount --metrics-listen`.
//!
//! Promises: the address is had before anything else of the mount begins, so that one that cannot
//! be used is an error of `mount`; at most [`CONNECTIONS_MAX`] clients are answered at once, each
//! within [`SERVED_WITHIN`], whatever they send or leave unread; the figures are those of `status`,
//! gathered without a request to the store.
//! Never: shows a name, a key or the volume's URL. Labels are operations, owners and states.
//!
//! | file | what it holds |
//! |---|---|
//! | `address.rs` | the addresses, and listening there |
//! | `http.rs` | requests and answers as bytes |
//! | `server.rs` | the clients |
//! | `families.rs`, `rows.rs` | the families of metrics; writing one of them |

mod address;
mod families;
mod http;
mod rows;
mod server;

pub use address::{MetricsAddress, MetricsListener};
pub use families::text;
pub use server::{CONNECTIONS_MAX, MetricsServer, SERVED_WITHIN};
