//! Checksum algorithms of S3, and the checksum of an object made of parts.

use data_encoding::BASE64;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Sha1, Sha256};

use super::record::{Checksums, PartRecord};

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(in crate::server) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name in `x-amz-checksum-algorithm`, and in lower case at the end of the header's name.
    pub(in crate::server) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(in crate::server) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    fn crc(self) -> Option<(crc_fast::CrcAlgorithm, usize)> {
        match self {
            Self::Crc32 => Some((crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4)),
            Self::Crc32c => Some((crc_fast::CrcAlgorithm::Crc32Iscsi, 4)),
            Self::Crc64Nvme => Some((crc_fast::CrcAlgorithm::Crc64Nvme, 8)),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// The checksum of an object from those of its parts, as S3 defines it; `None` if a part has
    /// none.
    pub(super) fn of_parts(self, parts: &[PartRecord], full_object: bool) -> Option<String> {
        let mut sums = Vec::with_capacity(parts.len());
        for part in parts {
            sums.push((
                BASE64.decode(part.checksums.get(self)?.as_bytes()).ok()?,
                part.size,
            ));
        }
        if full_object {
            return self.of_whole(&sums);
        }
        let all: Vec<u8> = sums.into_iter().flat_map(|(sum, _)| sum).collect();
        let sum = match self {
            Self::Crc32 => Crc32::checksum(&all).to_vec(),
            Self::Crc32c => Crc32c::checksum(&all).to_vec(),
            Self::Crc64Nvme => return None,
            Self::Sha1 => Sha1::checksum(&all).to_vec(),
            Self::Sha256 => Sha256::checksum(&all).to_vec(),
        };
        Some(format!("{}-{}", BASE64.encode(&sum), parts.len()))
    }

    fn of_whole(self, sums: &[(Vec<u8>, u64)]) -> Option<String> {
        let (crc, width) = self.crc()?;
        let mut whole = None;
        for (sum, len) in sums {
            let mut value = [0; 8];
            value
                .get_mut(8 - width..)?
                .copy_from_slice(sum.get(..width)?);
            let value = u64::from_be_bytes(value);
            whole = Some(whole.map_or(value, |whole| {
                crc_fast::checksum_combine(crc, whole, value, *len)
            }));
        }
        Some(BASE64.encode(whole?.to_be_bytes().get(8 - width..)?))
    }
}

impl Checksums {
    pub(in crate::server) fn get(&self, algorithm: Algorithm) -> Option<&str> {
        match algorithm {
            Algorithm::Crc32 => self.crc32.as_deref(),
            Algorithm::Crc32c => self.crc32c.as_deref(),
            Algorithm::Crc64Nvme => self.crc64nvme.as_deref(),
            Algorithm::Sha1 => self.sha1.as_deref(),
            Algorithm::Sha256 => self.sha256.as_deref(),
        }
    }

    pub(in crate::server) fn set(&mut self, algorithm: Algorithm, value: String) {
        let slot = match algorithm {
            Algorithm::Crc32 => &mut self.crc32,
            Algorithm::Crc32c => &mut self.crc32c,
            Algorithm::Crc64Nvme => &mut self.crc64nvme,
            Algorithm::Sha1 => &mut self.sha1,
            Algorithm::Sha256 => &mut self.sha256,
        };
        *slot = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use s3s::crypto::Crc64Nvme;

    use super::*;

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
                crc32c: Some(BASE64.encode(&Crc32c::checksum(data))),
                crc64nvme: Some(BASE64.encode(&Crc64Nvme::checksum(data))),
                sha256: Some(BASE64.encode(&Sha256::checksum(data))),
                ..Checksums::default()
            },
        };
        let (parts, expected) = ([part(left), part(right)], part(&whole).checksums);
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            assert_eq!(
                algorithm.of_parts(&parts, true).as_deref(),
                expected.get(algorithm)
            );
        }
        let both = [Sha256::checksum(left), Sha256::checksum(right)].concat();
        let composite = format!("{}-2", BASE64.encode(&Sha256::checksum(&both)));
        assert_eq!(Algorithm::Sha256.of_parts(&parts, false), Some(composite));
        assert_eq!(Algorithm::Sha1.of_parts(&parts, false), None);
    }
}
