//! Turns a URL into the values by which Traefik routes, after everything that its entry points do to a path.
//!
//! Sources: `normalizePath` and `sanitizePath` (Traefik's pkg/server), `withRoutingPath` (pkg/muxer/http),
//! `parseHost` (pkg/middlewares/requestdecorator), and net/url of Go.

use std::fmt::Write as _;
use std::net::IpAddr;

/// A request as Traefik's rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRequest {
    pub method: String,
    pub https: bool,
    /// The Host header of the request.
    pub host_header: String,
    /// The host for rules: in lower case, without a port.
    pub host: String,
    /// The path of the request.
    pub sent_path: String,
    /// The path for rules.
    pub path: Vec<u8>,
    /// The part after the question mark, decoded.
    pub query: Vec<(String, String)>,
    /// Headers, with names in Go's spelling.
    pub headers: Vec<(String, String)>,
    pub from: Option<IpAddr>,
}

/// A request that can't be sent, or that Traefik answers without evaluating a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebRequestError {
    #[error("{0:?} has no scheme: write https://{0} or http://{0}")]
    NoScheme(String),
    #[error("{0:?} is not a scheme that Traefik routes by host and path: write http or https")]
    Scheme(String),
    #[error("the URL has no host: write it as https://shop.example/path")]
    NoHost,
    #[error("host {0:?}: {1}")]
    Host(String, &'static str),
    #[error("method {0:?}: write a word such as GET")]
    Method(String),
    #[error("header {0:?}: write it as 'Name: value'")]
    Header(String),
    #[error("Traefik answers 400: the path {path:?} has {what}")]
    BadPath { path: String, what: &'static str },
}

impl WebRequest {
    /// A request to a URL. A header `Host` replaces the URL's host.
    ///
    /// # Errors
    /// See [`WebRequestError`].
    pub fn new(
        url: &str,
        method: &str,
        headers: &[String],
        from: Option<IpAddr>,
    ) -> Result<Self, WebRequestError> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| WebRequestError::NoScheme(url.to_owned()))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(WebRequestError::Scheme(scheme.to_owned())),
        };
        if !is_token(method) {
            return Err(WebRequestError::Method(method.to_owned()));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut host_header = authority.rsplit('@').next().unwrap_or_default().to_owned();
        if host_header.is_empty() {
            return Err(WebRequestError::NoHost);
        }
        let mut named = Vec::new();
        for header in headers {
            let pair = header.split_once(':').filter(|(name, _)| is_token(name.trim()));
            let (name, value) = pair.ok_or_else(|| WebRequestError::Header(header.clone()))?;
            let (name, value) = (canonical_header(name.trim()), value.trim().to_owned());
            match name.as_str() {
                "Host" => host_header = value,
                _ => named.push((name, value)),
            }
        }
        if !host_header.is_ascii() {
            let remedy = "write it as browsers send it, in punycode (xn--…)";
            return Err(WebRequestError::Host(host_header, remedy));
        }
        if host_header.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return Err(WebRequestError::Host(host_header, "leave out blanks"));
        }
        let sent_path = if path.is_empty() { "/".to_owned() } else { encoded(path) };
        Ok(Self {
            method: method.to_owned(),
            https,
            host: without_port(&host_header).trim().to_ascii_lowercase(),
            host_header,
            path: routing_path(&sent_path)?,
            sent_path,
            query: form_urlencoded::parse(query.replace(';', "&").as_bytes()).into_owned().collect(),
            headers: named,
            from,
        })
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The name of a header in Go's spelling: a capital at the beginning and after each dash.
pub fn canonical_header(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|character| {
            let written = if upper { character.to_ascii_uppercase() } else { character.to_ascii_lowercase() };
            upper = character == '-';
            written
        })
        .collect()
}

/// A host without its port, as in Go's `SplitHostPort`; unchanged if that refuses it.
pub fn without_port(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return match inner.split_once(']') {
            Some((address, "")) => address,
            Some((address, port)) if port.starts_with(':') && !port[1..].contains([':', '[', ']']) => address,
            _ => host,
        };
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains([':', '[', ']']) && !name.contains(']') => name,
        _ => host,
    }
}

/// A path as a browser sends it: characters that a URL must not contain are encoded.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>`{}|\\^".contains(&byte) => out.push(char::from(byte)),
            _ => push_encoded(&mut out, byte),
        }
    }
    out
}

fn push_encoded(out: &mut String, byte: u8) {
    let _ = write!(out, "%{byte:02X}");
}

