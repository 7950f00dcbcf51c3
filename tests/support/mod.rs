//! The support library of the tests: each test program has it as a module.
//!
//! ```text
//! credentials     the one key pair, and the environment of clients
//! canary          words that must not be found in what travels
//! certificates    for TLS
//! server          the embedded server in a temporary directory, and store clients of it
//! volume          a volume on such a server, opened inside this process
//! openmetrics     metrics as a client gets and reads them
//! har             recordings of requests, read
//! opened          what opening it gives: as one mount sees it, with or without the kernel
//! files           files of an opened volume, by name and handle
//! site            a server with a volume, for the real binary
//! mount           a mount by the real binary
//! bucket          the bucket as its provider sees it
//! server_process  the server as a process of its own, which can be stopped and killed
//! lying           a proxy that lies about a store as told
//! raw_store       a store that answers bytes of the test's choice
//! commands        programs that must succeed
//! tree            trees of files, and snapshots to compare
//! random          bytes and draws that are the same each time
//! wait            waiting for conditions
//! plot            measurements as a diagram
//! terminal        a program in a terminal: its screen, and keys
//! ```
// Each test program uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod bucket;
pub mod canary;
pub mod certificates;
pub mod commands;
pub mod credentials;
pub mod files;
pub mod har;
pub mod lying;
pub mod mount;
pub mod opened;
pub mod openmetrics;
pub mod plot;
pub mod random;
pub mod raw_store;
pub mod server;
pub mod server_process;
pub mod site;
pub mod terminal;
pub mod tree;
pub mod volume;
pub mod wait;
