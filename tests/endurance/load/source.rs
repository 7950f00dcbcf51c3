//! A tree outside the mount that changes from one generation to the next, for programs that copy
//! it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::support::random::{Random, noise};

/// Name, and what the file holds: seed and length.
pub type Manifest = BTreeMap<String, (u64, usize)>;

pub struct Source {
    pub dir: PathBuf,
    pub manifest: Manifest,
    random: Random,
    files: usize,
}

impl Source {
    /// Some `mib` MiB in a hundred files.
    pub fn new(dir: PathBuf, mut random: Random, mib: usize) -> Source {
        let files = 100;
        let mut source = Source {
            dir,
            manifest: Manifest::new(),
            random: random.branch(1),
            files,
        };
        for number in 0..files {
            source.write(&format!("d{}/f{number}", number % 7), mib);
        }
        source
    }

    fn write(&mut self, name: &str, mib: usize) {
        let mean = (mib << 20) / self.files;
        // Most are small, and a few make up the most of it.
        let len = match self.random.below(10) {
            0 => mean * 8,
            1 => 0,
            _ => mean / 4 + self.random.below(3000) as usize,
        };
        let seed = self.random.next();
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, noise(seed, len)).expect("source");
        self.manifest.insert(name.to_owned(), (seed, len));
    }

    /// Some files change, one goes, one comes.
    pub fn advance(&mut self, mib: usize) {
        let names: Vec<String> = self.manifest.keys().cloned().collect();
        for _ in 0..6 {
            let name = self.random.pick(&names).clone();
            self.write(&name, mib);
        }
        let name = self.random.pick(&names).clone();
        fs::remove_file(self.dir.join(&name)).expect("source");
        self.manifest.remove(&name);
        let number = self.random.below(1 << 30);
        self.write(&format!("d{}/n{number}", number % 7), mib);
    }
}

/// Whether a tree is exactly what the manifest says; what is wrong, if not.
pub fn compare(dir: &Path, manifest: &Manifest) -> Result<(), String> {
    let found = files_below(dir).map_err(|error| error.to_string())?;
    for (name, (seed, len)) in manifest {
        match fs::read(dir.join(name)) {
            Ok(contents) if contents == noise(*seed, *len) => {}
            Ok(contents) => {
                return Err(format!("{name} differs: {} bytes of {len}", contents.len()));
            }
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    match found.iter().find(|name| !manifest.contains_key(*name)) {
        Some(name) => Err(format!("{name} is too many")),
        None => Ok(()),
    }
}

pub fn files_below(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(dir).expect("below");
            found.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
