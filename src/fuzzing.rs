//! The parsers and codecs as functions of bytes, for fuzzing (`tests/fuzz`) and for the test below,
//! which feeds them what fuzzing kept.
//!
//! Each module that reads what comes from outside has a file `fuzz.rs` with its functions, which
//! call what is called in earnest and check what it promises. None of this is compiled into the
//! program: it is there with `--cfg fuzzing`, which cargo-fuzz sets, and in unit tests.

use crate::{cli, data, fs, fuse, meta, seal, store};

/// Something that reads bytes from outside.
pub struct Target {
    /// As cargo-fuzz knows it, and the name of the directory of its corpus.
    pub name: &'static str,
    /// Panics if a promise does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All there are.
pub const TARGETS: [Target; 13] = [
    Target {
        name: "sealed_object",
        run: seal::codec::fuzz::sealed_object,
        seeds: seal::codec::fuzz::sealed_object_seeds,
    },
    Target {
        name: "header",
        run: seal::volume::fuzz::header,
        seeds: seal::volume::fuzz::header_seeds,
    },
    Target {
        name: "key_slots",
        run: seal::volume::fuzz::key_slots,
        seeds: seal::volume::fuzz::key_slots_seeds,
    },
    Target {
        name: "recovery_key",
        run: seal::volume::fuzz::recovery_key,
        seeds: seal::volume::fuzz::recovery_key_seeds,
    },
    Target {
        name: "log_chain",
        run: seal::object_store::fuzz::log_chain,
        seeds: seal::object_store::fuzz::log_chain_seeds,
    },
    Target {
        name: "records",
        run: meta::fuzz::records,
        seeds: meta::fuzz::records_seeds,
    },
    Target {
        name: "answers",
        run: store::fuzz::answers,
        seeds: store::fuzz::answers_seeds,
    },
    Target {
        name: "notes",
        run: notes,
        seeds: notes_seeds,
    },
    Target {
        name: "control",
        run: cli::fuzz::control,
        seeds: cli::fuzz::control_seeds,
    },
    Target {
        name: "options",
        run: cli::fuzz::options,
        seeds: cli::fuzz::options_seeds,
    },
    Target {
        name: "values",
        run: cli::fuzz::values,
        seeds: cli::fuzz::values_seeds,
    },
    Target {
        name: "mountinfo",
        run: fuse::fuzz::mountinfo,
        seeds: fuse::fuzz::mountinfo_seeds,
    },
    Target {
        name: "acl",
        run: fs::fuzz::acl,
        seeds: fs::fuzz::acl_seeds,
    },
];

/// Runs one.
///
/// # Panics
/// If there is none of this name, or if a promise does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target {name}")).run)(input);
}

/// Notes in the store (the lease, readers) and on this machine (places): by the first byte.
fn notes(input: &[u8]) {
    match input.split_first() {
        Some((b'r', rest)) => data::fuzz::reader_note(rest),
        Some((b'k', rest)) => data::fuzz::object_key(rest),
        Some((kind, rest)) => cli::fuzz::note(*kind, rest),
        None => {}
    }
}

fn notes_seeds() -> Vec<Vec<u8>> {
    [data::fuzz::seeds(), cli::fuzz::note_seeds()].concat()
}

/// Takes an input apart. Past its end everything is zero.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.0.len())
    }
}

