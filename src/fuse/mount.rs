//! Making a mount, watching it, ending it.

use std::{path::Path, sync::Arc};

use fuser::{Config, Session, SessionACL};
use tokio::sync::watch;

use super::{
    MountError, MountOptions, REQUEST_LEN_MAX,
    attach::{attach, check_mount_point, detach},
    fill,
    follow::{Following, follow},
    kernel::Kernel,
    mountinfo::{self, MountEntry},
    notify::Notifier,
    run::Runner,
};
use crate::{fs::Fs, meta::Ino, telemetry::Metrics};

/// Threads that take requests from the kernel. There is more than one, so that a writer waiting for
/// room does not keep others from being served; there are few, because each owns a request buffer
/// (1 MiB touched) and may own a reply's.
const THREADS: usize = 4;

/// The header that comes with a write: fuser reads a request in one piece.
const REQUEST_HEAD_BYTES: u64 = 4096;

/// The bytes that the FUSE threads touch of the buffers that they read requests into.
pub fn request_buffers_bytes(max_write_bytes: u32) -> u64 {
    THREADS as u64 * (u64::from(max_write_bytes) + REQUEST_HEAD_BYTES)
}

/// A mount that was made by this process. Dropping it while it is there detaches it lazily.
pub struct Mounted {
    entry: MountEntry,
    ended: watch::Receiver<bool>,
    runner: Runner,
    notifier: Notifier,
    _following: Option<Following>,
}

/// Mounts `fs` at `mountpoint`. Returns once the handshake with the kernel is over and the threads
/// that answer have been started.
///
/// No part of this process may ask its own mount for anything. A thread that waits for such an
/// answer when the process is killed cannot die before the answer has come, and holds open the very
/// descriptor whose end would wake it: the process would never end, and the mount would hang.
///
/// # Errors
/// [`MountError`], each with its advice. Nothing stays mounted then.
pub async fn mount(
    fs: Fs,
    metrics: Arc<Metrics>,
    options: MountOptions,
    mountpoint: &Path,
) -> Result<Mounted, MountError> {
    // The attributes that the first request needs are read before the kernel can ask, because a
    // failure can be reported better here.
    fs.getattr(Ino::ROOT).await.map_err(MountError::root)?;
    let notifier = Notifier::start().map_err(|error| MountError::io("starting a thread", error))?;
    fs.tell(Arc::new(notifier.clone()));
    fill::start(&fs, notifier.clone())
        .map_err(|error| MountError::io("starting a thread", error))?;
    let runner = Runner::new(
        tokio::runtime::Handle::current(),
        options.timeout,
        metrics,
        notifier.clone(),
    );
    let read_only = fs.read_only();
    let kernel = Kernel::new(
        fs.clone(),
        runner.clone(),
        options.max_write_bytes.min(REQUEST_LEN_MAX),
    );
    let requested = mountpoint.to_owned();
    let read_ahead_kib = options.read_ahead_kib;
    let telling = notifier.clone();
    let (entry, session) =
        blocking(move || start(kernel, &telling, &options, read_only, &requested)).await?;
    let following = read_only.then(|| follow(fs, notifier.clone()));
    let (ending, ended) = watch::channel(false);
    // From here on dropping it undoes the mount.
    let mounted = Mounted {
        entry,
        ended,
        runner,
        notifier,
        _following: following,
    };
    let ours = mounted.entry.clone();
    let telling = mounted.notifier.clone();
    std::thread::Builder::new()
        .name("strongroom-fuse".to_owned())
        .spawn(move || {
            if let Err(error) = session.run() {
                tracing::error!("the session with the kernel ended: {error}");
            }
            telling.detach();
            // Its threads have ended: if the mount is still there, it answers ENOTCONN from now on.
            // It stays, so that nobody writes into the directory below it.
            if mountinfo::is_there(&ours).unwrap_or(false) {
                tracing::error!(
                    "the mount at {:?} is dead; remove it with: fusermount3 -u",
                    ours.path
                );
            }
            // The waiting task may be gone.
            let _ = ending.send(true);
        })
        .map_err(|error| MountError::io("starting the FUSE threads", error))?;
    set_read_ahead(&mounted.entry, read_ahead_kib);
    Ok(mounted)
}

