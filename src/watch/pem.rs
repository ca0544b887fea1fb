//! Finds PEM blocks in the data of Secrets.
//!
//! Only complete blocks of the kinds that the proxy loads are published. Tools write text around them, and people put a
//! private key beside a certificate, which is published where no key may be seen.

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The certificates in a text; empty if there are none.
pub fn certificates(text: &str) -> String {
    blocks(text, |label| label == "CERTIFICATE")
}

/// The private keys in a text; empty if there are none. The labels are those of Go's `tls.X509KeyPair`.
pub fn private_keys(text: &str) -> String {
    blocks(text, |label| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY"))
}

/// The blocks with a wanted label. Their content is not checked.
fn blocks(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let label = |line: &'_ str, mark: &str| -> Option<String> {
        Some(line.trim().strip_prefix(mark)?.strip_suffix(DASHES)?.to_owned())
    };
    let mut found = String::new();
    let mut open: Option<(String, usize)> = None;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        let start = position + line.len() - line.trim_start().len();
        position += line.len();
        if let Some(label) = label(line, BEGIN) {
            open = Some((label, start));
        } else if let Some(ended) = label(line, END)
            && let Some((label, start)) = open.take()
            && label == ended
            && wanted(&label)
        {
            found.push_str(&text[start..position]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----\n")
    }

    #[test]
    fn blocks_stay_as_they_are() {
        let certificate = block("CERTIFICATE");
        for text in [certificate.clone(), certificate.repeat(2), certificate.replace('\n', "\r\n")] {
            assert_eq!(certificates(&text), text);
        }
        let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----";
        assert_eq!(certificates(empty), empty);
        for kind in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "] {
            let key = block(&format!("{kind}PRIVATE KEY"));
            assert_eq!(private_keys(&key), key);
        }
    }

    #[test]
    fn text_around_blocks_goes() {
        let certificate = block("CERTIFICATE");
        let key = block("PRIVATE KEY");
        let text = format!(
            "Bag Attributes\n  friendlyName: web\n{certificate}subject=web -----BEGIN\n{key}\n \t{certificate}-- end"
        );
        assert_eq!(certificates(&text), certificate.repeat(2));
        assert_eq!(private_keys(&text), key);
    }

    #[test]
    fn what_is_no_whole_block_of_the_right_kind_goes() {
        let certificate = block("CERTIFICATE");
        let key = block("PRIVATE KEY").replace("AA==", "hidden");
        for text in [
            key.clone(),
            key.replace('\n', " "),
            key.replace("-----END PRIVATE KEY-----\n", ""),
            format!("-----BEGIN CERTIFICATE-----\n{key}-----END CERTIFICATE-----\n"),
            format!("-----BEGIN CERTIFICATE-----\n{}", key.replace("BEGIN", "begin")),
            format!("-----BEGIN PRIVATE KEY-----\nhidden\n{certificate}"),
            "/etc/ssl/hidden".to_owned(),
            block("TRUSTED CERTIFICATE"),
            block("PUBLIC KEY"),
        ] {
            let kept = certificates(&text);
            assert!(kept.is_empty() || kept == certificate, "{text:?}: {kept:?}");
        }
        for text in [certificate, block("PRIVATE KEYS"), block("XPRIVATE KEY"), "/etc/key".to_owned()] {
            assert_eq!(private_keys(&text), "", "{text:?}");
        }
    }
}
