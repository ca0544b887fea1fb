//! Checks each type of value: text in, a typed value or a fault out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use http::Uri;

use crate::translate::annotation::go_boolean;

pub mod duration;
pub mod name;

/// What is wrong with a value, and the remedy. The rest of a fault is known where it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub wrong: String,
    pub remedy: String,
}

impl Wrong {
    /// Puts the two together.
    pub fn new(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), remedy: remedy.into() }
    }
}

/// The result of a check.
pub type Checked<T> = Result<T, Wrong>;

/// A boolean in the forms that annotations take.
pub fn boolean(text: &str) -> Checked<bool> {
    go_boolean(text).ok_or_else(|| Wrong::new("not a boolean", "write true or false"))
}

/// `on` or `off`, in any case. Writers of YAML 1.1 turn these into `true` and `false`.
pub fn on_off(text: &str) -> Checked<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(Wrong::new("not a switch", "write on or off")),
    }
}

/// The position of a word among several, in any case.
pub fn choice(words: &[&str], text: &str) -> Checked<usize> {
    words
        .iter()
        .position(|word| word.eq_ignore_ascii_case(text))
        .ok_or_else(|| Wrong::new("not one of the allowed values", format!("write {}", either(words))))
}

/// `a`, `a or b`, `a, b or c`.
pub fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

/// A whole number from `least` to `most`.
pub fn number(least: u32, most: u32, text: &str) -> Checked<u32> {
    let good = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if good && (least..=most).contains(&number) => Ok(number),
        _ => Err(Wrong::new(
            "not a number in the allowed range",
            format!("write a whole number from {least} to {most}"),
        )),
    }
}

/// A percentage, `50` or `50%`, from 0 to 100.
pub fn percent(text: &str) -> Checked<u8> {
    number(0, 100, text.strip_suffix('%').unwrap_or(text))
        .map(|number| number as u8)
        .map_err(|_| Wrong::new("not a percentage", "write a whole number from 0 to 100, with or without %"))
}

/// A number of bytes above 0: plain, with a binary suffix (`Ki`, `Mi`, `Gi`, `Ti`) or a decimal one (`k`, `M`, `G`, `T`).
pub fn size(text: &str) -> Checked<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => Some(1),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        "Ti" => Some(1 << 40),
        "k" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        "T" => Some(1_000_000_000_000),
        _ => None,
    };
    match factor.and_then(|factor: u64| digits.parse::<u64>().ok()?.checked_mul(factor)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(Wrong::new("not a size", "write a number of bytes above 0, such as 1Mi, 512Ki or 65536")),
    }
}

/// One IP address; empty means none.
pub fn ip(text: &str) -> Checked<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Wrong::new("not an IP address", "write one IPv4 or IPv6 address, such as 192.0.2.1"))
}

/// The URL of an API server; empty means none.
pub fn url(text: &str) -> Checked<Option<Uri>> {
    if text.is_empty() {
        return Ok(None);
    }
    let remedy = "write http:// or https://, a host and where needed a port, such as https://10.0.0.1:6443";
    let uri: Uri = text.parse().map_err(|_| Wrong::new("not a URL", remedy))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Wrong::new("not an http or https URL", remedy));
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(Wrong::new("a URL without a host", remedy));
    };
    if authority.as_str().contains('@') {
        return Err(Wrong::new(
            "a URL with a user in it",
            "leave the user out; a bearer token goes into providers.kubernetesIngress.token",
        ));
    }
    // The parser treats an invalid port, such as in `host:` or `host:99999`, as part of the host.
    let port = authority.as_str().rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(Wrong::new("a URL with a bad port", remedy));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(Wrong::new("a URL with a query or a fragment", remedy));
    }
    Ok(Some(uri))
}

/// The URL of a collector for traces; empty means none.
pub fn otlp(text: &str) -> Checked<Option<Uri>> {
    let remedy = "write http://, a host and a port, such as http://otel-collector:4318";
    let Some(uri) = url(text).map_err(|wrong| Wrong::new(wrong.wrong, remedy))? else { return Ok(None) };
    if uri.scheme_str() != Some("http") {
        return Err(Wrong::new(
            "not an http URL",
            format!("{remedy}; a collector in the cluster can forward over TLS"),
        ));
    }
    let path = uri.path().trim_end_matches('/');
    let path = if path.is_empty() { "/v1/traces" } else { path };
    let whole = Uri::builder().scheme("http").path_and_query(path);
    let whole =
        uri.authority().map_or(Uri::builder(), |authority| whole.authority(authority.clone())).build();
    whole.map(Some).map_err(|_| Wrong::new("not a URL", remedy))
}

/// An address to listen on: the sockets to try in turn until one can be bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    sockets: Vec<SocketAddr>,
}

