//! The allocator and its settings.
//!
//! jemalloc, because it gives memory back: measured against glibc and mimalloc on the metadata
//! store's work it had the lowest resident memory when idle, and a bound that `--memory` can rely
//! on. One arena: the workers are few, two are no faster (sequential and random reads), and 90
//! readers beside 192 writers at 128 MiB peak 7 MiB higher with two, a thousand readers 16. Dirty
//! pages are returned after 100 ms (at once: reading in order takes twice the CPU), none kept as
//! "muzzy".
//! Blocks of 2 MiB or more, which are parts of uploads, return their pages as soon as they are
//! freed. Together this lowers the peak of a mixed load at 128 MiB by some 12 MiB against 300 ms
//! for all (`e2e long_run`). The thread that returns pages is started later (`cli/runtime.rs`):
//! `mount` forks, and no thread may exist before that.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SETTINGS: &[u8; 97] =
    b"narenas:1,oversize_threshold:2097152,dirty_decay_ms:100,muzzy_decay_ms:0,background_thread:false\0";

/// Read by jemalloc when it initialises: the address of a C string.
// SAFETY: no other object defines `malloc_conf`; a reference to an array is the pointer that
// jemalloc expects, and the string ends in NUL.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 97] = SETTINGS;
