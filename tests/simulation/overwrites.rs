//! One large file that is overwritten at random, synced now and then, and left alone: what makes
//! slices, repacking and putting in order happen.

use std::{collections::BTreeSet, time::Duration};

use strongroom::meta::Ino;

use crate::{
    found::Number,
    worker::{Step, Worker, pattern},
};

const NAME: &str = "large";
const PAGE: u64 = 4096;
/// Writes count as being at random where they jump by more than 2 MiB, so the file has to be a few
/// times as long.
const PAGES: std::ops::Range<u64> = 1536..2048;
/// Pages of one burst of writes. A burst has each page once, so that one version in the model
/// covers all moments of it.
const BURST_PAGES: std::ops::Range<u64> = 64..400;
const BURSTS: std::ops::Range<u64> = 2..9;
/// Whether a burst is followed by a sync, in a thousand.
const SYNCED: u32 = 600;
/// Seconds for which the file is left alone then.
const ALONE_SECONDS: std::ops::Range<u64> = 30..400;

impl Worker {
    /// Overwrites the large file, which is made if there is none, and leaves it alone.
    pub(crate) async fn overwrite(&mut self) -> Step {
        let number = match self.large_file() {
            Some(number) => number,
            None => match self.make_large_file().await? {
                Some(number) => number,
                None => return Ok(()),
            },
        };
        for _ in 0..self.rng.within(BURSTS) {
            self.overwrite_pages(number).await?;
            if self.rng.permille(SYNCED) {
                self.sync_of(number).await?;
            }
        }
        let seconds = self.rng.within(ALONE_SECONDS);
        self.did(format!("leave {number} alone for {seconds} s"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    }

    /// Under whatever name it has by now.
    fn large_file(&self) -> Option<Number> {
        let model = self.model.lock();
        let files = model.names().values().filter(|entry| !entry.is_dir);
        let mut numbers = files.filter_map(|entry| entry.number);
        numbers.find(|number| model.bytes(*number).len() as u64 >= PAGES.start * PAGE)
    }

    /// None if a smaller file has the name.
    async fn make_large_file(&mut self) -> Result<Option<Number>, String> {
        let place = (self.root, NAME.to_owned());
        if self.model.lock().entry(&place).is_some() {
            self.did("remove what was cut short".to_owned());
            self.unlink_at(&place).await?;
            return Ok(None);
        }
        self.did("create the large file".to_owned());
        self.create_at(&place).await?;
        let number = self.model.lock().names()[&place].number.unwrap();
        let pages = self.rng.within(PAGES);
        self.write_at(number, 0, pages * PAGE).await?;
        self.sync_of(number).await?;
        Ok(Some(number))
    }

    async fn overwrite_pages(&mut self, number: Number) -> Step {
        let len = self.model.lock().bytes(number).len() as u64;
        let mut pages: Vec<u64> = (0..len / PAGE).collect();
        let count = self.rng.within(BURST_PAGES).min(pages.len() as u64);
        // The beginning of a shuffle.
        for index in 0..count {
            let other = index + self.rng.below(pages.len() as u64 - index);
            pages.swap(index as usize, other as usize);
        }
        pages.truncate(count as usize);
        self.stamp += 1;
        let stamp = self.stamp;
        self.did(format!("overwrite {count} pages of {number}"));
        self.network.count(|stats| stats.overwritten_pages += count);
        let different: BTreeSet<u64> = pages.iter().copied().collect();
        self.model.lock().change_bytes(number, false, |there| {
            for page in different {
                let at = page * PAGE;
                there[at as usize..][..PAGE as usize].copy_from_slice(&pattern(stamp, at, PAGE));
            }
        });
        for page in pages {
            let at = page * PAGE;
            let bytes = pattern(stamp, at, PAGE);
            self.client.write(Ino(number), at, &bytes).await?;
        }
        Ok(())
    }
}
