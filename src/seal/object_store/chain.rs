//! The chain of log objects, as far as this process knows it: the order in which objects follow
//! each other.
//!
//! Each log object names its predecessor by the first bytes of its commitment ([`Link`]), and each
//! manifest the newest log object that its writer knew ([`LogPosition`]). Objects are read in any
//! order. So entries are kept by number, and two neighbours are compared as soon as both are known.
//! Everything here is arithmetic on fields that have authenticated already: no I/O, no keys.
//!
//! Promises: two neighbours that are both kept fit together. An object that does not fit is
//! reported, and nothing is added to the log afterwards. Never: takes an object for missing or
//! wrong because of the order in which it came to be known.

use std::collections::BTreeMap;

use super::position::{LogFault, LogPosition};
use crate::seal::codec::{COMMITMENT_LEN, Link};

/// Log objects that are remembered. Replay reads at most 128 of them ahead of the oldest that is
/// not read yet (SlateDB's limit), and beside these a few dozen are probed: 1,024 are enough for
/// both, at about 80 KiB.
const ENTRIES_MAX: usize = 1024;

/// The source of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// This machine remembers it; it may be gone from the volume.
    Remembered,
    /// A manifest names it.
    Noted,
    /// Its header was read, and has this link; `None` is format 1.
    Read(Option<Link>),
}

struct Entry {
    commitment: [u8; COMMITMENT_LEN],
    known: Known,
}

impl Entry {
    fn at(&self, number: u64) -> LogPosition {
        LogPosition {
            number,
            commitment: self.commitment,
        }
    }
}

/// The link that a new log object is to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its predecessor is known.
    Link(Link),
    /// Nothing is known of its predecessor: read it first.
    Unknown,
    /// There is an object of this number already.
    Exists,
    /// This later one is known, so there should be one of this number.
    Later(u64),
}

/// The entries by number, and where the chain is certain.
#[derive(Default)]
pub(super) struct Chain {
    entries: BTreeMap<u64, Entry>,
    /// The newest entry that is certain to be in this history: a manifest notes it, or this process
    /// wrote it, or it continues such an entry.
    certain: Option<u64>,
    /// The lowest number from which all objects hold links.
    begun: Option<u64>,
    /// The newest object without a link.
    unlinked: Option<u64>,
    /// Set once this process has written: from then on every successor is its own.
    writing: bool,
    /// The newest log object that a listing named.
    listed: Option<u64>,
    /// The newest manifest.
    manifest: u64,
    /// The newest log object that a manifest notes.
    noted: Option<u64>,
    fault: Option<LogFault>,
    tolerant: bool,
}

impl Chain {
    /// From now on objects that do not fit are logged and taken as they are. Forgets the fault
    /// found so far.
    pub fn tolerate(&mut self) {
        self.tolerant = true;
        self.fault = None;
    }

    /// Whether faults are taken as they are.
    pub fn is_tolerant(&self) -> bool {
        self.tolerant
    }

    /// The first fault that was found.
    pub fn fault(&self) -> Option<LogFault> {
        self.fault
    }

    /// Remembers a fault, for good; `Ok` if faults are tolerated.
    pub fn found(&mut self, fault: LogFault) -> Result<(), LogFault> {
        if self.tolerant {
            tracing::warn!("log object {} {fault}; accepted as asked", fault.number());
            return Ok(());
        }
        Err(*self.fault.get_or_insert(fault))
    }

    /// Notes a log object that this machine has seen before.
    pub fn remember(&mut self, position: LogPosition) -> Result<(), LogFault> {
        self.note(position, Known::Remembered)
    }

    /// Notes the log object that a manifest names.
    pub fn noted(&mut self, position: LogPosition) -> Result<(), LogFault> {
        let number = position.number;
        self.noted = self.noted.max(Some(number));
        self.begun = Some(self.begun.map_or(number, |begun| begun.min(number)));
        self.note(position, Known::Noted)?;
        self.advance(number);
        Ok(())
    }

