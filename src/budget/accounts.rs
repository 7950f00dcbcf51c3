//! The accounts of the budget: what each owner holds, what it is guaranteed, and who waits in line.
//! Arithmetic alone: no lock, no waking, no memory of its own beyond the lines.
//!
//! A request of owner *o* fits when the bytes in use, plus the request, plus what the *other*
//! owners are still guaranteed, are within the capacity. Each guaranteed minimum is at least the
//! largest single request of its owner. So the head of every line is served once the older
//! reservations of its own owner are gone, whatever the others do: nobody starves, and no two
//! owners can deadlock.

use std::collections::VecDeque;

use super::Owner;

const OWNERS: usize = Owner::ALL.len();

/// How the budget is divided: the capacity and each owner's guaranteed minimum.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Guaranteed to dirty data; at least one write.
    pub dirty_min_bytes: u64,
    /// Guaranteed to writes that wait for room; may be less than one write.
    pub parked_min_bytes: u64,
    /// Guaranteed to uploads; at least one sealed part.
    pub upload_min_bytes: u64,
    /// Guaranteed to demand reads; at least the largest read.
    pub read_min_bytes: u64,
    /// Guaranteed to open handles: so many are opened without waiting.
    pub table_min_bytes: u64,
    /// Guaranteed to directory listings; at least one.
    pub listing_min_bytes: u64,
}

impl Shares {
    /// Bytes that one owner can have at most: the capacity without the guarantees of the others.
    pub(super) fn max_bytes(&self, owner: Owner) -> u64 {
        let guaranteed_to_others: u64 = Owner::ALL
            .into_iter()
            .filter(|other| *other != owner)
            .map(|other| self.min_bytes(other))
            .sum();
        self.capacity_bytes.saturating_sub(guaranteed_to_others)
    }

    /// Bytes that one owner is guaranteed.
    pub(super) fn min_bytes(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Dirty => self.dirty_min_bytes,
            Owner::Parked => self.parked_min_bytes,
            Owner::Upload => self.upload_min_bytes,
            Owner::Read => self.read_min_bytes,
            Owner::Table => self.table_min_bytes,
            Owner::Listing => self.listing_min_bytes,
            Owner::Cache => 0,
        }
    }
}

/// One owner's present and peak bytes, for `status`.
#[derive(Clone, Copy, Debug)]
pub struct OwnerUsage {
    /// The owner.
    pub owner: Owner,
    /// Bytes held now.
    pub current_bytes: u64,
    /// The most that was ever held.
    pub peak_bytes: u64,
    /// Requests waiting in line now.
    pub waiting: usize,
}

/// The outcome of a request that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The bytes are counted for it.
    Taken,
    /// It stands at the end of its owner's line.
    Waits,
    /// Neither: its owner would come to hold too much.
    Refused,
}

/// A request in line. `token` is how its caller is told.
struct Waiter<T> {
    bytes: u64,
    token: T,
}

/// See the module's head. `T` is how a caller in line is told.
pub(super) struct Accounts<T> {
    shares: Shares,
    used: [u64; OWNERS],
    peak: [u64; OWNERS],
    used_total: u64,
    lines: [VecDeque<Waiter<T>>; OWNERS],
    reservations: u64,
}

impl<T> Accounts<T> {
    /// Nothing is held and nobody waits. The minima together must leave room within the capacity.
    pub fn new(shares: Shares) -> Accounts<T> {
        let minima: u64 = Owner::ALL
            .into_iter()
            .map(|owner| shares.min_bytes(owner))
            .sum();
        debug_assert!(
            minima <= shares.capacity_bytes,
            "guaranteed minima exceed the capacity"
        );
        Accounts {
            shares,
            used: [0; OWNERS],
            peak: [0; OWNERS],
            used_total: 0,
            lines: std::array::from_fn(|_| VecDeque::new()),
            reservations: 0,
        }
    }

    /// Takes `bytes` now, or says how many would have to be given up first: 0 if only earlier
    /// requests are in the way.
    pub fn take(&mut self, owner: Owner, bytes: u64) -> Result<(), u64> {
        if !self.can_take(owner, bytes) {
            return Err(self.missing(owner, bytes));
        }
        self.count(owner, bytes);
        Ok(())
    }

    /// Takes `bytes` if they are free and nobody waits in any line; returns whether it did.
    pub fn take_spare(&mut self, owner: Owner, bytes: u64) -> bool {
        let can_take = !self.is_awaited() && self.can_take(owner, bytes);
        if can_take {
            self.count(owner, bytes);
        }
        can_take
    }

    /// Takes `bytes` now, or puts the request in line. It is refused if its owner would hold more
    /// than `owner_max` once everybody in that line is served.
    pub fn enter(&mut self, owner: Owner, bytes: u64, owner_max: u64, token: T) -> Entry {
        if self.can_take(owner, bytes) {
            self.count(owner, bytes);
            return Entry::Taken;
        }
        let line = self.line(owner);
        let awaited: u64 = line.iter().map(|waiter| waiter.bytes).sum();
        if self.used_bytes(owner) + awaited + bytes > owner_max {
            return Entry::Refused;
        }
        self.line(owner).push_back(Waiter { bytes, token });
        Entry::Waits
    }

