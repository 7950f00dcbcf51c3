//! The versions of a file's contents, one after the other, and whether bytes that were found are
//! some of them.

use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Version {
    pub bytes: Arc<Vec<u8>>,
    /// The file was emptied and written anew: what was before goes when this comes.
    pub anew: bool,
}

/// Whether each byte is one that was at its place in one of the versions, and the size one that the
/// file passed through.
pub fn explained(bytes: &[u8], versions: &[Version]) -> Result<(), String> {
    let mut why = String::new();
    let mut from = 0;
    while from < versions.len() {
        let next = versions[from + 1..].iter().position(|version| version.anew);
        let to = next.map_or(versions.len(), |next| from + 1 + next);
        match explained_in_one(bytes, &versions[from..to]) {
            Ok(()) => return Ok(()),
            Err(error) => why = error,
        }
        from = to;
    }
    Err(why)
}

/// Whether each of the bytes that were read at `from` was there in one of the versions.
pub fn explained_at(bytes: &[u8], from: usize, versions: &[Version]) -> Result<(), String> {
    let was = |at: usize, byte: &u8| {
        let mut versions = versions.iter();
        versions.any(|version| version.bytes.get(at) == Some(byte))
    };
    let mut bytes = (from..).zip(bytes);
    match bytes.find(|(at, byte)| !was(*at, byte)) {
        Some((at, byte)) => Err(format!("byte {at} never was {byte}")),
        None => Ok(()),
    }
}

fn explained_in_one(bytes: &[u8], versions: &[Version]) -> Result<(), String> {
    let lens = versions.iter().map(|version| version.bytes.len());
    let (least, most) = (lens.clone().min().unwrap_or(0), lens.max().unwrap_or(0));
    // Contents that replace others come from their beginning on.
    let least = match versions.first() {
        Some(first) if first.anew => least.min(1),
        _ => least,
    };
    if bytes.len() < least || bytes.len() > most {
        return Err(format!(
            "{} bytes, where there were {least} to {most}",
            bytes.len()
        ));
    }
    const CHUNK: usize = 1024;
    for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
        let at = index * CHUNK;
        let part = |version: &Version, at: usize, len: usize| {
            version.bytes.get(at..at + len).map(<[u8]>::to_vec)
        };
        let is_whole = |version: &Version| {
            let end = at + chunk.len();
            version
                .bytes
                .get(at..end)
                .is_some_and(|there| there == chunk)
        };
        if versions.iter().rev().any(is_whole) {
            continue;
        }
        for (offset, byte) in chunk.iter().enumerate() {
            let at = at + offset;
            let was = |version: &Version| version.bytes.get(at) == Some(byte);
            if !versions.iter().any(was) {
                let last = versions.last().and_then(|version| part(version, at, 1));
                return Err(format!("byte {at} is {byte}, and last was {last:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version {
            bytes: Arc::new(text.as_bytes().to_vec()),
            anew: false,
        }
    }

    #[test]
    fn bytes_are_explained_by_versions_and_nothing_else_is() {
        let versions = [version("abc"), version("xbcd")];
        for fine in ["abc", "xbcd", "xbc", "abcd"] {
            assert_eq!(explained(fine.as_bytes(), &versions), Ok(()), "{fine}");
        }
        for wrong in ["", "ab", "abcde", "zbc", "abc\0"] {
            assert!(explained(wrong.as_bytes(), &versions).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_is_explained_by_what_was_at_its_place() {
        let versions = [version("abc"), version("xbcd")];
        for (fine, from) in [("abcd", 0), ("bc", 1), ("d", 3), ("", 9)] {
            assert_eq!(explained_at(fine.as_bytes(), from, &versions), Ok(()));
        }
        for (wrong, from) in [("ab", 1), ("de", 3), ("z", 0)] {
            assert!(explained_at(wrong.as_bytes(), from, &versions).is_err());
        }
    }

    #[test]
    fn what_was_written_anew_is_never_mixed_with_what_was_before() {
        let mut anew = version("XY");
        anew.anew = true;
        let versions = [version("abcd"), anew];
        for fine in ["abcd", "X", "XY"] {
            assert_eq!(explained(fine.as_bytes(), &versions), Ok(()), "{fine}");
        }
        for wrong in ["", "Xb", "XYcd", "a"] {
            assert!(explained(wrong.as_bytes(), &versions).is_err(), "{wrong}");
        }
    }
}
