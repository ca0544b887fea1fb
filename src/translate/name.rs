//! Builds the keys of routers and services: readable, bounded, and the same as in Traefik's provider.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use unicode_general_category::{GeneralCategory, get_general_category};

/// Maximum length of a key. Traefik's YAML parser refuses a key of 1,024 characters, and with it the whole file.
pub const LIMIT: usize = 512;

/// The length of the suffix from [`digest`] with its dash.
const SUFFIX: usize = 21;

/// Key of the router that gets all requests that match no other one.
pub const DEFAULT_ROUTER: &str = "default-router";

/// Key of the service of [`DEFAULT_ROUTER`].
pub const DEFAULT_BACKEND: &str = "default-backend";

/// Joins the runs of letters and numbers of `text` with single dashes (Traefik's `provider.Normalize`).
///
/// Letters and numbers are Unicode's categories L and N. Combining marks split runs, although Rust's `is_alphanumeric`
/// accepts alphabetic ones.
pub fn normalize(text: &str) -> String {
    normalize_joined(&[text])
}

/// [`normalize`] of concatenated pieces.
pub fn normalize_joined(pieces: &[&str]) -> String {
    let mut key = String::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    let mut gap = false;
    for piece in pieces {
        for character in piece.chars() {
            if !is_letter_or_number(character) {
                gap = true;
                continue;
            }
            if std::mem::take(&mut gap) && !key.is_empty() {
                key.push('-');
            }
            key.push(character);
        }
    }
    key
}

fn is_letter_or_number(character: char) -> bool {
    use GeneralCategory as C;
    if character.is_ascii() {
        return character.is_ascii_alphanumeric();
    }
    matches!(
        get_general_category(character),
        C::UppercaseLetter
            | C::LowercaseLetter
            | C::TitlecaseLetter
            | C::ModifierLetter
            | C::OtherLetter
            | C::DecimalNumber
            | C::LetterNumber
            | C::OtherNumber
    )
}

/// The first 10 bytes of a sha256 in lower-case hex, which distinguish equal keys.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cuts a key to [`LIMIT`], with a digest of the whole key.
pub fn bounded(key: String) -> String {
    if key.len() <= LIMIT {
        return key;
    }
    format!("{}-{}", head(&key, LIMIT - SUFFIX), digest(&key))
}

/// `key` with a digest of `identity` appended, at most [`LIMIT`] bytes. If the key has to be cut for this, the digest
/// includes the whole key, so that two long keys of one owner stay distinct.
pub fn with_digest(key: &str, identity: &str) -> String {
    let (key, identity) = if key.len() + SUFFIX <= LIMIT {
        (key, Cow::Borrowed(identity))
    } else {
        (head(key, LIMIT - SUFFIX), Cow::Owned(format!("{identity}/{key}")))
    };
    format!("{key}-{}", digest(&identity))
}

/// The key to which [`with_digest`] has appended a digest, if it has. A cut key is not recovered.
pub fn without_digest(key: &str) -> Option<&str> {
    let (plain, digest) = key.rsplit_once('-')?;
    let is_digest =
        digest.len() == SUFFIX - 1 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then_some(plain)
}

fn head(text: &str, end: usize) -> &str {
    &text[..text.floor_char_boundary(end)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalize_joins_letters_and_numbers() {
        for (text, key) in [
            ("shop-web-80", "shop-web-80"),
            ("a--b..c//", "a-b-c"),
            ("--a", "a"),
            ("", ""),
            ("/ü/٣/Ⅷ", "ü-٣-Ⅷ"),
            ("e\u{301}t", "e-t"),
            ("का", "क"),
            ("\u{345}a", "a"),
        ] {
            assert_eq!(normalize(text), key, "{text:?}");
        }
    }

    #[test]
    fn keys_are_bounded_and_stay_apart() {
        let long = |end: &str| format!("{}{end}", "ü".repeat(400));
        let (a, b) = (bounded(long("a")), bounded(long("b")));
        assert!(a.len() <= LIMIT && b.len() <= LIMIT && a != b);
        let (c, d) = (with_digest(&a, "n/i"), with_digest(&b, "n/i"));
        assert!(c.len() <= LIMIT && d.len() <= LIMIT && c != d);
        assert_eq!(bounded("x".repeat(LIMIT)).len(), LIMIT);
        let key = with_digest("key", "PathPrefix(\"/\")");
        assert_eq!((key.len(), without_digest(&key)), (3 + SUFFIX, Some("key")));
        assert_eq!(without_digest("key-80"), None);
    }

    #[test]
    fn digest_is_the_start_of_sha256() {
        assert_eq!(digest("abc"), "ba7816bf8f01cfea4141");
    }
}
