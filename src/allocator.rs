//! The allocator and its settings.
//!
//! jemalloc, because it gives memory back: measured against glibc and mimalloc on the metadata
//! store's work it had the lowest resident memory when idle, and a bound that `--memory` can rely
//! on. Two arenas (the workers are few), dirty pages returned after 300 ms (a second left 4 MiB
//! more resident under a mixed load, by `e2e long_run`), none kept as "muzzy". The thread that
//! returns them is started later (`cli/runtime.rs`): `mount` forks, and no thread may exist before
//! that.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SETTINGS: &[u8; 70] =
    b"narenas:2,dirty_decay_ms:300,muzzy_decay_ms:0,background_thread:false\0";

/// Read by jemalloc when it initialises: the address of a C string.
// SAFETY: no other object defines `malloc_conf`; a reference to an array is the pointer that
// jemalloc expects, and the string ends in NUL.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 70] = SETTINGS;
