//! The integers and bytes inside database values: little-endian base-128 varints, zigzag for signed
//! ones.
//!
//! Promises: encoded values decode to the same; anything else (short, overlong, bytes left over) is
//! an error, never a guess. Never: knows what the fields mean.

use crate::meta::MetaError;

/// Builds one value.
#[derive(Default)]
pub(super) struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// Starts with the record's form byte.
    pub fn new(form: u8) -> Encoder {
        let mut out = Vec::with_capacity(64);
        out.push(form);
        Encoder { out }
    }

    pub fn byte(mut self, value: u8) -> Encoder {
        self.out.push(value);
        self
    }

    pub fn unsigned(mut self, mut value: u64) -> Encoder {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
        self
    }

    pub fn signed(self, value: i64) -> Encoder {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64)
    }

    pub fn bytes(mut self, value: &[u8]) -> Encoder {
        self.out.extend_from_slice(value);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Takes one value apart.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// `what` names the record in errors.
    pub fn new(value: &'a [u8], what: &'static str) -> Decoder<'a> {
        Decoder { rest: value, what }
    }

    pub fn bad(&self) -> MetaError {
        MetaError::Store(format!(
            "{} does not decode: damaged, or written by a newer version",
            self.what
        ))
    }

    /// The form byte, which must be the one that is known.
    pub fn form(&mut self, known: u8) -> Result<(), MetaError> {
        if self.byte()? == known {
            Ok(())
        } else {
            Err(self.bad())
        }
    }

    pub fn byte(&mut self) -> Result<u8, MetaError> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.bad())?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn unsigned(&mut self) -> Result<u64, MetaError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only, and a last byte of zero would be an
            // overlong encoding.
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(self.bad());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.bad())
    }

    pub fn unsigned32(&mut self) -> Result<u32, MetaError> {
        u32::try_from(self.unsigned()?).map_err(|_| self.bad())
    }

    pub fn signed(&mut self) -> Result<i64, MetaError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], MetaError> {
        let (first, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.bad())?;
        self.rest = rest;
        Ok(*first)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left over.
    pub fn end(self) -> Result<(), MetaError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.bad())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_encoding_at_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let out = Encoder::new(1)
                    .unsigned(value)
                    .signed(value as i64)
                    .finish();
                let mut decoder = Decoder::new(&out, "test");
                decoder.form(1).unwrap();
                assert_eq!(decoder.unsigned().unwrap(), value);
                assert_eq!(decoder.signed().unwrap(), value as i64);
                decoder.end().unwrap();
            }
        }
    }

    #[test]
    fn overlong_short_and_trailing_bytes_are_refused() {
        assert!(Decoder::new(&[0x80, 0x00], "test").unsigned().is_err());
        assert!(Decoder::new(&[0x80], "test").unsigned().is_err());
        assert!(Decoder::new(&[0xff; 11], "test").unsigned().is_err());
        assert!(Decoder::new(&[1, 2], "test").array::<3>().is_err());
        let mut decoder = Decoder::new(&[1, 2], "test");
        decoder.byte().unwrap();
        assert!(decoder.end().is_err());
    }
}
