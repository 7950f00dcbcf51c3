//! When SlateDB's reader may look for something new, and which generation it has reached. See
//! `follower_store` for why looks are held back.
//!
//! Looks come `--follow-every` apart while the kernel sends requests or a file is open. Without
//! both, the pause before a look grows with the time since the last request ([`IDLE_SHARE`]). The
//! request that ends such a time waits until a look that began after it is over
//! ([`Pace::catch_up`]): so what it sees is as new as at any other time.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use slatedb::{
    DbStatus,
    object_store::{self, ObjectStore, ObjectStoreExt, path::Path},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How soon after a look SlateDB's reader begins the next one, which is then held back.
pub(in crate::meta) const READER_TICK: Duration = Duration::from_millis(20);

/// How often a look goes on although there is no new log object. This finds manifests that say only
/// that tables were compacted. It also goes past a log object that was deleted because this machine
/// was suspended for longer than log objects are kept.
const WHOLE_LOOK_EVERY: Duration = Duration::from_secs(30);

/// The same for a look that a request waits for, which costs it three more round trips. Log objects
/// are kept for three times as long.
const WHOLE_LOOK_AT_LAST: Duration = Duration::from_secs(5 * 60);

/// While nobody uses the mount, the next look comes after this share of the time since the last
/// request: looks grow apart by a quarter each.
const IDLE_SHARE: u32 = 4;

/// Looks are at most so far apart. A follower whose key may not write has two minutes before what
/// was replaced is deleted.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A request waits at most so long for a look. A store that does not answer within it leaves what
/// is known to be shown, as it does while the mount is in use.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// The schedule of a follower's looks, and their results.
pub(in crate::meta) struct Pace {
    every: Duration,
    looks: Mutex<Looks>,
    /// One HEAD of a log object at a time, so that the first that is missing answers for those
    /// after it.
    probe: tokio::sync::Mutex<()>,
    status: OnceLock<watch::Receiver<DbStatus>>,
    published: watch::Sender<Option<u64>>,
    /// The beginning of the last look that is over.
    looked: watch::Sender<Instant>,
    /// The next look is due earlier than it was.
    hurry: Notify,
    /// Clones of it are held by those who have a file open.
    watching: Arc<()>,
    /// Set when the reader is to end: from then on every request is answered with "not found".
    closing: CancellationToken,
    /// Set when the volume was dropped without being closed: no further request is made.
    dropped: CancellationToken,
}

struct Looks {
    /// A look is under way and may bring something at any moment.
    under_way: bool,
    /// The look under way asks for manifests, until one is missing.
    asks_for_manifests: bool,
    /// No request is made before this.
    next: Instant,
    /// When the last look began, and when the last one that is over ended.
    began: Instant,
    over: Instant,
    /// The pause after the last look.
    pause: Duration,
    /// When the kernel last sent a request; `None` if nobody tells of requests.
    last_request: Option<Instant>,
    /// Since when requests wait for a look.
    catching_up: Option<Instant>,
    last_whole: Option<SystemTime>,
    /// The first log object that was found missing in this look.
    missing: Option<u64>,
    /// The last log object that was found in this look.
    present: u64,
    /// The first log object that was missing when last looked for.
    next_log: Option<u64>,
    /// Why the last look failed, if it did.
    failed: Option<String>,
}

impl Looks {
    /// Logs why a look failed, once for all looks that fail so.
    fn look_failed(&mut self, error: &object_store::Error) {
        let error = error.to_string();
        if self.failed.as_ref() != Some(&error) {
            tracing::warn!("looking for what the writer did: {error}");
        }
        self.failed = Some(error);
    }
}

