//! Requests with a deadline after which the API server itself drops them.

use std::time::Duration;

/// Adds `?timeout=`, after which the API server gives up a request and answers 504 without having written anything.
/// kube's parameters do not support it. The time counts from the arrival of the request there, so delays on the way are
/// not covered.
///
/// # Errors
/// None in practice: a URI from kube stays valid with one more parameter.
pub fn with_timeout(
    request: http::Request<Vec<u8>>,
    timeout: Duration,
) -> Result<http::Request<Vec<u8>>, http::uri::InvalidUri> {
    let (mut parts, body) = request.into_parts();
    let uri = parts.uri.to_string();
    let joint = match uri.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    parts.uri = format!("{uri}{joint}timeout={}ms", timeout.as_millis()).parse()?;
    Ok(http::Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_joins_whatever_is_there() {
        for (uri, wanted) in [
            ("/a/b", "/a/b?timeout=2000ms"),
            ("/a/b?", "/a/b?timeout=2000ms"),
            ("/a/b?&", "/a/b?&timeout=2000ms"),
            ("/a/b?force=true", "/a/b?force=true&timeout=2000ms"),
        ] {
            let request = http::Request::put(uri).body(b"x".to_vec()).unwrap();
            let request = with_timeout(request, Duration::from_secs(2)).unwrap();
            assert_eq!(request.uri().to_string(), wanted);
            assert_eq!((request.method().as_str(), request.body().as_slice()), ("PUT", b"x".as_slice()));
        }
    }
}
