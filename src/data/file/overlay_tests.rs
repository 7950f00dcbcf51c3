//! The overlay against a model that keeps, for each byte of a file, where it is.

use bytes::Bytes;
use proptest::prelude::*;

use super::overlay::{Overlay, Piece};
use crate::meta::{ExtentSource, ObjectId, SessionId};

const SIZE: u64 = 64;

fn object(number: u64) -> ObjectId {
    ObjectId {
        session: SessionId([7; 16]),
        number,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64),
    Cut(u64, u64),
    SealAll,
    WriteWhileSealing(u64, u64),
    Forget(u64),
    TakeInline,
    ForgetInline(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let run = (0..SIZE - 1, 1..16u64);
    prop_oneof![
        4 => run.clone().prop_map(|(a, n)| Step::Write(a, n.min(SIZE - a))),
        1 => run.clone().prop_map(|(a, n)| Step::Cut(a, n.min(SIZE - a))),
        2 => Just(Step::SealAll),
        1 => run.prop_map(|(a, n)| Step::WriteWhileSealing(a, n.min(SIZE - a))),
        1 => (0..6u64).prop_map(Step::Forget),
        2 => Just(Step::TakeInline),
        1 => (0..6u64).prop_map(Step::ForgetInline),
    ]
}

proptest! {
    /// The model keeps, for each byte of the file, where it is.
    #[test]
    fn the_overlay_agrees_with_a_byte_by_byte_model(steps in proptest::collection::vec(step(), 1..60)) {
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum Cell { Gap, Dirty(u8), Inline(u64, u8), Sealed(u64, u8) }
        let mut model = [Cell::Gap; SIZE as usize];
        let mut overlay = Overlay::default();
        let mut objects: Vec<Vec<u8>> = Vec::new();
        let mut stamp = 0u8;
        let mut begun = 0;
        for step in steps {
            let mut write = |overlay: &mut Overlay, model: &mut [Cell], a: u64, n: u64| {
                stamp = stamp.wrapping_add(1);
                overlay.write(a, Bytes::from(vec![stamp; n as usize]));
                model[a as usize..(a + n) as usize].fill(Cell::Dirty(stamp));
            };
            match step {
                Step::Write(a, n) => write(&mut overlay, &mut model, a, n),
                Step::Cut(a, n) => {
                    overlay.cut(a..a + n);
                    model[a as usize..(a + n) as usize].fill(Cell::Gap);
                }
                Step::SealAll | Step::WriteWhileSealing(..) => {
                    let number = objects.len() as u64;
                    let taken = overlay.dirty_pieces(0..u64::MAX, u64::MAX);
                    let before = model;
                    if let Step::WriteWhileSealing(a, n) = step {
                        write(&mut overlay, &mut model, a, n);
                    }
                    let mut contents = Vec::new();
                    for (offset, bytes) in taken {
                        overlay.mark_sealed(offset, &bytes, object(number), contents.len() as u64);
                        contents.extend_from_slice(&bytes);
                    }
                    for (cell, old) in model.iter_mut().zip(before) {
                        if let (Cell::Dirty(value), true) = (*cell, *cell == old) {
                            *cell = Cell::Sealed(number, value);
                        }
                    }
                    objects.push(contents);
                }
                Step::Forget(number) => {
                    overlay.forget_object(object(number));
                    for cell in &mut model {
                        if matches!(cell, Cell::Sealed(there, _) if *there == number) {
                            *cell = Cell::Gap;
                        }
                    }
                }
                Step::TakeInline => {
                    overlay.begin_inline(begun);
                    for cell in &mut model {
                        if let Cell::Dirty(value) = *cell {
                            *cell = Cell::Inline(begun, value);
                        }
                    }
                    begun += 1;
                }
                Step::ForgetInline(below) => {
                    overlay.forget_inline(below);
                    for cell in &mut model {
                        if matches!(cell, Cell::Inline(number, _) if *number < below) {
                            *cell = Cell::Gap;
                        }
                    }
                }
            }
            let mut seen = [Cell::Gap; SIZE as usize];
            for view in overlay.view(0..SIZE) {
                for at in view.range.clone() {
                    let skip = (at - view.range.start) as usize;
                    seen[at as usize] = match &view.piece {
                        None => Cell::Gap,
                        Some(Piece::Dirty(bytes)) => Cell::Dirty(bytes[skip]),
                        Some(Piece::Inline { bytes, number }) => Cell::Inline(*number, bytes[skip]),
                        Some(Piece::Sealed { object, at: start }) => {
                            Cell::Sealed(object.number, objects[object.number as usize][*start as usize + skip])
                        }
                    };
                }
            }
            prop_assert_eq!(seen, model);
            let mut committed = [None; SIZE as usize];
            let mut last_end = None;
            for extent in overlay.extents() {
                let ExtentSource::Inline(bytes) = &extent.source else { continue };
                prop_assert_eq!(bytes.len() as u64, extent.len);
                prop_assert!(last_end < Some(extent.offset), "extents that follow each other are one");
                last_end = Some(extent.offset + extent.len);
                for (at, byte) in (extent.offset..).zip(bytes) {
                    committed[at as usize] = Some(*byte);
                }
            }
            let inline = model.map(|cell| if let Cell::Inline(_, value) = cell { Some(value) } else { None });
            prop_assert_eq!(committed, inline);
            let dirty = model.iter().filter(|cell| matches!(cell, Cell::Dirty(_))).count() as u64;
            prop_assert_eq!(overlay.dirty_bytes(), dirty);
            let total = model.iter().filter(|cell| !matches!(cell, Cell::Gap)).count() as u64;
            prop_assert_eq!(overlay.total_bytes(), total);
        }
    }
}

#[test]
fn a_stream_sealed_piece_by_piece_commits_as_one_extent() {
    let mut overlay = Overlay::default();
    for index in 0..8u64 {
        overlay.write(index * 10, Bytes::from(vec![1; 10]));
    }
    let mut at = 0;
    for (offset, bytes) in overlay.dirty_pieces(0..u64::MAX, u64::MAX) {
        overlay.mark_sealed(offset, &bytes, object(0), at);
        at += bytes.len() as u64;
    }
    assert_eq!(overlay.extents().len(), 1);
}
