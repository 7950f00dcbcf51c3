//! Space that nothing refers to any more comes back from the bucket.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{
    random::noise,
    site::{Site, Transport},
};

const PAGE: usize = 4096;

/// Bytes of data objects in the bucket.
fn data_bytes(site: &Site) -> u64 {
    let objects = site.bucket().sizes().into_iter();
    let data = objects.filter(|(key, _)| key.contains("/data/"));
    data.map(|(_, bytes)| bytes).sum()
}

/// Files of one length that can be told apart page by page, version by version.
struct Files {
    name: &'static str,
    count: usize,
    len: usize,
    noise: Vec<u8>,
}

impl Files {
    fn new(name: &'static str, count: usize, len: usize) -> Files {
        Files {
            name,
            count,
            len,
            noise: noise(1, 2 * PAGE),
        }
    }

    /// Every tenth stays.
    fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.count).step_by(10)
    }

    fn pages(&self) -> usize {
        self.len.div_ceil(PAGE)
    }

    fn name(&self, file: usize) -> String {
        format!("{}/{}/{file}", self.name, file / 500)
    }

    /// One page of `file`; the last one may be shorter.
    fn page(&self, file: usize, page: usize, is_new: bool) -> Vec<u8> {
        let at = (file * 31 + page * 7) % PAGE;
        let mut bytes = self.noise[at..at + PAGE].to_vec();
        bytes[..4].copy_from_slice(&(file as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(page as u32).to_le_bytes());
        bytes[8] = u8::from(is_new);
        bytes.truncate((self.len - page * PAGE).min(PAGE));
        bytes
    }

    /// The file with the pages that are new: those for which `is_new` says so.
    fn content(&self, file: usize, is_new: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for page in 0..self.pages() {
            bytes.extend(self.page(file, page, is_new(page)));
        }
        bytes
    }

    fn write(&self, root: &Path) {
        for file in 0..self.count {
            let path = root.join(self.name(file));
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            let mut out = File::create(path).expect("create");
            out.write_all(&self.content(file, |_| false))
                .expect("write");
        }
    }

    fn remove_nine_of_ten(&self, root: &Path) {
        for file in (0..self.count).filter(|file| file % 10 != 0) {
            fs::remove_file(root.join(self.name(file))).expect("remove");
        }
    }

    fn live_bytes(&self) -> u64 {
        (self.kept().count() * self.len) as u64
    }
}

/// All numbers below `count`, each once, in an order without a pattern.
fn shuffled(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let random = noise(count as u64, 8 * count);
    for (index, bytes) in random.as_chunks::<8>().0.iter().enumerate().rev() {
        let other = u64::from_le_bytes(*bytes) % (index as u64 + 1);
        numbers.swap(index, other as usize);
    }
    numbers
}

/// Half of what the kept large files hold is overwritten page by page, half of the small ones
/// whole.
struct Overwritten {
    pages: Vec<bool>,
}

impl Overwritten {
    fn overwrite(large: &Files, small: &Files, root: &Path) -> Overwritten {
        let kept: Vec<(usize, File)> = large
            .kept()
            .map(|file| {
                let path = root.join(large.name(file));
                let opened = OpenOptions::new().write(true).open(path);
                (file, opened.expect("open"))
            })
            .collect();
        let mut pages = vec![false; kept.len() * large.pages()];
        let order = shuffled(pages.len());
        for number in &order[..order.len() / 2] {
            let (index, page) = (number / large.pages(), number % large.pages());
            let (file, out) = &kept[index];
            out.write_all_at(&large.page(*file, page, true), (page * PAGE) as u64)
                .expect("write");
            pages[*number] = true;
        }
        for file in small.kept().step_by(2) {
            let path = root.join(small.name(file));
            fs::write(path, small.content(file, |_| true)).expect("write");
        }
        Overwritten { pages }
    }

    fn check(&self, large: &Files, small: &Files, root: &Path) {
        for (index, file) in large.kept().enumerate() {
            let found = fs::read(root.join(large.name(file))).expect("read");
            let is_new = |page| self.pages[index * large.pages() + page];
            assert!(found == large.content(file, is_new), "{file} differs");
        }
        for (index, file) in small.kept().enumerate() {
            let found = fs::read(root.join(small.name(file))).expect("read");
            let is_new = |_| index % 2 == 0;
            assert!(found == small.content(file, is_new), "{file} differs");
        }
    }
}

