//! How a file is being written: in order, at random, or over and over. Decides from the writes
//! alone how long unsynced data may wait, and does no I/O.
//!
//! Waiting longer than `--upload-delay` pays only where bytes are written again before they went
//! out, because each byte that was replaced in memory is one that is never uploaded. So a file may
//! wait longer when that is what happened lately: at least an eighth of the bytes that were written
//! to it fell on bytes that were still dirty, and the file did not grow. Data that is appended or
//! written in order replaces nothing, and goes out after the ordinary delay.

use std::time::Duration;

/// A file whose writes go on from each other for less than this on average is written *at random*.
const RANDOM_RUN_MAX: u64 = 256 << 10;

/// Writes that come this far out of order still count as going on: several are in flight.
const REORDER_BYTES: u64 = 2 << 20;

/// One written byte in so many must replace one that is still dirty. At this rate in the ordinary
/// delay about half of what is written in six times that delay is never uploaded.
const WRITTEN_FOR_EACH_REPLACED: u64 = 8;

/// Data of a file that is overwritten waits for so many times the ordinary delay.
const OVERWRITTEN_WAITS: u32 = 6;

/// The longest such wait: Linux lets dirty data wait for a local disk as long
/// (`vm.dirty_expire_centisecs`). At the default delay both come to the same.
const OVERWRITTEN_WAIT_MAX: Duration = Duration::from_secs(30);

/// One write, as the overlay saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// So many of its bytes replaced bytes that were still dirty.
    pub(crate) replaced_bytes: u64,
    /// The write ended beyond the end of the file.
    pub(crate) grew: bool,
}

/// Where writes come, relative to those before, and what they replace.
pub(crate) struct WritePattern {
    next: u64,
    /// Bytes written in order since the last jump.
    run_bytes: u64,
    /// The average of `run_bytes` over the runs of late.
    usual_run_bytes: u64,
    /// Writes since the oldest one that is still dirty, and writes in the same span before that.
    now: Span,
    before: Span,
}

/// Sums of the writes in a span of time.
#[derive(Clone, Copy, Default)]
struct Span {
    written_bytes: u64,
    replaced_bytes: u64,
    grew: bool,
}

impl WritePattern {
    /// The pattern of a file that nobody has written to yet: its first writes count as going on
    /// from each other.
    pub(crate) fn new() -> WritePattern {
        WritePattern {
            next: 0,
            run_bytes: 0,
            usual_run_bytes: 4 * RANDOM_RUN_MAX,
            now: Span::default(),
            before: Span::default(),
        }
    }

    pub(crate) fn note(&mut self, write: Written) {
        if write.offset.abs_diff(self.next) > REORDER_BYTES {
            self.usual_run_bytes = (self.usual_run_bytes * 3 + self.run_bytes) / 4;
            self.run_bytes = 0;
        }
        self.next = write.offset + write.len;
        self.run_bytes += write.len;
        self.now.written_bytes += write.len;
        self.now.replaced_bytes += write.replaced_bytes;
        self.now.grew |= write.grew;
    }

    /// The dirty bytes have left memory, and the next writes begin a new span.
    pub(crate) fn begin_span(&mut self) {
        if self.now.written_bytes > 0 {
            self.before = std::mem::take(&mut self.now);
        }
    }

    /// Do its writes jump about, so that bytes which go out late go out sorted?
    pub(crate) fn is_random(&self) -> bool {
        self.usual_run_bytes.max(self.run_bytes) < RANDOM_RUN_MAX
    }

    /// Are bytes of it written again before they go out?
    pub(crate) fn is_overwriting(&self) -> bool {
        let written = self.now.written_bytes + self.before.written_bytes;
        let replaced = self.now.replaced_bytes + self.before.replaced_bytes;
        !self.now.grew && replaced > 0 && replaced >= written / WRITTEN_FOR_EACH_REPLACED
    }
}

