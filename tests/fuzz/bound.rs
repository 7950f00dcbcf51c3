//! A bound on the memory that one input may take, which all targets share.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that reading one input may take on top of what the process has: inputs have at most
/// 64 KiB, and nothing may be reserved for what one merely announces.
const BYTES_MAX: usize = 32 << 20;

struct Bounded;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Ends the process, so that libFuzzer keeps the input.
fn taken(bytes: usize) {
    if ALLOCATED.fetch_add(bytes, Relaxed) + bytes > LIMIT.load(Relaxed) {
        LIMIT.store(usize::MAX, Relaxed);
        eprintln!("one input took more than {BYTES_MAX} bytes; the last request was for {bytes}");
        std::process::abort();
    }
}

unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        taken(new_size.saturating_sub(layout.size()));
        ALLOCATED.fetch_sub(layout.size().saturating_sub(new_size), Relaxed);
        unsafe { System.realloc(at, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// Runs a target within the bound.
pub fn run(name: &str, input: &[u8]) {
    LIMIT.store(ALLOCATED.load(Relaxed) + BYTES_MAX, Relaxed);
    strongroom::fuzzing::run(name, input);
    LIMIT.store(usize::MAX, Relaxed);
}
