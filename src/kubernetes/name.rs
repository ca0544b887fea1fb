//! Names as the Kubernetes API checks them.

/// Bytes of a DNS label, of a port's name, of a label's name or value.
pub const MAX_LABEL: usize = 63;
/// Bytes of a DNS subdomain.
pub const MAX_SUBDOMAIN: usize = 253;

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, of any length.
fn is_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(inner)
}

/// A DNS label (RFC 1123): namespaces, Leases.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_part(text)
}

/// The name of a Service: a DNS label (RFC 1035) that begins with a letter.
pub fn is_service_name(text: &str) -> bool {
    is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase())
}

/// A DNS subdomain (RFC 1123) as Kubernetes checks it: one of its labels may be longer than 63 bytes.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_part)
}

/// The name of a port: at most 15 bytes, with a letter, and no `--`.
pub fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_part(text) && !text.contains("--") && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// The key of a label: a name, with the subdomain of its owner and a slash before it or not.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_qualified_name(text),
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified_name(name),
    }
}

/// The value of a label; it may be empty.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_name(text)
}

/// `[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?`, at most 63 bytes.
fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_subdomains_and_ports() {
        for good in ["a", "0", "a-b", &"x".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        for good in ["a.b", "a", &"x".repeat(253)] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.-b", "*.a", &"x".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(is_service_name("a0") && !is_service_name("0a"));
        for good in ["http", "a-1", "8080a"] {
            assert!(is_port_name(good), "{good}");
        }
        for bad in ["", "80", "a--b", "-a", "HTTP", "sixteen-letters1"] {
            assert!(!is_port_name(bad), "{bad}");
        }
    }

    #[test]
    fn keys_and_values_of_labels() {
        for good in ["app", "example.com/tier", "A_b.c-d", &"x".repeat(63)] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "-a", "UPPER.example/x", "a/b/c", "/x", "x/", &"x".repeat(64)] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("Web.1") && !is_label_value("b/c"));
    }
}
