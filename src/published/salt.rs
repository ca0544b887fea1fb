//! The names of shards. They are short, so a tenant who determines the whole text of a shard can search for two texts
//! with the same name, in about 2^30 tries. Once that has happened to an output, its names depend on a secret in its index.

use std::fmt;

use rustls::crypto::ring;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use thiserror::Error;

use crate::table::{Digest, ShortDigest};

/// 128 random bits that only readers of the output know. In the index they are 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salt(u128);

impl Salt {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bits, so that no TLS connection could be made either.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut bits = [0; 16];
        ring::default_provider().secure_random.fill(&mut bits)?;
        Ok(Self(u128::from_be_bytes(bits)))
    }
}

/// A text is not the spelling of a [`Salt`].
#[derive(Debug, Error)]
#[error("a salt is 32 lower-case hex digits")]
pub struct NoSalt;

impl TryFrom<String> for Salt {
    type Error = NoSalt;

    fn try_from(hex: String) -> Result<Self, NoSalt> {
        let salt = u128::from_str_radix(&hex, 16).map(Self).map_err(|_| NoSalt)?;
        if String::from(salt) == hex { Ok(salt) } else { Err(NoSalt) }
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        format!("{:032x}", salt.0)
    }
}

impl fmt::Debug for Salt {
    /// It is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

/// The end of a shard's name. Without a salt, it is [`Digest::short`] of the sha256 of the text. With a salt, it is
/// [`Digest::short`] of the sha256 of 48 bytes: the salt, then the sha256 of the text.
pub fn short_name(salt: Option<Salt>, text: &Digest) -> ShortDigest {
    let Some(Salt(bits)) = salt else { return text.short() };
    Digest::written(|sum| {
        sum.update(bits.to_be_bytes());
        sum.update(text.as_bytes());
    })
    .short()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `{ echo 000102030405060708090a0b0c0d0e0f; printf abc | sha256sum | cut -c1-64; } | xxd -r -p | sha256sum |
    /// xxd -r -p | base32`
    #[test]
    fn a_name_is_made_of_salt_and_sum() {
        let salt = Salt::try_from("000102030405060708090a0b0c0d0e0f".to_owned()).unwrap();
        assert_eq!(short_name(Some(salt), &Digest::new("abc")).to_string(), "hhibv6tx54an");
        assert_eq!(short_name(None, &Digest::new("abc")).to_string(), "xj4bnp4pahh6");
    }

    #[test]
    fn what_is_no_salt_is_refused() {
        for text in [
            "",
            "0",
            &"0".repeat(31),
            &"0".repeat(33),
            &"A".repeat(32),
            &format!("+{:031x}", 1),
            &"é".repeat(16),
        ] {
            assert!(Salt::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_are_equal_and_none_is_shown() {
        let (one, other) = (Salt::new().unwrap(), Salt::new().unwrap());
        assert!(one != other);
        assert_eq!(format!("{one:?}"), "Salt");
    }

    proptest! {
        #[test]
        fn names_depend_on_salt_and_text_and_can_be_read(bits: u128, other: u128, text: String, another: String) {
            let salt = Salt(bits);
            prop_assert_eq!(Salt::try_from(String::from(salt)).ok(), Some(salt));
            let digest = Digest::new(&text);
            let name = short_name(Some(salt), &digest);
            prop_assert_eq!(name.to_string().parse().ok(), Some(name));
            prop_assert_eq!(name, short_name(Some(salt), &digest));
            prop_assert!(name != digest.short());
            prop_assert_eq!(name == short_name(Some(Salt(other)), &digest), bits == other);
            prop_assert_eq!(name == short_name(Some(salt), &Digest::new(&another)), text == another);
        }
    }
}
