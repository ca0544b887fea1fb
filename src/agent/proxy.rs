//! Traefik's API: which generation does it serve?

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::watch;

use crate::kubernetes::with_causes;

/// An answer takes longer only where Traefik is busy with a new configuration.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The answer about one middleware is a few hundred bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// How often Traefik is asked while it is likely to be loading: at first, and at the least. Each question costs both sides
/// CPU, and a large routing takes seconds.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(500);

/// How often it is asked when all is well, to notice that it was started anew.
const CALM: Duration = Duration::from_secs(2);

/// Where Traefik's API is, and the connection to it.
#[derive(Clone, Debug)]
pub struct TraefikApi {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl TraefikApi {
    /// Reads `http://HOST:PORT`, or with the path of `api.basePath`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address of Traefik's API; write it as http://127.0.0.1:8080");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
        if !plain || uri.query().is_some() || text.contains('@') {
            return Err(wrong());
        }
        let base = text.trim_end_matches('/').to_owned();
        Ok(Self { base, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// The path prefix that a middleware adds; `None` where Traefik has no such middleware.
    async fn prefix(&self, middleware: &str) -> Result<Option<String>, String> {
        tokio::time::timeout(ANSWER_WITHIN, self.ask(middleware))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}")))
    }

    async fn ask(&self, middleware: &str) -> Result<Option<String>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Middleware {
            add_prefix: AddPrefix,
        }
        #[derive(Deserialize)]
        struct AddPrefix {
            prefix: String,
        }
        let Some(body) = self.get(&format!("/api/http/middlewares/{middleware}"), ANSWER_LIMIT).await? else {
            return Ok(None);
        };
        let middleware: Middleware = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(Some(middleware.add_prefix.prefix))
    }

    /// The answer to a GET, of at most `limit` bytes; `None` where it is 404.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Option<Bytes>, String> {
        let uri = format!("{}{path}", self.base);
        let uri: Uri = uri.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let answer = self.client.get(uri).await.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        // Read to its end whatever it is, so that the connection can be used again.
        let body = Limited::new(answer.into_body(), limit).collect().await;
        match status.as_u16() {
            404 => Ok(None),
            200 => Ok(Some(body.map_err(|error| error.to_string())?.to_bytes())),
            other => Err(format!("it answered {other}")),
        }
    }
}

/// What marks the generation that Traefik should load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The middleware, with the provider's name behind `@`.
    pub middleware: String,
    pub prefix: String,
    pub since: Instant,
}

/// What Traefik was last found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It does not answer: it has not started, or starts anew.
    Down(String),
    /// It answers and has not loaded what is wanted.
    Behind,
    /// It has loaded what this prefix marks.
    Loaded(String),
}

/// Asks for as long as somebody listens.
pub async fn follow(
    api: TraefikApi,
    mut wanted: watch::Receiver<Option<Marker>>,
    found: watch::Sender<Proxy>,
) {
    let mut took = Duration::ZERO;
    loop {
        let Some(mark) = wanted.borrow_and_update().clone() else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let state = match api.prefix(&mark.middleware).await {
            Ok(Some(prefix)) if prefix == mark.prefix => Proxy::Loaded(prefix),
            Ok(_) => Proxy::Behind,
            Err(reason) => Proxy::Down(reason),
        };
        let pause = match &state {
            Proxy::Loaded(_) => CALM,
            _ => pause(mark.since.elapsed(), took),
        };
        found.send_if_modified(|last| {
            *last != state && {
                if matches!(state, Proxy::Loaded(_)) {
                    took = mark.since.elapsed();
                }
                *last = state;
                true
            }
        });
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How long to wait for a generation that was handed on so long ago, where the last one `took` so long: nothing is expected
/// in the first half of that, and after it an eighth of the time that has gone by makes little difference.
fn pause(elapsed: Duration, took: Duration) -> Duration {
    match (took / 2).checked_sub(elapsed) {
        Some(rest) => rest.clamp(SOON, CALM),
        None => (elapsed / 8).clamp(SOON, LATER),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;

    #[test]
    fn addresses() {
        let api = TraefikApi::parse("http://[::1]:9000/base/").unwrap();
        assert_eq!(api.base, "http://[::1]:9000/base");
        assert_eq!(TraefikApi::parse("http://localhost").unwrap().base, "http://localhost");
        for wrong in
            ["https://127.0.0.1:8080", "127.0.0.1:8080", "http://", "http://a/?x", "http://u:p@a", ""]
        {
            assert!(TraefikApi::parse(wrong).unwrap_err().contains("http://127.0.0.1:8080"), "{wrong}");
        }
    }

    #[test]
    fn a_large_routing_is_asked_for_a_few_times() {
        let questions = |loads_within: u64, took: u64| {
            let (mut elapsed, loads_within) = (Duration::ZERO, Duration::from_millis(loads_within));
            let mut count = 1;
            while elapsed < loads_within {
                elapsed += pause(elapsed, Duration::from_millis(took));
                count += 1;
            }
            (count, elapsed.saturating_sub(loads_within))
        };
        // The first of all, one as the last, and one that is much faster than the last.
        let late = Duration::from_millis(230);
        assert!(matches!(questions(1_800, 0), (20..=24, after) if after < late));
        assert!(matches!(questions(1_800, 1_800), (7..=9, after) if after < late));
        assert_eq!(questions(100, 60_000), (2, CALM - Duration::from_millis(100)));
        assert!(matches!(questions(100, 100), (2..=3, after) if after < SOON));
    }

    #[tokio::test]
    async fn it_says_what_is_loaded() {
        let answer = r#"{"addPrefix":{"prefix":"/7/41/abc"},"status":"enabled","name":"waybill-7-41@file"}"#;
        let large = "x".repeat(ANSWER_LIMIT + 1);
        let app = Router::new()
            .route("/api/http/middlewares/waybill-7-41@file", get(move || async move { answer }))
            .route("/api/http/middlewares/large", get(move || async move { large }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let api = TraefikApi::parse(&format!("http://{address}")).unwrap();
        assert_eq!(api.prefix("waybill-7-41@file").await, Ok(Some("/7/41/abc".to_owned())));
        assert_eq!(api.prefix("waybill-7-42@file").await, Ok(None));
        assert!(api.prefix("large").await.is_err());
        server.abort();
        let _ = server.await;
        assert!(api.prefix("waybill-7-41@file").await.is_err());
    }
}
