//! Space that nothing refers to any more comes back from the bucket.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    harness::{Site, Transport},
    tree::noise,
};

/// Bytes of data objects in the bucket.
fn data_bytes(site: &Site) -> u64 {
    let bucket = site.bucket();
    let keys = bucket.keys().into_iter();
    let data = keys.filter(|key| key.contains("/data/"));
    data.map(|key| bucket.get(&key).len() as u64).sum()
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
}