    /// Takes the heads out of all lines as far as they fit, and all that are cancelled. Each comes
    /// with the owner and the bytes that are counted for it; a cancelled one with nothing.
    pub fn serve(&mut self, is_cancelled: impl Fn(&T) -> bool) -> Vec<(T, Option<(Owner, u64)>)> {
        let mut served = Vec::new();
        for owner in Owner::ALL {
            while let Some(head) = self.line(owner).front() {
                let (bytes, cancelled) = (head.bytes, is_cancelled(&head.token));
                if !cancelled && !self.fits(owner, bytes) {
                    break;
                }
                let Some(waiter) = self.line(owner).pop_front() else {
                    break;
                };
                let counted = (!cancelled).then(|| {
                    self.count(owner, bytes);
                    (owner, bytes)
                });
                served.push((waiter.token, counted));
            }
        }
        served
    }

    /// Bytes missing for the head of the line that misses most; `None` if nobody waits.
    pub fn missing_to_waiters(&self) -> Option<u64> {
        Owner::ALL
            .into_iter()
            .zip(&self.lines)
            .filter_map(|(owner, line)| Some((owner, line.front()?)))
            .map(|(owner, head)| self.missing(owner, head.bytes))
            .max()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    pub fn release(&mut self, owner: Owner, bytes: u64) {
        self.used[owner.index()] -= bytes;
        self.used_total -= bytes;
        self.reservations -= 1;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    pub fn move_between(&mut self, from: Owner, to: Owner, bytes: u64) {
        self.used[from.index()] -= bytes;
        let index = to.index();
        self.used[index] += bytes;
        self.peak[index] = self.peak[index].max(self.used[index]);
    }

    /// A reservation was split: there is one more, of the same bytes.
    pub fn count_split(&mut self) {
        self.reservations += 1;
    }

    /// Bytes that `kept` could come to hold through `owner`, which passes on to it what it
    /// acquired, while all others keep what they hold or are guaranteed.
    pub fn reach_bytes(&self, owner: Owner, kept: Owner) -> u64 {
        let others: u64 = Owner::ALL
            .into_iter()
            .zip(self.used)
            .filter(|(other, _)| *other != kept)
            .map(|(other, used)| match other == owner {
                true => used,
                false => used.max(self.shares.min_bytes(other)),
            })
            .sum();
        self.shares.capacity_bytes.saturating_sub(others)
    }

    pub fn used_bytes(&self, owner: Owner) -> u64 {
        self.used.get(owner.index()).copied().unwrap_or(0)
    }

    pub fn reservations(&self) -> u64 {
        self.reservations
    }

    pub fn has_waiters(&self, owner: Owner) -> bool {
        let line = self.lines.get(owner.index());
        line.is_some_and(|line| !line.is_empty())
    }

    /// Whether anybody waits in any line.
    pub fn is_awaited(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    pub fn usage(&self) -> Vec<OwnerUsage> {
        Owner::ALL
            .into_iter()
            .zip(self.used.iter().zip(&self.peak).zip(&self.lines))
            .map(|(owner, ((used, peak), line))| OwnerUsage {
                owner,
                current_bytes: *used,
                peak_bytes: *peak,
                waiting: line.len(),
            })
            .collect()
    }

    fn line(&mut self, owner: Owner) -> &mut VecDeque<Waiter<T>> {
        #[expect(
            clippy::indexing_slicing,
            reason = "the index of an owner is below OWNERS"
        )]
        &mut self.lines[owner.index()]
    }

    /// Whether a request may be granted now: it fits, and nobody who came earlier waits for the
    /// same. The cache stands behind everybody.
    fn can_take(&self, owner: Owner, bytes: u64) -> bool {
        let somebody_earlier = match owner {
            Owner::Cache => self.is_awaited(),
            _ => self.has_waiters(owner),
        };
        // A request of no bytes is granted whoever waits.
        bytes == 0 || (!somebody_earlier && self.fits(owner, bytes))
    }

    fn fits(&self, owner: Owner, bytes: u64) -> bool {
        self.missing(owner, bytes) == 0
    }

    /// Bytes that would have to be given back before a request fits. That is more than the request
    /// itself where the cache holds what others are guaranteed.
    fn missing(&self, owner: Owner, bytes: u64) -> u64 {
        let guaranteed_to_others: u64 = Owner::ALL
            .into_iter()
            .zip(self.used)
            .filter(|(other, _)| *other != owner)
            .map(|(other, used)| self.shares.min_bytes(other).saturating_sub(used))
            .sum();
        (self.used_total + bytes + guaranteed_to_others).saturating_sub(self.shares.capacity_bytes)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    fn count(&mut self, owner: Owner, bytes: u64) {
        let index = owner.index();
        self.used[index] += bytes;
        self.peak[index] = self.peak[index].max(self.used[index]);
        self.used_total += bytes;
        self.reservations += 1;
    }
}