fn start(
    kernel: Kernel,
    notifier: &Notifier,
    options: &MountOptions,
    read_only: bool,
    mountpoint: &Path,
) -> Result<(MountEntry, Session<Kernel>), MountError> {
    let path = check_mount_point(mountpoint)?;
    let device = attach(&path, options, read_only)?;
    let found = mountinfo::find(&path)
        .map_err(|error| MountError::io("reading /proc/self/mountinfo", error))?;
    let entry = found.ok_or_else(|| MountError::NoAnswer(path.clone()))?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    // The kernel decides who may enter, by the mount's own options.
    let session = device.try_clone().and_then(|raw| {
        Ok((
            Session::from_fd(kernel, device, SessionACL::All, config)?,
            raw,
        ))
    });
    match session {
        Ok((session, raw)) => {
            notifier.attach(session.notifier(), raw);
            Ok((entry, session))
        }
        Err(error) => {
            // The descriptor is closed by now: a mount that is left there is dead.
            let _ = detach(&entry, true);
            Err(MountError::io("the handshake with the kernel", error))
        }
    }
}

/// The kernel takes the protocol's readahead as an upper limit of 128 KiB; its own knob is root's.
fn set_read_ahead(entry: &MountEntry, kib: u32) {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let knob = format!("/sys/class/bdi/{}/read_ahead_kb", entry.device);
    if let Err(error) = std::fs::write(&knob, kib.to_string()) {
        tracing::info!("the kernel's readahead stays as it is: {error}");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MountError> + Send + 'static,
) -> Result<T, MountError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(MountError::io("mounting", std::io::Error::other(error))),
    }
}

impl Mounted {
    /// Where it is, by its real path.
    pub fn path(&self) -> &Path {
        &self.entry.path
    }

    /// `major:minor` of its filesystem, the same in all mount namespaces.
    pub fn device(&self) -> &str {
        &self.entry.device
    }

    /// Tells the kernel about changes that it did not make.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The volume is lost: from now on every request is answered with EIO, and every name is asked
    /// for again. The mount stays, so that nobody writes into the directory below it by mistake.
    pub fn fail(&self) {
        self.runner.fail();
        if !self.notifier.all_names() {
            tracing::info!("the kernel may show names and attributes that it has seen before");
        }
    }

    /// Whether [`Mounted::fail`] was called.
    pub fn has_failed(&self) -> bool {
        self.runner.has_failed()
    }

    /// Whether the kernel refuses every change, as it does after `mount -o remount,ro`.
    pub fn is_read_only(&self) -> bool {
        mountinfo::is_read_only(&self.entry).unwrap_or(false)
    }

    /// Whether it is still to be seen there.
    pub fn is_there(&self) -> bool {
        mountinfo::is_there(&self.entry).unwrap_or(true)
    }

    /// Returns when the kernel has let go (by [`Mounted::unmount`], `fusermount3 -u` or `umount`)
    /// and every request under way is answered. Next: [`Fs::shutdown`], then the drain.
    pub async fn wait_unmounted(&self) {
        let mut ended = self.ended.clone();
        // The sender is dropped without a word only if its thread died: that is an end as well.
        let _ = ended.wait_for(|ended| *ended).await;
        self.runner.idle().await;
    }

    /// Unmounts this mount, if it is still there. With `lazy` it leaves the tree at once, while
    /// programs with open files in it go on until these are closed.
    ///
    /// # Errors
    /// [`MountError::Busy`] and others; the mount is still there then.
    pub async fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        let entry = self.entry.clone();
        blocking(move || detach(&entry, lazy)).await
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !*self.ended.borrow()
            && let Err(error) = detach(&self.entry, true)
        {
            tracing::error!("leaving a mount behind: {error}");
        }
    }
}