    fn note(&mut self, position: LogPosition, known: Known) -> Result<(), LogFault> {
        let number = position.number;
        match self.entries.get_mut(&number) {
            Some(entry) if entry.commitment == position.commitment => {
                if entry.known == Known::Remembered {
                    entry.known = known;
                }
                return Ok(());
            }
            Some(_) => {
                self.found(LogFault::Replaced { number })?;
                // It is taken as it is: the object that can be read counts, not the note about it.
                return Ok(());
            }
            None => {}
        }
        self.check_successor(&position)?;
        self.insert(position, known);
        Ok(())
    }

    /// Notes a log object whose header was read and has authenticated.
    pub fn read(&mut self, position: LogPosition, link: Option<Link>) -> Result<(), LogFault> {
        let number = position.number;
        if let Some(entry) = self.entries.get(&number)
            && entry.commitment != position.commitment
        {
            self.found(LogFault::Replaced { number })?;
        }
        match link {
            Some(link) => self.check_linked(number, &link)?,
            None => self.check_unlinked(number)?,
        }
        self.check_successor(&position)?;
        match link {
            Some(_) => {
                self.begun = Some(self.begun.map_or(number, |begun| begun.min(number)));
            }
            None => self.unlinked = self.unlinked.max(Some(number)),
        }
        self.insert(position, Known::Read(link));
        if let Some(certain) = self.certain {
            self.advance(certain);
        }
        Ok(())
    }

    /// Notes a log object that this process wrote and the store has.
    pub fn written(&mut self, position: LogPosition, link: Link) -> Result<(), LogFault> {
        self.read(position, Some(link))?;
        self.writing = true;
        self.advance(position.number);
        Ok(())
    }

