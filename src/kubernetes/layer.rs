//! A layer for all API requests: adds the token and counts requests.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use tower::{BoxError, Layer, Service};

use super::watch::{self, Listened, Listener};
use crate::metrics::{Code, Method, Metrics};

/// How often a token's file is read again, as in client-go.
const REREAD: Duration = Duration::from_secs(60);

/// The API server starts to answer a watch at once. If a watch was sent over an idle connection that had died, it is
/// given up after this time and tried over another one. The client's read timeout would notice much later.
const OPENING: Duration = Duration::from_secs(10);

/// A watch was not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", OPENING.as_secs())]
struct NoAnswer;

/// A bearer token, or the path of a file that contains one. It is never shown, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token, or the path of a file that contains one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The file that the text names, if it is a path.
    pub(super) fn file(&self) -> Option<&Path> {
        let path = Path::new(&self.0);
        path.is_file().then_some(path)
    }

    /// The header for it.
    fn header(&self) -> Result<HeaderValue, TokenError> {
        let text = self.0.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let header = HeaderValue::try_from(format!("Bearer {text}"));
        let mut header = header.map_err(|_| TokenError::Characters)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// Errors of tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Read(#[source] std::io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it contains characters that a token cannot have, such as a line break")]
    Characters,
}

/// Sets the `Authorization` header.
///
/// kube's own reader of token files sends the last line break of a file, which makes the header invalid, and keeps
/// using a rotated token for up to a minute. Here, a 401 makes the next request read the file again.
#[derive(Clone)]
pub(super) struct Bearer(Arc<TokenSource>);

struct TokenSource {
    /// `None` for a token that never changes.
    path: Option<PathBuf>,
    held: Mutex<HeldHeader>,
}

struct HeldHeader {
    header: HeaderValue,
    read_at: Option<Instant>,
}

impl Bearer {
    /// A token that never changes.
    pub fn text(token: &Token) -> Result<Self, TokenError> {
        Ok(Self(Arc::new(TokenSource { path: None, held: Mutex::new(HeldHeader::new(token.header()?)) })))
    }

    /// A token from a file, read again every minute and after a 401.
    pub fn file(path: &Path) -> Result<Self, TokenError> {
        let header = read(path)?;
        Ok(Self(Arc::new(TokenSource {
            path: Some(path.to_owned()),
            held: Mutex::new(HeldHeader::new(header)),
        })))
    }

    fn header(&self) -> HeaderValue {
        let mut held = self.0.held.lock();
        let fresh = held.read_at.is_some_and(|read_at| read_at.elapsed() < REREAD);
        if let Some(path) = self.0.path.as_deref().filter(|_| !fresh) {
            match read(path) {
                Ok(header) => held.header = header,
                // Some remove the file after it was read; the token may still be valid.
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the token's file can't be read again")
                }
            }
            held.read_at = Some(Instant::now());
        }
        held.header.clone()
    }

    fn refused(&self) {
        self.0.held.lock().read_at = None;
    }
}

impl HeldHeader {
    fn new(header: HeaderValue) -> Self {
        Self { header, read_at: Some(Instant::now()) }
    }
}

fn read(path: &Path) -> Result<HeaderValue, TokenError> {
    Token(std::fs::read_to_string(path).map_err(TokenError::Read)?).header()
}

/// Counts requests and adds the token, if there is one.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub metrics: Metrics,
    pub bearer: Option<Bearer>,
}

impl<S> Layer<S> for Outgoing {
    type Service = OutgoingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OutgoingService { inner, outgoing: self.clone() }
    }
}

/// See [`Outgoing`].
pub(super) struct OutgoingService<S> {
    inner: S,
    outgoing: Outgoing,
}

