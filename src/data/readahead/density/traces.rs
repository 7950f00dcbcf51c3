//! The reads of programs, for the simulator. All are made here, from a fixed seed: the last three
//! resemble what `git log`, restic and borg do with their files, and were not recorded.

use std::ops::Range;

/// Frames of 64 KiB in a MiB, and in the largest object.
pub(crate) const MIB: u64 = 16;
pub(crate) const OBJECT: u64 = 256 * MIB;

/// A program's reads, by object and frames in it.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    /// Frames of each object.
    pub(crate) objects: Vec<u64>,
    pub(crate) reads: Vec<(usize, Range<u64>)>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    /// Between 0 and 1.
    fn fraction(&mut self) -> f64 {
        self.below(1 << 40) as f64 / (1_u64 << 40) as f64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A frame of a file that is one object after the other.
fn at(frame: u64) -> (usize, Range<u64>) {
    let within = frame % OBJECT;
    ((frame / OBJECT) as usize, within..within + 1)
}

pub(crate) fn all() -> Vec<Trace> {
    vec![
        uniform("uniform, 256 MiB, 20,000 reads", OBJECT, 20_000),
        uniform("uniform, 256 MiB, 500 reads", OBJECT, 500),
        uniform("uniform, 100 GiB, 3,000 reads", 400 * OBJECT, 3_000),
        zipf(),
        b_tree(),
        packs("packs, order of creation", Order::Creation),
        packs("packs, order of directories", Order::Directories),
        packs("packs, shuffled", Order::Shuffled),
        sequential_with_skips(),
        two_interleaved(),
        like_git_log(),
        like_restic(),
        like_borg(),
    ]
}

pub(crate) fn uniform(name: &'static str, frames: u64, reads: usize) -> Trace {
    let mut random = Random(11);
    Trace {
        name,
        objects: vec![OBJECT; frames.div_ceil(OBJECT) as usize],
        reads: (0..reads).map(|_| at(random.below(frames))).collect(),
    }
}

/// Pages of 1 GiB, the n-th most popular read 1/n as often, wherever it lies.
fn zipf() -> Trace {
    let mut random = Random(12);
    let pages = 16 * 4 * OBJECT;
    let read = |random: &mut Random| {
        let rank = (pages as f64).powf(random.fraction()) as u64;
        at(rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % pages / 16)
    };
    Trace {
        name: "Zipf over the pages of 1 GiB",
        objects: vec![OBJECT; 4],
        reads: (0..20_000).map(|_| read(&mut random)).collect(),
    }
}

/// Look-ups in a database of 1 GiB: the root, one of 64 nodes, one of 4,096, a leaf.
fn b_tree() -> Trace {
    let mut random = Random(13);
    let frames = 4 * OBJECT;
    let place =
        |level: u64, node: u64| at((node + 1).wrapping_mul(0x2545_f491_4f6c_dd1d ^ level) % frames);
    let mut reads = Vec::new();
    for _ in 0..3_000 {
        let leaf = random.below(frames);
        reads.push(place(0, 0));
        reads.push(place(1, leaf * 64 / frames));
        reads.push(place(2, leaf * 4_096 / frames));
        reads.push(at(leaf));
    }
    Trace {
        name: "descents of a B-tree, 1 GiB",
        objects: vec![OBJECT; 4],
        reads,
    }
}

enum Order {
    Creation,
    Directories,
    Shuffled,
}

/// 5,000 files of 1 to 16 KiB in 13 packs, made round all of 50 directories.
fn packs(name: &'static str, order: Order) -> Trace {
    const PACKS: u64 = 13;
    let mut random = Random(14);
    let mut at = 0;
    let files: Vec<(u64, u64)> = (0..5_000_u64)
        .map(|index| {
            let len = 1024 + index * 7919 % (15 << 10);
            at += len;
            (at - len, at)
        })
        .collect();
    let pack_len = at.div_ceil(PACKS);
    let mut indices: Vec<usize> = (0..files.len()).collect();
    match order {
        Order::Creation => {}
        Order::Directories => indices.sort_by_key(|index| index % 50),
        Order::Shuffled => random.shuffle(&mut indices),
    }
    let frames_in_pack = pack_len.div_ceil(64 << 10) + 1;
    let read = |index: usize| {
        let (start, end) = files[index];
        let pack = start / pack_len;
        let frame = |byte: u64| (byte - pack * pack_len) >> 16;
        (pack as usize, frame(start)..frame(end - 1) + 1)
    };
    Trace {
        name,
        objects: vec![frames_in_pack; PACKS as usize],
        reads: indices.into_iter().map(read).collect(),
    }
}

/// 128 KiB, then up to a MiB left out, through 1 GiB.
fn sequential_with_skips() -> Trace {
    let mut random = Random(15);
    let mut reads = Vec::new();
    let mut frame = 0;
    while frame + 2 <= 4 * OBJECT {
        reads.push(at(frame));
        reads.push(at(frame + 1));
        frame += 2 + random.below(MIB);
    }
    Trace {
        name: "in order with skips, 1 GiB",
        objects: vec![OBJECT; 4],
        reads,
    }
}

/// One reads a file of 256 MiB in order, the other 16 GiB at random.
fn two_interleaved() -> Trace {
    let mut random = Random(16);
    let mut reads = Vec::new();
    for frame in 0..OBJECT {
        reads.push(at(frame));
        if frame % 4 == 0 {
            reads.push(at(OBJECT + random.below(64 * OBJECT)));
        }
    }
    Trace {
        name: "in order beside random over 16 GiB",
        objects: vec![OBJECT; 65],
        reads,
    }
}

/// An index of 20 MiB searched, commits at the beginning of a pack of 300 MiB almost in order, now
/// and then a tree and some blobs near each other.
fn like_git_log() -> Trace {
    let mut random = Random(17);
    let index = |frame: u64| (0, frame..frame + 1);
    let pack = |frame: u64| match frame < OBJECT {
        true => (1, frame..frame + 1),
        false => (2, frame - OBJECT..frame - OBJECT + 1),
    };
    let mut reads = Vec::new();
    for commit in 0..4_000 {
        reads.push(index(0));
        reads.push(index(random.below(20 * MIB)));
        let behind = commit * 16 * MIB / 4_000 + random.below(4);
        reads.push(pack(behind));
        if commit % 8 == 0 {
            let trees = 16 * MIB + commit * 100 * MIB / 4_000;
            for _ in 0..3 {
                reads.push(pack(trees + random.below(MIB / 2)));
            }
        }
    }
    Trace {
        name: "like a cold git log --stat, 320 MiB",
        objects: vec![20 * MIB, OBJECT, 44 * MIB],
        reads,
    }
}

/// Of each of 64 pack files of 16 MiB the end, and then a third of its blobs, in order.
fn like_restic() -> Trace {
    let mut random = Random(18);
    let mut reads = Vec::new();
    for pack in 0..64 {
        reads.push((pack, 16 * MIB - 1..16 * MIB));
        let mut frame = 0;
        while frame < 16 * MIB {
            let blob = 8 + random.below(24);
            if random.below(3) == 0 {
                reads.extend(
                    (frame..(frame + blob).min(16 * MIB)).map(|frame| (pack, frame..frame + 1)),
                );
            }
            frame += blob;
        }
    }
    Trace {
        name: "like restic restoring a third, 1 GiB",
        objects: vec![16 * MIB; 64],
        reads,
    }
}

/// Chunks of 1 to 3 MiB of two segments, four of five in order, the others anywhere; before each
/// one of an index of 40 MiB.
fn like_borg() -> Trace {
    let mut random = Random(19);
    let mut reads = Vec::new();
    let mut next = 0;
    for _ in 0..200 {
        let entry = random.below(40 * MIB);
        reads.push((2, entry..entry + 1));
        let chunk = MIB + random.below(2 * MIB);
        let start = match random.below(5) {
            0 => random.below(2 * OBJECT - 3 * MIB),
            _ => next,
        };
        reads.extend((start..start + chunk).map(at));
        if start == next {
            next = (next + chunk) % (2 * OBJECT - 3 * MIB);
        }
    }
    Trace {
        name: "like borg extracting, 512 MiB",
        objects: vec![OBJECT, OBJECT, 40 * MIB],
        reads,
    }
}