    /// Whether this process has written to the log.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The link that a new log object of this number is to hold.
    ///
    /// # Errors
    /// The fault that was found before: nothing is added to a log that does not hold together.
    pub fn next(&mut self, number: u64) -> Result<Next, LogFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if let Some(entry) = self.entries.get(&number)
            && matches!(entry.known, Known::Read(_))
        {
            return Ok(Next::Exists);
        }
        if let Some((later, _)) = self.entries.range(number..).next() {
            return Ok(Next::Later(*later));
        }
        let predecessor = number
            .checked_sub(1)
            .and_then(|number| Some(self.entries.get(&number)?.at(number)));
        Ok(match predecessor {
            Some(predecessor) => Next::Link(predecessor.link()),
            None if number <= 1 => Next::Link(LogPosition::START.link()),
            None => Next::Unknown,
        })
    }

    /// Whether no log object was read, written or noted.
    pub fn is_empty(&self) -> bool {
        self.entries
            .values()
            .all(|entry| entry.known == Known::Remembered)
    }

    /// The lowest number from `number` on that is known to have been written.
    pub fn from(&self, number: u64) -> Option<u64> {
        let known = self.entries.range(number..).map(|(at, _)| *at);
        known.chain(self.listed.filter(|at| *at >= number)).min()
    }

    /// Numbers before `end` whose objects were not read, at most as many as are remembered. The
    /// object that the newest manifest notes, and those before it, may have been collected and are
    /// not among them.
    pub fn unread(&self, end: u64) -> Vec<u64> {
        let is_read = |entry: &Entry| matches!(entry.known, Known::Read(_));
        let Some(first) = self.noted.and_then(|noted| noted.checked_add(1)) else {
            return Vec::new();
        };
        (first..end)
            .filter(|number| !self.entries.get(number).is_some_and(is_read))
            .take(ENTRIES_MAX)
            .collect()
    }

    /// Notes that the bucket lists a log object of this number.
    pub fn listed(&mut self, number: u64) {
        self.listed = self.listed.max(Some(number));
    }

    /// The newest manifest that was read or written; 0 before the first.
    pub fn newest_manifest(&self) -> u64 {
        self.manifest
    }

    /// Whether this manifest is at least as new as all others that were read or written.
    pub fn is_newest_manifest(&mut self, manifest: u64) -> bool {
        self.manifest = self.manifest.max(manifest);
        self.manifest == manifest
    }

    /// Forgets entries from `number` on that are known only from notes, for a mount that takes the
    /// log as it finds it.
    pub fn forget_unread(&mut self, number: u64) {
        self.entries
            .retain(|at, entry| *at < number || matches!(entry.known, Known::Read(_)));
        self.certain = self.certain.filter(|certain| *certain < number);
    }

    /// The newest log object that is certain to be in this history.
    pub fn certain(&self) -> Option<LogPosition> {
        let number = self.certain?;
        Some(self.entries.get(&number)?.at(number))
    }

    /// The newest log object that was verified, down to where the chain begins or reading began.
    pub fn head(&self) -> Option<LogPosition> {
        if let Some(certain) = self.certain() {
            return Some(certain);
        }
        // In a volume of format 1 only the first object that was read anchors the chain.
        let mut head: Option<LogPosition> = None;
        for (number, entry) in &self.entries {
            match (entry.known, head) {
                (Known::Remembered, None) => {}
                (Known::Remembered, Some(_)) => break,
                (_, Some(head)) if head.number.checked_add(1) != Some(*number) => break,
                _ => head = Some(entry.at(*number)),
            }
        }
        head
    }

    /// The log object of this number, if it was read, written or noted in a manifest.
    pub fn at(&self, number: u64) -> Option<LogPosition> {
        let entry = self.entries.get(&number)?;
        (entry.known != Known::Remembered).then(|| entry.at(number))
    }

    /// Whether all entries fit together; for tests.
    ///
    /// # Panics
    /// If it does not.
    #[cfg(any(fuzzing, test))]
    pub fn check(&self) {
        assert!(self.entries.len() <= ENTRIES_MAX);
        for (number, entry) in &self.entries {
            if let Known::Read(Some(link)) = entry.known
                && let Some(before) = number.checked_sub(1)
                && let Some(before) = self.entries.get(&before)
            {
                assert_eq!(before.at(number - 1).link(), link, "at {number}");
            }
        }
    }

    fn check_linked(&mut self, number: u64, link: &Link) -> Result<(), LogFault> {
        let fits = match number
            .checked_sub(1)
            .and_then(|before| Some(self.entries.get(&before)?.at(before)))
        {
            Some(before) => before.link() == *link,
            None => true,
        };
        if !fits {
            self.found(LogFault::Diverges { number })?;
        }
        match self.unlinked {
            Some(unlinked) if unlinked > number => {
                self.found(LogFault::Unlinked { number: unlinked })
            }
            _ => Ok(()),
        }
    }

    fn check_unlinked(&mut self, number: u64) -> Result<(), LogFault> {
        match self.begun {
            Some(begun) if begun <= number => self.found(LogFault::Unlinked { number }),
            _ => Ok(()),
        }
    }

    fn check_successor(&mut self, position: &LogPosition) -> Result<(), LogFault> {
        let Some(number) = position.number.checked_add(1) else {
            return Ok(());
        };
        match self.entries.get(&number).map(|entry| entry.known) {
            Some(Known::Read(Some(link))) if link != position.link() => {
                self.found(LogFault::Diverges { number })
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, position: LogPosition, known: Known) {
        let commitment = position.commitment;
        self.entries
            .insert(position.number, Entry { commitment, known });
        while self.entries.len() > ENTRIES_MAX {
            // The oldest entry goes: its neighbour was compared with it when replay passed them.
            self.entries.pop_first();
        }
    }

    /// `number` is certain, and so is everything that continues it without a gap.
    fn advance(&mut self, number: u64) {
        let mut certain = self.certain.map_or(number, |certain| certain.max(number));
        while let Some(next) = certain.checked_add(1)
            && let Some(entry) = self.entries.get(&next)
            && entry.known != Known::Remembered
        {
            certain = next;
        }
        self.certain = Some(certain);
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