/// The path for rules.
fn routing_path(sent: &str) -> Result<Vec<u8>, WebRequestError> {
    let bad = |what| WebRequestError::BadPath { path: sent.to_owned(), what };
    let decoded = decode(sent, |_| true).ok_or_else(|| bad("a % without two hexadecimal digits"))?;
    let mut escaped = escaped_path(sent, &decoded);
    if escaped.contains('#') {
        return Err(bad("a #"));
    }
    // Characters that need no encoding are decoded, and hexadecimal digits are in upper case from here on.
    escaped = normalized(&escaped);
    let cleaned = cleaned(&escaped);
    let path = decode(&cleaned, |_| true).ok_or_else(|| bad("a % without two hexadecimal digits"))?;
    let escaped = escaped_path(&cleaned, &path);
    // Reserved characters stay encoded, because decoding them would change the meaning of the URL.
    decode(&escaped, |byte| !b":/?#[]@!$&'()*+,;=%".contains(&byte))
        .ok_or_else(|| bad("a % without two hexadecimal digits"))
}

/// Go's `EscapedPath`: the written path if it is valid, otherwise encoded again.
fn escaped_path(written: &str, decoded: &[u8]) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if written.bytes().all(|byte| unreserved(byte) || b"!$&'()*+,;=:@[]%/".contains(&byte)) {
        return written.to_owned();
    }
    let mut out = String::with_capacity(decoded.len());
    for byte in decoded {
        match byte {
            byte if unreserved(*byte) || b"$&+,/:;=@".contains(byte) => out.push(char::from(*byte)),
            byte => push_encoded(&mut out, *byte),
        }
    }
    out
}

/// Decodes the encoded bytes that `which` selects; `None` if a `%` is not followed by two digits.
fn decode(text: &str, which: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3);
        match (byte, digits) {
            (b'%', digits) => {
                let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                let value = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                if which(value) {
                    out.push(value)
                } else {
                    out.extend_from_slice(&bytes[at..at + 3])
                }
                at += 3;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Some(out)
}

fn normalized(escaped: &str) -> String {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let value = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                out.push(char::from(byte));
            }
            Some(byte) => push_encoded(&mut out, byte),
            None => {}
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    out + rest
}

/// Go's `path.Clean`, except that a slash at the end is kept.
fn cleaned(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out: String = parts.iter().flat_map(|part| ["/", part]).collect();
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> Result<String, WebRequestError> {
        let request = WebRequest::new(url, "GET", &[], None)?;
        Ok(String::from_utf8_lossy(&request.path).into_owned())
    }

    #[test]
    fn paths_are_what_traefik_makes_of_them() {
        for (sent, routed) in [
            ("", "/"),
            ("/a//b/./c/../d", "/a/b/d"),
            ("/a/", "/a/"),
            ("/a/..", "/"),
            ("/a/.", "/a"),
            ("//", "/"),
            ("/%61%2fb", "/a%2Fb"),
            ("/a%2E%2E/b", "/a../b"),
            ("/a/%2e%2e/b", "/b"),
            ("/foo%20bar", "/foo bar"),
            ("/foo bar?x", "/foo bar"),
            ("/caf\u{e9}", "/caf\u{e9}"),
            ("/a%25", "/a%25"),
            ("/(a)*", "/(a)*"),
            ("/a;b", "/a;b"),
        ] {
            assert_eq!(path(&format!("http://h{sent}")).as_deref(), Ok(routed), "{sent}");
        }
        assert!(path("http://h/a%2").is_err() && path("http://h/%zz").is_err());
    }

    #[test]
    fn hosts_lose_their_port() {
        for (host, name) in [
            ("a.b", "a.b"),
            ("A.b:80", "a.b"),
            ("user:pass@a.b", "a.b"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("a.b:", "a.b"),
        ] {
            let request = WebRequest::new(&format!("http://{host}/"), "GET", &[], None).unwrap();
            assert_eq!(request.host, name);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for url in
            ["shop.example/cart", "https:///cart", "ftp://a", "https://caf\u{e9}.example", "http://a b/", ""]
        {
            assert!(WebRequest::new(url, "GET", &[], None).is_err(), "{url}");
        }
        assert!(WebRequest::new("http://a", "G T", &[], None).is_err());
        assert!(WebRequest::new("http://a", "GET", &["nothing".to_owned()], None).is_err());
        let header = ["hOST: b:1".to_owned(), "x-y: z".to_owned()];
        let request = WebRequest::new("http://a", "GET", &header, None).unwrap();
        assert_eq!(request.host, "b");
        assert_eq!(request.headers, [("X-Y".to_owned(), "z".to_owned())]);
    }
}