impl ListenAddress {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The sockets to try in turn: `:8080` means every address of both IP versions, or without IPv6 every IPv4 address.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }
}

/// An address to listen on: `:port`, `localhost:port`, `address:port` or `[address]:port`. Port 0 lets the system choose.
pub fn listen(text: &str) -> Checked<ListenAddress> {
    let sockets = text.rsplit_once(':').and_then(|(host, port)| {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|_| digits)?;
        let hosts: Vec<IpAddr> = match host {
            "" => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
            "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            host => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(host) => vec![host.parse::<Ipv6Addr>().ok()?.into()],
                None => vec![host.parse::<Ipv4Addr>().ok()?.into()],
            },
        };
        Some(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
    });
    match sockets {
        Some(sockets) => Ok(ListenAddress { text: text.to_owned(), sockets }),
        None => Err(Wrong::new("not an address to listen on", "write :8080, 127.0.0.1:8080 or [::1]:8080")),
    }
}

/// The path of a file; empty means none.
pub fn path(text: &str) -> Checked<Option<PathBuf>> {
    match text {
        "" => Ok(None),
        text if text.contains('\0') => Err(Wrong::new("not a path", "write the path of a file")),
        text => Ok(Some(PathBuf::from(text))),
    }
}

/// A short text for comparisons and log lines.
pub fn text(text: &str) -> Checked<String> {
    if text.chars().any(char::is_control) || text.len() > 1024 {
        Err(Wrong::new("not a plain text", "write at most 1024 bytes without control characters"))
    } else {
        Ok(text.to_owned())
    }
}

/// A bearer token, or the path of a file that contains one, trimmed; empty means none.
pub fn token(text: &str) -> Checked<Option<&str>> {
    let text = text.trim();
    if text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err(Wrong::new(
            "not a bearer token or a path",
            "give the token in one line or the path of a file that holds it",
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2", "no"] {
            assert!(boolean(text).is_err(), "{text}");
        }
        for (text, value) in [("on", true), ("OFF", false), ("true", true), ("False", false)] {
            assert_eq!(on_off(text), Ok(value), "{text}");
        }
        assert!(on_off("1").is_err());
    }

    #[test]
    fn numbers_sizes_and_percentages() {
        assert_eq!(number(1, 10, "10"), Ok(10));
        for bad in ["", "0", "11", "+3", "1.5", "99999999999"] {
            assert!(number(1, 10, bad).is_err(), "{bad}");
        }
        for (text, bytes) in
            [("1Mi", 1 << 20), ("512Ki", 512 << 10), ("7", 7), ("2k", 2_000), ("1Ti", 1 << 40)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0Mi", "Mi", "1mi", "1 Mi", "1.5Mi", "-1", "99999999999Ti"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for (text, value) in [("0", 0), ("50%", 50), ("100", 100)] {
            assert_eq!(percent(text), Ok(value), "{text}");
        }
        for bad in ["", "%", "101", "50%%", "-1", "2.5"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_name_an_api_server() {
        assert_eq!(url(""), Ok(None));
        for good in [
            "http://localhost:8001",
            "https://10.0.0.1:6443",
            "https://[::1]:6443",
            "https://r/k8s/clusters/c",
        ] {
            assert!(url(good).is_ok_and(|uri| uri.is_some()), "{good}");
        }
        for (bad, wrong) in [
            ("localhost:8001", "not an http or https URL"),
            ("/x", "not an http or https URL"),
            ("ftp://x", "not an http or https URL"),
            ("https://", "not a URL"),
            ("https://u:p@x", "a URL with a user in it"),
            ("https://x:0", "a URL with a bad port"),
            ("https://x:99999", "a URL with a bad port"),
            ("https://x?y", "a URL with a query or a fragment"),
            ("https://x/#y", "a URL with a query or a fragment"),
            ("http://a b", "not a URL"),
        ] {
            assert_eq!(url(bad).unwrap_err().wrong, wrong, "{bad}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        let sockets =
            |text| listen(text).unwrap().sockets().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(sockets(":8080"), ["[::]:8080", "0.0.0.0:8080"]);
        assert_eq!(sockets("localhost:0"), ["127.0.0.1:0", "[::1]:0"]);
        assert_eq!(sockets("[::1]:9"), ["[::1]:9"]);
        assert_eq!(sockets("10.0.0.1:9"), ["10.0.0.1:9"]);
        for bad in ["", "8080", ":", ":x", ":+80", ":65536", "host:80", "::1:80", "[10.0.0.1]:80"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_are_one_line() {
        assert_eq!(token(" abc\n"), Ok(Some("abc")));
        assert_eq!(token(" "), Ok(None));
        assert!(token("a\nb").is_err());
        assert!(token("a\u{fffd}").is_err());
    }
}
