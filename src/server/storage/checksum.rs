//! CRC-32, the one checksum that clients of ours send, and that of an object made of parts.

use data_encoding::BASE64;
use s3s::crypto::{Checksum as _, Crc32};

use super::record::PartRecord;

/// Its name in `x-amz-checksum-algorithm`.
pub(in crate::server) const CRC32: &str = "CRC32";

/// Bytes of a CRC-32.
const CRC_LEN: usize = 4;

/// The checksum of an object from those of its parts, as S3 defines it: of the whole object, or of
/// the parts' checksums one after the other. `None` if a part has none.
pub(super) fn of_parts(parts: &[PartRecord], full_object: bool) -> Option<String> {
    let mut sums = Vec::with_capacity(parts.len());
    for part in parts {
        let sum = part.checksums.crc32.as_ref()?;
        sums.push((BASE64.decode(sum.as_bytes()).ok()?, part.size));
    }
    if full_object {
        return of_whole(&sums);
    }
    let all: Vec<u8> = sums.into_iter().flat_map(|(sum, _)| sum).collect();
    let sum = BASE64.encode(&Crc32::checksum(&all));
    Some(format!("{sum}-{}", parts.len()))
}

fn of_whole(sums: &[(Vec<u8>, u64)]) -> Option<String> {
    let mut whole = None;
    for (sum, len) in sums {
        let sum = u32::from_be_bytes(*sum.first_chunk::<CRC_LEN>()?);
        whole = Some(whole.map_or(u64::from(sum), |whole| {
            let algorithm = crc_fast::CrcAlgorithm::Crc32IsoHdlc;
            crc_fast::checksum_combine(algorithm, whole, u64::from(sum), *len)
        }));
    }
    Some(BASE64.encode(whole?.to_be_bytes().last_chunk::<CRC_LEN>()?))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{super::Checksums, *};

    #[test]
    fn parts_combine_to_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..100_000u32).map(|at| (at * 7 % 251) as u8).collect();
        let (left, right) = whole.split_at(60_000);
        let part = |data: &[u8]| PartRecord {
            number: 1,
            size: data.len() as u64,
            etag: String::new(),
            modified: SystemTime::UNIX_EPOCH,
            checksums: Checksums {
                crc32: Some(BASE64.encode(&Crc32::checksum(data))),
                ..Checksums::default()
            },
        };
        let parts = [part(left), part(right)];
        assert_eq!(of_parts(&parts, true), part(&whole).checksums.crc32);
        let both = [Crc32::checksum(left), Crc32::checksum(right)].concat();
        let composite = format!("{}-2", BASE64.encode(&Crc32::checksum(&both)));
        assert_eq!(of_parts(&parts, false), Some(composite));
        let mut without = part(left);
        without.checksums = Checksums::default();
        assert_eq!(of_parts(&[without], false), None);
    }
}