impl Pace {
    pub fn new(every: Duration) -> Arc<Pace> {
        let now = Instant::now();
        Arc::new(Pace {
            every,
            looks: Mutex::new(Looks {
                under_way: true,
                asks_for_manifests: false,
                next: now + every,
                began: now,
                over: now,
                pause: every,
                last_request: None,
                catching_up: None,
                last_whole: Some(SystemTime::now()),
                missing: None,
                present: 0,
                next_log: None,
                failed: None,
            }),
            probe: tokio::sync::Mutex::new(()),
            status: OnceLock::new(),
            published: watch::Sender::new(None),
            looked: watch::Sender::new(now),
            hurry: Notify::new(),
            watching: Arc::default(),
            closing: CancellationToken::new(),
            dropped: CancellationToken::new(),
        })
    }

    /// From now on looks are held back. Returns once the first generation is published.
    pub async fn begin(&self, status: watch::Receiver<DbStatus>) {
        let _ = self.status.set(status);
        // `self` holds the sender, so this cannot end early.
        let _ = self.published.subscribe().wait_for(Option::is_some).await;
    }

    pub fn published(&self) -> Option<u64> {
        *self.published.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.published.subscribe()
    }

    /// Makes the reader end.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Makes no further request.
    pub fn abandon(&self) {
        self.dropped.cancel();
    }

    /// How long reads will see nothing new; zero while a look is under way.
    pub fn unchanged_for(&self) -> Duration {
        let looks = self.looks.lock();
        match looks.under_way {
            true => Duration::ZERO,
            false => looks
                .next
                .min(looks.over + self.every)
                .saturating_duration_since(Instant::now()),
        }
    }

    /// A file is open as long as this is held: what the kernel has of it may be used without a
    /// request, so it is followed without a pause.
    pub fn watch(&self) -> Arc<()> {
        Arc::clone(&self.watching)
    }

