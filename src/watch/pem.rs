//! PEM text as it is found in the data of Secrets.

use std::borrow::Cow;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
/// How the label of every private key ends, of whatever kind it is.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The text without its private keys. A certificate is published and printed where no key may be seen, and people put
/// a key beside it, or the key alone in its place. A key without an end goes on to the end of the text.
pub fn without_private_keys(text: &str) -> Cow<'_, str> {
    if !text.contains(PRIVATE_KEY) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut within = false;
    for line in text.split_inclusive('\n') {
        // A lone line may begin one block and end another: then nothing of it is kept.
        within |= line.contains(BEGIN) && line.contains(PRIVATE_KEY);
        if !within {
            kept.push_str(line);
        }
        let ends = line.rfind(END).is_some_and(|end| {
            line[end..].contains(PRIVATE_KEY) && line.rfind(BEGIN).is_none_or(|begin| begin < end)
        });
        within &= !ends;
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRT: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    fn key(kind: &str) -> String {
        format!("-----BEGIN {kind}PRIVATE KEY-----\nsecret\n-----END {kind}PRIVATE KEY-----\n")
    }

    #[test]
    fn certificates_stay_as_they_are() {
        let text = format!("subject=web\n{CRT}\r\n{CRT}");
        assert!(matches!(without_private_keys(&text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn keys_go_wherever_they_are() {
        for kind in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "] {
            let key = key(kind);
            for text in [format!("{key}{CRT}"), format!("{CRT}{key}"), format!("{CRT}{key}{CRT}")] {
                let kept = without_private_keys(&text);
                assert_eq!(kept, text.replace(&key, ""), "{text}");
            }
            assert_eq!(without_private_keys(&key), "");
        }
    }

    #[test]
    fn a_key_that_is_badly_written_goes_too() {
        let unended = format!("{CRT}-----BEGIN PRIVATE KEY-----\nsecret");
        assert_eq!(without_private_keys(&unended), CRT);
        for text in [
            key("").replace('\n', "\r\n"),
            key("").replace('\n', " "),
            key("").replace('\n', " ") + &key("RSA "),
            format!("  {}", key("")),
        ] {
            assert!(!without_private_keys(&text).contains("secret"), "{text:?}");
        }
    }
}
