//! Fuzz target of sealed objects: an object that opens is one that was sealed, whole and in part.

use std::sync::{Arc, LazyLock};

use super::{
    HEADER_LEN, Layout, ObjectKind, Opener, Sealer, TAG_LEN,
    header::{self, ObjectKey},
    open_whole,
};
use crate::{
    fuzzing::{Input, edit},
    seal::keys::{Epoch, KeyBytes, VolumeId, VolumeKeys},
};

const PATH: &str = "data/0123456789abcdef0123456789abcdef/7";

static KEYS: LazyLock<Arc<VolumeKeys>> = LazyLock::new(|| {
    let key = KeyBytes::from_slice(&[0x17; 32]).unwrap();
    VolumeKeys::from_epochs(VolumeId(*b"volume number 1."), [(Epoch(3), key)]).unwrap()
});

/// By the first byte: bytes as they are, a header that authenticates before an object of any
/// length, or an object that was changed.
pub(crate) fn sealed_object(input: &[u8]) {
    match input.split_first() {
        Some((b'r', rest)) => raw(rest),
        Some((b'h', rest)) => any_header(rest),
        Some((_, rest)) => edited(&mut Input::new(rest)),
        None => {}
    }
}

/// A sealer for an object with the header of this one.
fn sealer_as(opener: &Opener) -> Sealer {
    let params = opener.params();
    Sealer::with_salt(
        &KEYS,
        params.kind,
        params.frame_log2,
        PATH,
        opener.link(),
        params.salt,
    )
}

/// Seals the plaintext of an object that opened again, which must give the same object.
fn raw(bytes: &[u8]) {
    let Ok(plaintext) = open_whole(&KEYS, PATH, bytes) else {
        return;
    };
    let opener = Opener::from_header(&KEYS, PATH, bytes, bytes.len() as u64).unwrap();
    let mut sealer = sealer_as(&opener);
    let mut again = Vec::new();
    sealer.push(&plaintext, &mut again);
    sealer.finish(&mut again);
    assert!(
        again == bytes,
        "two objects with one plaintext and one salt"
    );
}

/// The header was written with the key; the length is the store's word.
fn any_header(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (stored_len, index) = (input.u64(), input.u64());
    let bound = input.array();
    let salt = bound[48..80].try_into().unwrap();
    let commitment = ObjectKey::derive(KEYS.current_key(), &bound, &salt, PATH).commitment;
    let whole = header::complete(&bound, &commitment);
    let Ok(opener) = Opener::from_header(&KEYS, PATH, &whole, stored_len) else {
        return;
    };
    let layout = opener.layout();
    assert_eq!(layout.stored_len(), stored_len);
    assert!((10..=20).contains(&layout.frame_log2));
    let encoded = header::encode(KEYS.volume(), &opener.params(), opener.link().as_ref());
    assert_eq!(encoded, bound, "a header that is read is written the same");
    let stored = input.rest();
    let mut frame = stored.to_vec();
    match opener.open_slice(index, &mut frame).map(<[u8]>::to_vec) {
        // An input may hold a frame of another one, which was sealed with this key and salt.
        Ok(plaintext) => assert_eq!(sealed_frame(&opener, index, &plaintext), stored, "forged"),
        Err(_) => assert!(frame.iter().all(|byte| *byte == 0), "wiped"),
    }
    let range = layout.stored_range(index..index.saturating_add(1));
    assert!(range.start <= range.end && range.end <= stored_len);
}

/// The frame as it is sealed: behind frames that hold zeros, and before another one unless it is
/// the last.
fn sealed_frame(opener: &Opener, index: u64, plaintext: &[u8]) -> Vec<u8> {
    let (params, layout) = (opener.params(), opener.layout());
    let before = usize::try_from(index << params.frame_log2).unwrap();
    assert!(before <= 1 << 20, "no input has a frame so far behind");
    let mut sealer = sealer_as(opener);
    let mut object = Vec::new();
    sealer.push(&vec![0; before], &mut object);
    sealer.push(plaintext, &mut object);
    if index + 1 < layout.frame_count() {
        sealer.push(&[0], &mut object);
    }
    sealer.finish(&mut object);
    let range = layout.stored_range(index..index + 1);
    object[range.start as usize..range.end as usize].to_vec()
}

