//! Contents of files: written, cut off, synced, and looked at.

use strongroom::{fs::SetAttributes, meta::Ino};

use super::*;

use crate::{client::ROOT, found::Number};

impl Worker {
    pub(super) async fn write(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        self.write_to(number).await?;
        if self.client.habits.closes && self.rng.permille(400) {
            let fh = self.opened(number).await?;
            self.close(fh, number).await?;
        }
        Ok(())
    }

    pub(super) fn some_len(&mut self) -> u64 {
        // Where there is little memory, one write in two wants most of it.
        if self.client.habits.scarce && self.rng.permille(500) {
            return 1 + self.rng.below(500_000);
        }
        match self.rng.below(20) {
            0..9 => 1 + self.rng.below(5000),
            9..17 => 1 + self.rng.below(70_000),
            _ => 1 + self.rng.below(500_000),
        }
    }

    pub(super) async fn write_to(&mut self, number: Number) -> Step {
        let size = self.model.lock().bytes(number).len() as u64;
        let len = self.some_len();
        let offset = match self.rng.below(3) {
            0 => size,
            1 => self.rng.below(size + 1),
            _ => self.rng.below(size + 100_000),
        };
        self.write_at(number, offset.min(SIZE_MAX), len).await
    }

    /// `> file` and new contents.
    pub(super) async fn write_anew(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        // A sync of an empty file makes it durable as empty.
        self.all_syncs().await?;
        let len = self.some_len();
        self.stamp += 1;
        let bytes = pattern(self.stamp, 0, len);
        self.did(format!("empty {number} and write {len}"));
        self.model
            .lock()
            .change_bytes(number, true, |there| *there = bytes.clone());
        let flags = libc::O_WRONLY | libc::O_TRUNC;
        let opened = self.client.fs.open(ROOT, Ino(number), flags).await;
        let opened = opened.map_err(|error| self.failed("open", error))?;
        let written = self.client.write(Ino(number), 0, &bytes).await;
        let closed = self.close(opened.fh, number).await;
        written.and(closed)
    }

    pub(super) async fn truncate(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let size = self.model.lock().bytes(number).len() as u64;
        let size = match self.rng.below(4) {
            0 => 0,
            1 => size + self.rng.below(50_000),
            _ => self.rng.below(size + 1),
        };
        self.did(format!("truncate {number} to {size}"));
        self.model
            .lock()
            .change_bytes(number, false, |there| there.resize(size as usize, 0));
        let set = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        let set = self.client.fs.setattr(ROOT, Ino(number), set).await;
        set.map(drop)
            .map_err(|error| self.failed("truncate", error))
    }

    pub(super) async fn punch(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let size = self.model.lock().bytes(number).len() as u64;
        if size < 2 {
            return Ok(());
        }
        let from = self.rng.below(size - 1);
        let len = 1 + self.rng.below(size);
        self.did(format!("punch {number}: {len} at {from}"));
        self.model.lock().change_bytes(number, false, |there| {
            let end = ((from + len) as usize).min(there.len());
            there[from as usize..end].fill(0);
        });
        let fs = &self.client.fs;
        let punched = fs.fallocate(ROOT, Ino(number), from, len, PUNCH_HOLE).await;
        punched.map_err(|error| self.failed("punch", error))
    }

    pub(super) async fn sync(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        match self.rng.permille(500) {
            true => self.sync_of(number).await,
            false => self.sync_beside(number).await,
        }
    }

    pub(super) async fn sync_beside(&mut self, number: Number) -> Step {
        let fh = self.opened(number).await?;
        let (client, model) = (self.client.clone(), self.model.clone());
        let network = self.network.clone();
        self.syncs.spawn(async move {
            sync(&client, &model, &network, Some((number, fh)), Sync::Fsync).await
        });
        Ok(())
    }

    pub(super) async fn look_at_one(&mut self) -> Step {
        let Some((place, number)) = self.some_file() else {
            return Ok(());
        };
        self.did(format!("read {} ({number})", shown(&place)));
        let found = self
            .client
            .fs
            .lookup(Ino(place.0), place.1.as_bytes())
            .await;
        let found = found.map_err(|error| self.failed("lookup", error))?;
        let size = self.model.lock().bytes(number).len() as u64;
        match found {
            Some(found) if (found.ino.0, found.size) == (number, size) => {}
            other => panic!("{place:?} is {other:?}, not {number} of {size} bytes"),
        }
        let read = self.client.read(Ino(number)).await;
        self.compare(number, read)
    }

    /// In bad weather a read may fail, but never be wrong.
    pub(super) fn compare(&mut self, number: Number, read: Result<Vec<u8>, String>) -> Step {
        self.network.count(|stats| stats.reads += 1);
        let there = self.model.lock().bytes(number);
        match read {
            Ok(read) if read == *there => Ok(()),
            Ok(read) => {
                let first = read.iter().zip(there.iter()).position(|(a, b)| a != b);
                panic!(
                    "file {number}: read {} bytes of {}, first other at {first:?}",
                    read.len(),
                    there.len()
                );
            }
            Err(why) if self.network.is_calm() => Err(format!("read of {number}: {why}")),
            Err(why) => {
                self.network.note(format!("read of {number}: {why}"));
                Ok(())
            }
        }
    }
}