    /// The kernel has sent a request. Returns when what is seen is new enough to answer it.
    pub async fn catch_up(&self) {
        let Some((since, left)) = self.request_came() else {
            return;
        };
        let mut looked = self.looked.subscribe();
        let done = looked.wait_for(|began| *began >= since);
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = self.dropped.cancelled() => {}
            _ = tokio::time::timeout(left, done) => {}
        }
    }

    /// Since when a look is waited for, and how long that may take yet; `None` where none is
    /// needed.
    fn request_came(&self) -> Option<(Instant, Duration)> {
        let now = Instant::now();
        let mut looks = self.looks.lock();
        looks.last_request = Some(now);
        if let Some(since) = looks.catching_up {
            let left = (since + CATCH_UP_MAX).saturating_duration_since(now);
            return (!left.is_zero()).then_some((since, left));
        }
        if looks.pause <= self.every {
            return None;
        }
        looks.pause = self.every;
        looks.next = looks.next.min(looks.over + self.every);
        let is_new_enough = now < looks.over + self.every;
        if !is_new_enough {
            looks.catching_up = Some(now);
        }
        self.hurry.notify_one();
        (!is_new_enough).then_some((now, CATCH_UP_MAX))
    }

    /// A look has ended. Requests that wait for one that begins later have it at once.
    fn look_is_over(&self, looks: &mut Looks) {
        looks.under_way = false;
        looks.over = Instant::now();
        if looks.catching_up.is_some_and(|since| since <= looks.began) {
            looks.catching_up = None;
        }
        looks.pause = match looks.last_request {
            Some(last) if Arc::strong_count(&self.watching) == 1 => {
                (looks.over - last) / IDLE_SHARE
            }
            _ => Duration::ZERO,
        };
        looks.pause = looks.pause.min(PAUSE_MAX).max(self.every);
        if looks.catching_up.is_some() {
            looks.next = looks.over;
        }
        let began = looks.began;
        self.looked.send_replace(began);
    }

    pub fn every(&self) -> Duration {
        self.every
    }

    /// The reader begins a look: the one before it is over.
    fn look_begins(&self, status: &watch::Receiver<DbStatus>) {
        let generation = status.borrow().durable_seq;
        self.published.send_if_modified(|published| {
            let is_newer = published.is_none_or(|before| before < generation);
            if is_newer {
                *published = Some(generation);
            }
            is_newer
        });
        let mut looks = self.looks.lock();
        self.look_is_over(&mut looks);
        if looks.catching_up.is_none() {
            looks.next = looks.next.max(looks.began + looks.pause);
        }
    }

    /// Returns when it is time for a look that may find something; false if the reader is to end.
    async fn until_worth_a_look(&self, store: &dyn ObjectStore) -> bool {
        let begun = Instant::now();
        loop {
            let at = {
                let mut looks = self.looks.lock();
                // The first look after one that took longer than `every` does not wait, but no two
                // follow each other without a pause.
                looks.next = looks.next.max(begun + READER_TICK);
                looks.next
            };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.hurry.notified() => continue,
            }
            let (is_whole, next_log) = {
                let mut looks = self.looks.lock();
                looks.began = Instant::now();
                looks.missing = None;
                looks.present = 0;
                // The wall clock goes on while the machine is suspended, a monotonic one does not.
                let since = looks.last_whole.map(|last| last.elapsed());
                let whole_after = match looks.catching_up {
                    Some(_) => WHOLE_LOOK_AT_LAST,
                    None => WHOLE_LOOK_EVERY,
                };
                let is_whole = !matches!(since, Some(Ok(since)) if since < whole_after);
                if is_whole {
                    looks.last_whole = Some(SystemTime::now());
                }
                (is_whole, looks.next_log)
            };
            let Some(next_log) = next_log.filter(|_| !is_whole) else {
                break;
            };
            match store.head(&log_path(next_log)).await {
                Ok(_) => {
                    let mut looks = self.looks.lock();
                    (looks.present, looks.failed) = (next_log, None);
                    break;
                }
                Err(object_store::Error::NotFound { .. }) => self.looks.lock().failed = None,
                Err(error) => self.looks.lock().look_failed(&error),
            }
            let mut looks = self.looks.lock();
            self.look_is_over(&mut looks);
            if looks.catching_up.is_none() {
                looks.next = looks.over + looks.pause;
            }
        }
        true
    }

    /// Holds the first request of a look back.
    pub async fn admit(&self, store: &dyn ObjectStore) -> bool {
        let Some(status) = self.status.get() else {
            return true;
        };
        self.look_begins(status);
        tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            () = self.dropped.cancelled() => {
                self.closing.cancelled().await;
                return false;
            }
            _ = self.until_worth_a_look(store) => {}
        }
        let mut looks = self.looks.lock();
        looks.under_way = true;
        looks.asks_for_manifests = true;
        looks.next = Instant::now() + self.every;
        true
    }

    /// Whether a look is under way that asks for manifests.
    pub fn asks_for_manifests(&self) -> bool {
        self.looks.lock().asks_for_manifests
    }

    /// Notes the answer to a request for a manifest. If it was there, the next one is asked for in
    /// the same look.
    pub fn manifest_answered(&self, is_there: bool) {
        self.looks.lock().asks_for_manifests &= is_there;
    }

    /// A lock to hold while asking for a log object that is not known to be there.
    pub async fn probe_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.probe.lock().await
    }

    /// Whether this log object, or a later one, was found in this look.
    pub fn is_present(&self, log: u64) -> bool {
        log <= self.looks.lock().present
    }

    pub fn is_missing(&self, log: u64) -> bool {
        let missing = self.looks.lock().missing;
        self.closing.is_cancelled() || missing.is_some_and(|missing| missing <= log)
    }

    pub fn note_log(&self, log: u64, is_there: bool) {
        let mut looks = self.looks.lock();
        if is_there {
            looks.present = looks.present.max(log);
        } else {
            looks.missing = Some(looks.missing.map_or(log, |before| before.min(log)));
            looks.next_log = looks.missing;
        }
    }
}

/// Where SlateDB keeps its log.
pub(in crate::meta) const LOG_DIRECTORY: &str = "wal";

pub(in crate::meta) fn log_path(log: u64) -> Path {
    Path::from(format!("{LOG_DIRECTORY}/{log:020}.sst"))
}