impl<S, B> Service<Request<Body>> for OutgoingService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<Listened<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Outgoing { metrics, bearer } = self.outgoing.clone();
        if let Some(bearer) = &bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.header());
        }
        let method = match *request.method() {
            http::Method::GET => Method::Get,
            http::Method::POST => Method::Post,
            http::Method::PUT => Method::Put,
            http::Method::PATCH => Method::Patch,
            http::Method::DELETE => Method::Delete,
            _ => Method::Other,
        };
        let watched = if method == Method::Get { watch::of(request.uri()) } else { None };
        let mut counted = Counted { metrics, method, code: Code::NoAnswer };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = if watched.is_some() {
                tokio::time::timeout(OPENING, answer).await.map_err(|_| NoAnswer)?
            } else {
                answer.await
            };
            let answer = answer.map_err(Into::into)?;
            counted.answered(answer.status());
            if let (StatusCode::UNAUTHORIZED, Some(bearer)) = (answer.status(), bearer) {
                bearer.refused();
            }
            let listener = watched.filter(|_| answer.status().is_success());
            let listener = listener.map(|(kind, path)| Listener::opened(&counted.metrics, kind, path));
            let broken = counted.metrics.answers_broken.clone();
            Ok(answer.map(|body| Listened::new(body, listener, broken, method)))
        })
    }
}

/// Counts when it is dropped, so that abandoned requests are counted too.
struct Counted {
    metrics: Metrics,
    method: Method,
    code: Code,
}

impl Counted {
    fn answered(&mut self, status: StatusCode) {
        self.code = Code::new(status.as_u16());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.api_requests.inc(self.code, self.method);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        assert!(!format!("{:?}", Token::new("hush")).contains("hush"));
        let header = Token::new("hush").header().unwrap();
        assert!(!format!("{header:?}").contains("hush"));
    }

    #[test]
    fn a_token_that_can_not_be_sent_is_refused_without_showing_it() {
        for (bad, wanted) in
            [("", "empty"), (" \n", "empty"), ("a\nhush", "line break"), ("hush\u{7f}", "line break")]
        {
            let Err(error) = Bearer::text(&Token::new(bad)) else { unreachable!("{bad:?} was taken") };
            assert!(error.to_string().contains(wanted), "{error}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_rotated_file_is_read_again_after_a_401() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let metrics = Metrics::new("x").unwrap();
        let outgoing = Outgoing { metrics: metrics.clone(), bearer: Some(Bearer::file(&path).unwrap()) };
        // A server that only takes the second token.
        let mut service = outgoing.layer(service_fn(|request: Request<Body>| async move {
            let right = request.headers()[AUTHORIZATION] == "Bearer second";
            let status = if right { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).unwrap())
        }));
        let mut send = async || service.call(Request::new(Body::empty())).await.unwrap().status();

        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(send().await, StatusCode::UNAUTHORIZED, "within the minute the old one is sent");
        assert_eq!(send().await, StatusCode::OK);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(send().await, StatusCode::OK, "the last one is kept when the file is gone");
        assert_eq!(metrics.api_requests.get(Code::Ok, Method::Get), 2);
        assert_eq!(metrics.api_requests.get(Code::Unauthorized, Method::Get), 1);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_counted_once() {
        use http_body_util::BodyExt as _;
        let metrics = Metrics::new("x").unwrap();
        for (whole, count) in [(true, 0), (false, 1)] {
            let mut service = Outgoing { metrics: metrics.clone(), bearer: None }.layer(service_fn(
                move |_: Request<Body>| async move {
                    let last =
                        if whole { Ok(bytes::Bytes::from("}")) } else { Err(std::io::Error::other("cut")) };
                    let frames = [Ok(bytes::Bytes::from("{")), last];
                    let body = http_body_util::StreamBody::new(futures::stream::iter(
                        frames.map(|frame| frame.map(http_body::Frame::data)),
                    ));
                    Ok::<_, Infallible>(Response::new(body))
                },
            ));
            let answer = service.call(Request::put("/").body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.into_body().collect().await.is_ok(), whole);
            assert_eq!(metrics.answers_broken.get(Method::Put), count);
        }
        assert_eq!(metrics.api_requests.get(Code::Ok, Method::Put), 2);
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_counts_as_unanswered() {
        let metrics = Metrics::new("x").unwrap();
        let mut service =
            Outgoing { metrics: metrics.clone(), bearer: None }.layer(service_fn(|_: Request<Body>| {
                std::future::pending::<Result<Response<Body>, Infallible>>()
            }));
        drop(service.call(Request::put("/").body(Body::empty()).unwrap()));
        assert_eq!(metrics.api_requests.get(Code::NoAnswer, Method::Put), 1);
    }
}