mod long {
    use super::*;

    #[test]
    #[ignore = "dead objects stay some minutes for read-only mounts"]
    fn removed_files_give_their_space_back_and_sparse_packs_are_repacked() {
        let site = Site::start(Transport::Plain);
        let mount = site.mount();
        // One object of its own, and packs of small files of which every fourth is kept.
        fs::write(mount.dir.join("large"), noise(1, 32 << 20)).unwrap();
        for file in 0..400 {
            fs::write(mount.dir.join(format!("f{file}")), noise(file, 20_000)).unwrap();
        }
        mount.unmount();
        let full = data_bytes(&site);
        assert!(full >= 40_000_000, "{full}");

        let mount = site.mount();
        fs::remove_file(mount.dir.join("large")).unwrap();
        for file in (0..400).filter(|file| file % 4 != 0) {
            fs::remove_file(mount.dir.join(format!("f{file}"))).unwrap();
        }
        let began = Instant::now();
        let left = loop {
            std::thread::sleep(Duration::from_secs(10));
            let left = data_bytes(&site);
            if left < 4_000_000 || began.elapsed() > Duration::from_secs(600) {
                break left;
            }
        };
        eprintln!("{full} bytes, {left} left after {:.0?}", began.elapsed());
        assert!(left < 4_000_000, "{left} of {full} bytes are still there");
        for file in (0..400).step_by(4) {
            let found = fs::read(mount.dir.join(format!("f{file}"))).unwrap();
            assert!(found == noise(file, 20_000), "f{file} differs");
        }
        mount.unmount();
        let mount = site.mount();
        for file in (0..400).step_by(4) {
            let found = fs::read(mount.dir.join(format!("f{file}"))).unwrap();
            assert!(found == noise(file, 20_000), "f{file} differs");
        }
        mount.unmount();
    }

    /// Ten minutes with everything as a user has it: what is dead waits two minutes for read-only
    /// mounts.
    #[test]
    #[ignore = "a quarter of an hour, and 11 GiB of disk"]
    fn after_much_was_removed_and_overwritten_the_bucket_holds_little_more_than_what_lives() {
        const WITHIN: Duration = Duration::from_secs(600);
        let mut site = Site::start(Transport::Plain);
        site.memory = "128MiB";
        // 5 GiB each.
        let large = Files::new("large", 70, 73 << 20);
        let small = Files::new("small", 51_000, 105_000);
        let mount = site.mount();
        let began = Instant::now();
        large.write(&mount.dir);
        small.write(&mount.dir);
        let peak = || mount.memory_bytes("VmHWM") >> 20;
        let at = |what| {
            let took = began.elapsed();
            eprintln!("{what} after {took:.0?}, {} MiB resident at most", peak());
        };
        at("written");
        large.remove_nine_of_ten(&mount.dir);
        small.remove_nine_of_ten(&mount.dir);
        let overwritten = Overwritten::overwrite(&large, &small, &mount.dir);
        at("overwritten");

        let live = large.live_bytes() + small.live_bytes();
        let all = |site: &Site| -> u64 {
            let objects = site.bucket().sizes();
            objects.iter().map(|(_, bytes)| bytes).sum()
        };
        let (traffic, began) = (site.stats(), Instant::now());
        let ratio = loop {
            let ratio = all(&site) as f64 / live as f64;
            eprintln!(
                "{:>4} s: {ratio:.3} of {live} live bytes",
                began.elapsed().as_secs()
            );
            if ratio <= 1.3 || began.elapsed() >= WITHIN {
                break ratio;
            }
            std::thread::sleep(Duration::from_secs(10).min(WITHIN - began.elapsed()));
        };
        let now = site.stats();
        eprintln!(
            "meanwhile {} MiB up, {} MiB down; {} MiB resident at most",
            (now.socket_bytes_read - traffic.socket_bytes_read) >> 20,
            (now.socket_bytes_written - traffic.socket_bytes_written) >> 20,
            peak()
        );
        assert!(ratio <= 1.3, "{ratio:.3} of what lives is in the bucket");
        overwritten.check(&large, &small, &mount.dir);
        mount.unmount();
        let mount = site.mount();
        overwritten.check(&large, &small, &mount.dir);
        mount.unmount();
    }
}
