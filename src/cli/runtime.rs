//! The asynchronous runtime of a command.

use std::{future::Future, io, thread::available_parallelism};

use tokio::runtime::{Builder, Runtime};

use crate::session::Failure;

/// Threads that may block at once: name resolution, files of credentials, the lines of the control
/// socket.
const BLOCKING_THREADS_MAX: usize = 16;

/// Stack of each thread. Deep recursion happens nowhere; the default of 2 MiB is only address
/// space.
const STACK_BYTES: usize = 2 << 20;

/// Builds the runtime: one worker a core, at least 2 so that one busy with sealing does not stop
/// the others, at most 4.
///
/// # Errors
/// The system refuses threads.
pub fn build() -> Result<Runtime, Failure> {
    give_memory_back_in_the_background();
    use_small_pages();
    let cores = available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .thread_name("strongroom")
        .enable_all()
        .build()
        .map_err(|error: io::Error| Failure::unexpected(format!("cannot start threads: {error}")))
}

/// Runs one future to its end on a runtime of its own; tasks that it left running are dropped.
///
/// # Errors
/// Those of the future, or of [`build`].
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// The allocator's own thread returns freed pages to the system. It starts here, not in
/// `malloc_conf`, because no thread may exist before `mount` forks.
fn give_memory_back_in_the_background() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::debug!("the allocator gives memory back without a thread of its own: {error}");
    }
}

/// Debian's kernel backs memory with pages of 2 MiB where it can. Then a buffer of which a quarter
/// is used is resident whole: the mount's memory under load would pass `--memory`.
fn use_small_pages() {
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!("the kernel may use huge pages: {error}");
    }
}