/// Changes `bytes` as the input says, until it is used up.
pub(crate) fn edit(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    while !input.is_empty() {
        let (what, at) = (input.byte(), usize::from(input.u16()));
        let at = at.min(bytes.len());
        let len = usize::from(input.byte());
        let range = at..(at + len).min(bytes.len());
        match what % 6 {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= len as u8;
                }
            }
            1 => bytes.truncate(at),
            2 => {
                bytes.drain(range);
            }
            3 => {
                bytes.splice(at..at, input.bytes(len).iter().copied());
            }
            4 => {
                let copy = bytes[range].to_vec();
                let to = usize::from(input.u16()).min(bytes.len());
                let end = (to + copy.len()).min(bytes.len());
                bytes.splice(to..end, copy);
            }
            _ => {
                let new = input.bytes(len);
                let end = (at + new.len()).min(bytes.len());
                bytes.splice(at..end, new.iter().copied());
            }
        }
        // Small inputs are enough to find faults.
        bytes.truncate(1 << 16);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::PathBuf,
        time::{Duration, Instant},
    };

    use super::*;

    /// Each target is tried with new inputs for so long.
    const MUTATE_FOR: Duration = Duration::from_millis(500);
    /// No longer inputs are made.
    const INPUT_LEN_MAX: usize = 8 << 10;

    /// SplitMix64, so that a failure can be had again.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, end: usize) -> usize {
            (self.next() % end.max(1) as u64) as usize
        }

        fn pick<'a>(&mut self, of: &'a [Vec<u8>]) -> &'a [u8] {
            &of[self.below(of.len())]
        }
    }

    /// The corpus that fuzzing left, in the order of the names.
    fn corpus(target: &Target) -> Vec<Vec<u8>> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let directory = root.join("tests/fuzz/corpus").join(target.name);
        let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn mutate(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = random.pick(inputs).to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() + 1);
            match random.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                1 if at < bytes.len() => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
                4 => {
                    let new = random.next().to_be_bytes();
                    bytes.splice(at..at, new[..1 + random.below(8)].iter().copied());
                }
                _ => {
                    let other = random.pick(inputs);
                    let from = random.below(other.len() + 1);
                    let len = random.below(64).min(other.len() - from);
                    let part = other[from..from + len].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes.truncate(INPUT_LEN_MAX);
        bytes
    }

    /// Says what the input was if the target panics.
    fn run(target: &Target, input: &[u8]) {
        let outcome = std::panic::catch_unwind(|| (target.run)(input));
        if outcome.is_err() {
            let file = std::env::temp_dir().join(format!("{}-fails", target.name));
            fs::write(&file, input).unwrap();
            panic!("{} fails with {}", target.name, file.display());
        }
    }

    fn keeps_its_promises(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let mut inputs = corpus(target);
        assert!(inputs.len() > 2, "{} inputs are kept", inputs.len());
        inputs.extend((target.seeds)());
        inputs.push(Vec::new());
        for input in &inputs {
            run(target, input);
        }
        let (mut random, mut tries) = (Random(1), 0_u64);
        let began = Instant::now();
        while began.elapsed() < MUTATE_FOR {
            run(target, &mutate(&mut random, &inputs));
            tries += 1;
        }
        println!("{name}: {} inputs, {tries} changed ones", inputs.len());
    }

    macro_rules! targets {
        ($($name:ident)*) => {
            $(#[test]
            fn $name() {
                keeps_its_promises(stringify!($name));
            })*

            #[test]
            fn every_target_has_its_test_and_its_binary() {
                let names = TARGETS.map(|target| target.name);
                assert_eq!(names.as_slice(), [$(stringify!($name)),*]);
                let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
                let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
                for name in names {
                    let line = format!("name = \"{name}\"");
                    assert!(manifest.lines().any(|other| other == line), "{name}");
                    let program = root.join(format!("targets/{name}.rs"));
                    assert!(fs::read_to_string(program).unwrap().contains(&format!("{name:?}")));
                }
            }
        };
    }

    targets! {
        sealed_object header key_slots recovery_key log_chain records answers notes control
        options values mountinfo acl
    }

    /// Puts the inputs to begin with where fuzzing finds them.
    #[test]
    #[ignore = "writes into the source tree"]
    fn write_seeds() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for target in TARGETS {
            let directory = root.join(target.name);
            fs::create_dir_all(&directory).unwrap();
            for (number, seed) in (target.seeds)().into_iter().enumerate() {
                fs::write(directory.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}
