//! The capabilities that are asked of the kernel at INIT.

use fuser::{InitFlags, KernelConfig};

/// Requests in the background (readahead, write-back of mapped pages) at once: no limit, because
/// the governor is one. A limit in the kernel stops readers: those that wait for memory take all
/// places, and those that have it cannot ask for what lies ready. With 64, 200 readers of 2 MiB
/// each at 128 MiB took 3.3 s in place of 0.5.
const BACKGROUND_MAX: u16 = u16::MAX;

/// Each is asked for alone, because fuser refuses a whole set for one bit that the kernel lacks.
///
/// Left out on purpose: write-back caching (times and sizes would be the kernel's, and a crash
/// would lose more), splice (fuser does not use it), remote locks (there is one writer, so the
/// kernel's own are enough), SETXATTR_EXT (fuser panics), ASYNC_DIO (the kernel does not drop pages
/// that were read while an asynchronous direct write was under way: 6 of 2,400 cached reads after
/// such writes were old, none without it), ATOMIC_O_TRUNC (with it the kernel hands O_TRUNC on
/// before it checks whether the file is a running program: such a program was emptied, and died).
const ALWAYS: &[InitFlags] = &[
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_EXPORT_SUPPORT,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
];

/// For the only writer. HANDLE_KILLPRIV_V2 lets the kernel skip a lookup of `security.capability`
/// before every single write. fuser does not pass on the bits that say for whom truncate and open
/// clear set-id bits: `fs` goes by the caller's uid instead.
const WRITABLE: &[InitFlags] = &[InitFlags::FUSE_HANDLE_KILLPRIV_V2];

/// For followers: contents change behind the kernel's back.
const READ_ONLY: &[InitFlags] = &[InitFlags::FUSE_AUTO_INVAL_DATA];

/// The capabilities that the kernel granted and that the handlers have to know about.
#[derive(Clone, Copy, Default)]
pub struct Granted {
    /// Files that are opened for direct I/O can be mapped (Linux 6.6). On older kernels nothing is
    /// opened so.
    pub direct_io: bool,
}

/// Asks for all of these.
pub fn negotiate(config: &mut KernelConfig, read_only: bool, max_write_bytes: u32) -> Granted {
    let special = if read_only { READ_ONLY } else { WRITABLE };
    for capability in ALWAYS.iter().chain(special) {
        if let Err(missing) = config.add_capabilities(*capability) {
            tracing::warn!("this kernel's FUSE lacks {missing:?}");
        }
    }
    // Both values are within fuser's limits; otherwise it would answer with the nearest one.
    let _ = config.set_max_write(max_write_bytes);
    let _ = config.set_max_background(BACKGROUND_MAX);
    Granted {
        direct_io: config
            .add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
            .is_ok(),
    }
}