/// An object of which bytes were changed after it was sealed.
fn edited(input: &mut Input<'_>) {
    let shape = input.byte();
    let plaintext_len = usize::from(input.u16()) % 5000;
    let plaintext: Vec<u8> = (0..plaintext_len).map(|i| (i * 31) as u8).collect();
    let link = (shape & 1 != 0).then(|| input.array());
    let kind = match shape >> 1 & 3 {
        0 => ObjectKind::Metadata,
        1 => ObjectKind::Control,
        _ => ObjectKind::Data,
    };
    let mut sealer = Sealer::with_salt(&KEYS, kind, 10, PATH, link, [shape; 32]);
    let params = sealer.params();
    let mut original = Vec::new();
    sealer.push(&plaintext, &mut original);
    let layout = sealer.finish(&mut original);

    let mut object = original.clone();
    edit(&mut object, input);
    match open_whole(&KEYS, PATH, &object) {
        Ok(opened) => {
            assert!(object == original, "a changed object opens");
            assert_eq!(opened, plaintext);
        }
        Err(_) => assert!(object != original, "an object does not open"),
    }
    let elsewhere = open_whole(&KEYS, "data/0123456789abcdef0123456789abcdef/8", &object);
    assert!(elsewhere.is_err());

    // In part, by the header and the length that the store tells.
    let stored_len = object.len() as u64;
    if let Ok(opener) = Opener::from_header(&KEYS, PATH, &object, stored_len) {
        assert_eq!(
            object[..HEADER_LEN as usize],
            original[..HEADER_LEN as usize]
        );
        frames(&opener, layout, &original, &object, &plaintext);
    }
    // And by the record in the metadata, without reading the header.
    if link.is_none() {
        let opener = Opener::from_params(&KEYS, PATH, params, layout).unwrap();
        frames(&opener, layout, &original, &object, &plaintext);
    }
}

/// Each frame opens exactly if it is the one that was sealed there, and then to its plaintext.
fn frames(opener: &Opener, sealed: Layout, original: &[u8], object: &[u8], plaintext: &[u8]) {
    let layout = opener.layout();
    for index in 0..layout.frame_count() + 1 {
        let range = layout.stored_range(index..index + 1);
        let as_sealed = sealed.stored_range(index..index + 1) == range;
        let range = range.start as usize..range.end as usize;
        let Some(stored) = object.get(range.clone()) else {
            continue;
        };
        let intact = index < layout.frame_count()
            && as_sealed
            && (index + 1 == layout.frame_count()) == (index + 1 == sealed.frame_count())
            && original.get(range) == Some(stored);
        let start = (index * sealed.frame_len()) as usize;
        let mut frame = stored.to_vec();
        let opened = opener.open_slice(index, &mut frame);
        assert_eq!(opened.is_ok(), intact, "frame {index}");
        let mut apart = vec![0xaa; stored.len().saturating_sub(TAG_LEN as usize)];
        assert_eq!(opener.open_into(index, stored, &mut apart).is_ok(), intact);
        match opened {
            Ok(opened) => {
                assert_eq!(opened, &plaintext[start..start + opened.len()]);
                assert_eq!(opened, apart);
            }
            Err(_) => assert!(frame.iter().chain(&apart).all(|byte| *byte == 0), "wiped"),
        }
    }
}

pub(crate) fn sealed_object_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut seal = |len: usize, link| {
        let mut sealer = Sealer::with_salt(&KEYS, ObjectKind::Data, 10, PATH, link, [1; 32]);
        let mut object = b"r".to_vec();
        sealer.push(&vec![7; len], &mut object);
        sealer.finish(&mut object);
        let mut header = b"h".to_vec();
        header.extend_from_slice(&(object.len() as u64 - 1).to_be_bytes());
        header.extend_from_slice(&1u64.to_be_bytes());
        header.extend_from_slice(&object[1..81]);
        header.extend_from_slice(&object[129..]);
        seeds.extend([object, header]);
    };
    for len in [0, 20, 1024, 1500] {
        seal(len, None);
    }
    seal(100, Some(*b"a link of 12"));
    // Untouched; with a bit flipped; cut; a frame moved; something before its end.
    for edits in [
        &[][..],
        &[0, 0, 200, 1],
        &[1, 4, 0, 0],
        &[4, 0, 128, 255, 4, 144],
        &[3, 3, 0, 4, 1, 2, 3, 4],
    ] {
        let mut seed = b"e\x02\x0b\xb8".to_vec();
        seed.extend_from_slice(edits);
        seeds.push(seed);
    }
    seeds.push(b"e\x01\x00\x10a link of 12\x00\x00\x28\x01".to_vec());
    seeds
}
