//! The sha256 of a document, in the two forms that published objects contain.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::traefik::escape::Sink;

/// A sha256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The sha256 of a text.
    pub fn new(text: &str) -> Self {
        Self::written(|sink| sink.push(text))
    }

    /// The sha256 of the bytes that `write` writes.
    pub fn written(write: impl FnOnce(&mut Sha256)) -> Self {
        let mut sink = Sha256::new();
        write(&mut sink);
        Self(sink.finalize().into())
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its beginning.
    pub fn short(&self) -> ShortDigest {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        ShortDigest(u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> (64 - ShortDigest::BITS))
    }
}

/// A text that is not a valid [`Digest`] or [`ShortDigest`].
#[derive(Debug)]
pub struct NoDigest;

impl TryFrom<&str> for Digest {
    type Error = NoDigest;

    /// Parses the output of `Display`, and no other spelling.
    fn try_from(hex: &str) -> Result<Self, NoDigest> {
        let mut all = [0; 32];
        for (at, byte) in all.iter_mut().enumerate() {
            let digits = hex.get(2 * at..2 * at + 2).ok_or(NoDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoDigest)?;
        }
        Some(Self(all)).filter(|digest| digest.to_string() == hex).ok_or(NoDigest)
    }
}

impl fmt::Display for Digest {
    /// Lower-case hex, 64 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first 60 bits of a sha256, for names: 12 characters of lower-case base32 (RFC 4648).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortDigest(u64);

impl ShortDigest {
    /// The number of its characters.
    pub const LENGTH: usize = 12;
    const BITS: usize = Self::LENGTH * DIGIT;
}

/// Bits of a character of base32.
const DIGIT: usize = 5;

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = (0..Self::BITS).step_by(DIGIT).rev().map(|shift| (self.0 >> shift) as u8 & 31);
        // 0 to 25 are letters, 26 to 31 the digits 2 to 7.
        digits
            .map(|digit| if digit < 26 { b'a' + digit } else { b'2' + digit - 26 })
            .try_for_each(|digit| f.write_char(digit.into()))
    }
}

impl fmt::Debug for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ShortDigest {
    type Err = NoDigest;

    /// Parses the output of `Display`, and no other spelling.
    fn from_str(text: &str) -> Result<Self, NoDigest> {
        if text.len() != Self::LENGTH {
            return Err(NoDigest);
        }
        text.bytes()
            .try_fold(0, |bits, character| {
                let digit = match character {
                    b'a'..=b'z' => character - b'a',
                    b'2'..=b'7' => character - b'2' + 26,
                    _ => return None,
                };
                Some(bits << DIGIT | u64::from(digit))
            })
            .map(Self)
            .ok_or(NoDigest)
    }
}

/// The first 64 bits of a sha256, which determine the place of an entry, on every machine and in every release.
pub(super) type Place = u64;

/// The place of a text.
pub(super) fn place(text: &str) -> Place {
    let mut bits = [0; 8];
    bits.copy_from_slice(&Sha256::digest(text.as_bytes())[..8]);
    u64::from_be_bytes(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum`, and the same through `xxd -r -p | base32`.
    #[test]
    fn spellings() {
        let digest = Digest::new("abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.short().to_string(), "xj4bnp4pahh6");
        assert_eq!("xj4bnp4pahh6".parse().ok(), Some(digest.short()));
        for other in ["", "xj4bnp4pahh", "xj4bnp4pahh6a", "xj4bnp4pahh1", "XJ4BNP4PAHH6", "xj4bnp4pahé"] {
            assert!(other.parse::<ShortDigest>().is_err(), "{other}");
        }
        let hex = digest.to_string();
        assert_eq!(Digest::try_from(hex.as_str()).ok(), Some(digest));
        for other in
            ["", "0", "é", &hex[1..], &format!("{hex}0"), &hex.to_uppercase(), &hex.replace("ba", "+a")]
        {
            assert!(Digest::try_from(other).is_err(), "{other}");
        }
        assert_eq!(place("abc"), 0xba78_16bf_8f01_cfea);
    }
}
