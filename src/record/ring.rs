//! The pages of a recording that is being written: a HAR document of a fixed length, whose entries
//! are written over when it is full.
//!
//! The first page holds the beginning of the document, the last bytes its end, and both are never
//! written again. Between them are pages of entries and spaces. A page is written in one piece at a
//! multiple of its length, which the kernel does whole or not at all when the process is killed. So
//! the file is a whole document at every moment. An entry does not go over the end of a page. Only
//! the first entry of the first page has no comma before it, and that page is never empty once
//! another is not.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

use super::har::END;

/// Bytes of a page: the kernel's.
pub(super) const PAGE_BYTES: usize = 4096;
/// Pages that are written at once when a file is made.
const BLANK_PAGES: u64 = 16;

/// The writer's place in the file.
#[derive(Debug)]
pub(super) struct Ring {
    pages: u64,
    /// The page that is being filled.
    at: u64,
    page: Vec<u8>,
    /// The part of it that is in the file.
    written_len: usize,
    /// Entries in the rest of it.
    unwritten: u64,
}

impl Ring {
    /// Writes a document without entries of at most `size_bytes` into an empty file.
    pub(super) fn make(mut file: &File, size_bytes: u64, head: &str) -> io::Result<Ring> {
        let page_bytes = PAGE_BYTES as u64;
        let pages = (size_bytes.saturating_sub(END.len() as u64) / page_bytes)
            .saturating_sub(1)
            .max(1);
        let mut first = Vec::with_capacity(PAGE_BYTES);
        first.extend_from_slice(head.as_bytes());
        fill_up(&mut first);
        file.write_all(&first)?;
        let mut blank = Vec::with_capacity(PAGE_BYTES);
        fill_up(&mut blank);
        let several = blank.repeat(BLANK_PAGES as usize);
        for _ in 0..pages / BLANK_PAGES {
            file.write_all(&several)?;
        }
        for _ in 0..pages % BLANK_PAGES {
            file.write_all(&blank)?;
        }
        file.write_all(END.as_bytes())?;
        Ok(Ring {
            pages,
            at: 0,
            page: Vec::with_capacity(PAGE_BYTES),
            written_len: 0,
            unwritten: 0,
        })
    }

    /// Adds an entry, which is in the file after the next [`Ring::flush`]. Returns how many entries
    /// were written for want of room.
    pub(super) fn append(&mut self, file: &File, entry: &[u8]) -> io::Result<u64> {
        // A comma before it, a line break behind it.
        let len = entry.len() + 2;
        if len > PAGE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut written = 0;
        if self.page.len() + len > PAGE_BYTES {
            written = self.flush(file)?;
            self.at = (self.at + 1) % self.pages;
            self.page.clear();
            self.written_len = 0;
        }
        if self.at > 0 || !self.page.is_empty() {
            self.page.push(b',');
        }
        self.page.extend_from_slice(entry);
        self.page.push(b'\n');
        self.unwritten += 1;
        Ok(written)
    }

    /// Writes the page that is being filled. Returns how many entries came into the file.
    pub(super) fn flush(&mut self, file: &File) -> io::Result<u64> {
        if self.unwritten == 0 {
            return Ok(0);
        }
        let filled = self.page.len();
        fill_up(&mut self.page);
        let written = file.write_all_at(&self.page, (1 + self.at) * PAGE_BYTES as u64);
        self.page.truncate(filled);
        written?;
        self.written_len = filled;
        Ok(std::mem::take(&mut self.unwritten))
    }

    /// Forgets the entries that are not in the file. Returns how many they were.
    pub(super) fn forget(&mut self) -> u64 {
        self.page.truncate(self.written_len);
        std::mem::take(&mut self.unwritten)
    }
}

/// Fills a page up with spaces and, if there is room for one more byte, a line break.
fn fill_up(page: &mut Vec<u8>) {
    if page.len() < PAGE_BYTES {
        page.resize(PAGE_BYTES - 1, b' ');
        page.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::har::{BEGINNING, ENTRIES};

    fn document(file: &File) -> Vec<u64> {
        let mut bytes = vec![0; file.metadata().expect("there").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let document: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let entries = document["log"]["entries"].as_array().expect("entries");
        entries
            .iter()
            .map(|entry| entry["n"].as_u64().expect("a number"))
            .collect()
    }

    #[test]
    fn the_file_is_whole_after_each_step_and_keeps_its_size() {
        let file = tempfile::tempfile().expect("a file");
        let size = 40 * PAGE_BYTES as u64;
        let head = format!("{BEGINNING}}},{ENTRIES}");
        let mut ring = Ring::make(&file, size, &head).expect("made");
        let len = file.metadata().expect("there").len();
        assert!(len <= size && size - len < PAGE_BYTES as u64, "{len}");
        assert!(document(&file).is_empty());
        for number in 0..600_u64 {
            // Lengths up to the largest that fits.
            let room = (number * 37 % 900 + 1) as usize;
            let entry = format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(room));
            ring.append(&file, entry.as_bytes()).expect("added");
            if number % 3 == 0 {
                ring.flush(&file).expect("written");
                let mut there = document(&file);
                assert!(there.contains(&number), "{number}");
                there.sort_unstable();
                assert!(
                    there.is_sorted_by(|a, b| a + 1 == *b),
                    "the newest, without a gap"
                );
            }
            assert_eq!(file.metadata().expect("there").len(), len);
        }
        assert!(document(&file).len() > 200);
        let largest = PAGE_BYTES - 2 - "{\"n\":1,\"x\":\"\"}".len();
        for room in [largest, largest - 1] {
            let entry = format!("{{\"n\":1,\"x\":\"{}\"}}", "y".repeat(room));
            ring.append(&file, entry.as_bytes()).expect("added");
            ring.flush(&file).expect("written");
            document(&file);
        }
        ring.append(&file, &[b'y'; PAGE_BYTES])
            .expect_err("too long");
    }

    #[test]
    fn entries_that_could_not_be_written_are_forgotten_and_counted() {
        let file = tempfile::tempfile().expect("a file");
        let head = format!("{BEGINNING}}},{ENTRIES}");
        let mut ring = Ring::make(&file, 1 << 16, &head).expect("made");
        ring.append(&file, b"{\"n\":1}").expect("added");
        assert_eq!(ring.flush(&file).expect("written"), 1);
        ring.append(&file, b"{\"n\":2}").expect("added");
        assert_eq!(ring.forget(), 1);
        ring.append(&file, b"{\"n\":3}").expect("added");
        assert_eq!(ring.flush(&file).expect("written"), 1);
        assert_eq!(document(&file), [1, 3]);
    }
}
