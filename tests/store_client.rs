//! The S3 client layer against the embedded server, over real sockets.

#[path = "common/lax_store.rs"]
mod lax_store;
#[path = "common/raw_store.rs"]
mod raw_store;
#[path = "store_client/support.rs"]
mod support;

#[path = "store_client/bounds.rs"]
mod bounds;
#[path = "store_client/connections.rs"]
mod connections;
#[path = "store_client/errors.rs"]
mod errors;
#[path = "store_client/faults.rs"]
mod faults;
#[path = "store_client/operations.rs"]
mod operations;
#[path = "store_client/probe.rs"]
mod probe;
#[path = "store_client/transport.rs"]
mod transport;