/// How long data of a file that is overwritten may wait, where other data waits for `delay`.
pub(crate) fn overwritten_wait(delay: Duration) -> Duration {
    let longer = delay.saturating_mul(OVERWRITTEN_WAITS);
    longer.min(OVERWRITTEN_WAIT_MAX).max(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// A file and which of its pages are dirty.
    struct File {
        pattern: WritePattern,
        dirty: Vec<bool>,
        pages: u64,
    }

    impl File {
        fn of(pages: u64) -> File {
            File {
                pattern: WritePattern::new(),
                dirty: vec![false; 1 << 17],
                pages,
            }
        }

        fn write(&mut self, page: u64) {
            let replaced = std::mem::replace(&mut self.dirty[page as usize], true);
            self.pattern.note(Written {
                offset: page * PAGE,
                len: PAGE,
                replaced_bytes: if replaced { PAGE } else { 0 },
                grew: page >= self.pages,
            });
            self.pages = self.pages.max(page + 1);
        }

        fn take(&mut self) {
            self.dirty.fill(false);
            self.pattern.begin_span();
        }

        fn is_overwritten(&self) -> bool {
            self.pattern.is_overwriting()
        }
    }

    fn scattered(count: u64, pages: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |index| {
            let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (z ^ (z >> 31)) % pages
        })
    }

    #[test]
    fn pages_that_are_written_again_before_they_went_out_wait_longer() {
        let mut file = File::of(65_536);
        for page in scattered(100_000, 65_536) {
            file.write(page);
        }
        assert!(file.pattern.is_random());
        assert!(file.is_overwritten());
        // The dirty pages are gone. The writer has not changed, so the next pages wait too.
        file.take();
        for page in scattered(10, 65_536) {
            file.write(page);
        }
        assert!(file.is_overwritten());
    }

    #[test]
    fn one_page_of_a_small_file_that_is_written_all_the_time_waits_longer() {
        let mut file = File::of(16);
        file.write(3);
        assert!(!file.is_overwritten());
        file.write(3);
        assert!(file.is_overwritten());
    }

    #[test]
    fn pages_that_are_written_once_do_not_wait_longer_in_whatever_order_they_come() {
        let mut file = File::of(65_536);
        for index in 0..65_536 {
            file.write(index * 24_593 % 65_536);
        }
        assert!(file.pattern.is_random());
        assert!(!file.is_overwritten());
        for page in 0..65_536 {
            if page % 1000 == 0 {
                file.take();
            }
            file.write(page);
        }
        assert!(!file.is_overwritten());
    }

    #[test]
    fn appended_data_does_not_wait_longer_though_a_header_is_written_each_time() {
        let mut file = File::of(1);
        for page in 1..1000 {
            file.write(page);
            file.write(0);
        }
        assert!(!file.is_overwritten());
        file.take();
        for _ in 0..100 {
            file.write(0);
        }
        assert!(file.is_overwritten(), "the file has stopped growing");
        file.write(1000);
        assert!(!file.is_overwritten());
    }

    #[test]
    fn a_writer_that_stops_overwriting_is_noticed_one_span_later() {
        let mut file = File::of(65_536);
        for page in scattered(100_000, 65_536) {
            file.write(page);
        }
        for span in 0..2 {
            file.take();
            for page in span * 30_000..(span + 1) * 30_000 {
                file.write(page);
            }
        }
        assert!(!file.is_overwritten());
    }

    #[test]
    fn the_longer_wait_goes_with_the_ordinary_one_up_to_what_a_local_disk_waits() {
        let waits = |millis| overwritten_wait(Duration::from_millis(millis));
        assert_eq!(waits(200), Duration::from_millis(1200));
        assert_eq!(waits(5_000), Duration::from_secs(30));
        assert_eq!(waits(20_000), Duration::from_secs(30));
        assert_eq!(waits(60_000), Duration::from_secs(60));
    }
}
