//! Asks Traefik's API which generation it has loaded.

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

/// An answer takes longer than this only if Traefik is busy with a new configuration.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The answer about one middleware is a few hundred bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// How often Traefik is asked while it is probably loading: the first and the longest interval. Each question costs
/// both sides CPU, and a large routing takes seconds to load.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(500);

/// How often Traefik is asked if all is well, to notice a restart.
const CALM: Duration = Duration::from_secs(2);

/// The address of Traefik's API, and a connection to it.
#[derive(Clone, Debug)]
pub struct TraefikApi {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl TraefikApi {
    /// Parses `http://HOST:PORT`, or a URL with the path of `api.basePath`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an address of Traefik's API; write it as \
            http://127.0.0.1:8080"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
        if !plain || uri.query().is_some() || text.contains('@') {
            return Err(wrong());
        }
        let base = text.trim_end_matches('/').to_owned();
        Ok(Self { base, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    async fn answer(&self, middleware: &str) -> Result<TraefikAnswer, String> {
        // The start time is asked first, so the prefix is from this process or a later one.
        let answer = async {
            Ok(TraefikAnswer { started: self.started().await?, prefix: self.prefix(middleware).await? })
        };
        tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}")))
    }

    async fn started(&self) -> Result<Option<String>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            start_date: String,
        }
        let body = self.get("/api/version", ANSWER_LIMIT).await?;
        Ok(body.and_then(|body| Some(serde_json::from_slice::<Version>(&body).ok()?.start_date)))
    }

    async fn prefix(&self, middleware: &str) -> Result<Option<String>, String> {
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

    /// The answer to a GET, of at most `limit` bytes; `None` for 404.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Option<Bytes>, String> {
        let uri = format!("{}{path}", self.base);
        let uri: Uri = uri.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let answer = self.client.get(uri).await.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        // Read to its end in any case, so that the connection can be used again.
        let body = Limited::new(answer.into_body(), limit).collect().await;
        match status.as_u16() {
            404 => Ok(None),
            200 => Ok(Some(body.map_err(|error| error.to_string())?.to_bytes())),
            other => Err(format!("it answered {other}")),
        }
    }
}

/// The marker of the generation that Traefik should load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The middleware, with the provider's name after `@`.
    pub middleware: String,
    pub prefix: String,
    pub since: Instant,
}

/// The state of Traefik according to its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraefikAnswer {
    /// The start time of its process, if the API shows it.
    pub started: Option<String>,
    /// The path prefix that the marker adds; `None` where there is no such middleware.
    pub prefix: Option<String>,
}

/// When Traefik was last seen with the content that was handed on, without being away or restarted since.
#[derive(Debug, Default)]
pub struct Sight(Option<TraefikAnswer>);

impl Sight {
    /// The meaning of an answer while `wanted` is handed on.
    pub fn judge(&mut self, wanted: &str, answer: Result<TraefikAnswer, String>) -> Proxy {
        let (proxy, sight) = match answer {
            // One answer that fails says nothing about the process, whose start time tells it from another.
            Err(reason) => (Proxy::Down(reason), self.0.take().filter(|last| last.started.is_some())),
            Ok(answer) if answer.prefix.as_deref() == Some(wanted) => {
                (Proxy::Loaded(wanted.to_owned()), Some(answer))
            }
            Ok(answer) => {
                let is_same = |last: &TraefikAnswer| {
                    last.started == answer.started && last.prefix.as_deref() != Some(wanted)
                };
                let last = self.0.take().filter(is_same);
                (if last.is_some() { Proxy::Behind } else { Proxy::Empty }, last)
            }
        };
        self.0 = sight;
        proxy
    }
}

/// The last known state of Traefik.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// Not asked yet.
    #[default]
    Unknown,
    /// Does not answer: it has not started, or is restarting.
    Down(String),
    /// Answers, but has loaded nothing that was handed on since its start. It may have no routing.
    Empty,
    /// Still serves an earlier generation.
    Behind,
    /// Has loaded the content that this prefix marks.
    Loaded(String),
}

/// Asks as long as somebody listens. Nothing is wanted while a generation is being handed on.
pub async fn follow(
    api: TraefikApi,
    mut wanted: watch::Receiver<Option<Marker>>,
    found: watch::Sender<Proxy>,
) {
    let mut took = Duration::ZERO;
    let mut sight = Sight::default();
    loop {
        let Some(marker) = wanted.borrow_and_update().clone() else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let answer = api.answer(&marker.middleware).await;
        // Traefik may have loaded the next generation already, which replaces the last one.
        match wanted.has_changed() {
            Ok(false) => {}
            Ok(true) => continue,
            Err(_) => return,
        }
        let state = sight.judge(&marker.prefix, answer);
        let pause = match &state {
            Proxy::Loaded(_) => CALM,
            _ => pause(marker.since.elapsed(), took),
        };
        found.send_if_modified(|last| {
            *last != state && {
                if matches!(state, Proxy::Loaded(_)) {
                    took = marker.since.elapsed();
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

/// How long to wait before asking, for a generation that was handed on some time ago when loading the last one `took`
/// so long. Nothing is expected in the first half of that time. After it, each wait is an eighth of the elapsed time.
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
    use http::StatusCode;
    use tokio::sync::{mpsc, oneshot};

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
        let version = r#"{"Version":"3.7.13","Codename":"x","startDate":"2026-01-02T03:04:05.678Z"}"#;
        let large = "x".repeat(ANSWER_LIMIT + 1);
        let app = Router::new()
            .route("/api/http/middlewares/waybill-7-41@file", get(move || async move { answer }))
            .route("/api/version", get(move || async move { version }))
            .route("/api/http/middlewares/large", get(move || async move { large }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let api = TraefikApi::parse(&format!("http://{address}")).unwrap();
        let started = Some("2026-01-02T03:04:05.678Z".to_owned());
        let answer = TraefikAnswer { started: started.clone(), prefix: Some("/7/41/abc".to_owned()) };
        assert_eq!(api.answer("waybill-7-41@file").await, Ok(answer));
        assert_eq!(api.answer("waybill-7-42@file").await, Ok(TraefikAnswer { started, prefix: None }));
        assert!(api.answer("large").await.is_err());
        server.abort();
        let _ = server.await;
        assert!(api.answer("waybill-7-41@file").await.is_err());
    }

    /// Traefik loads a generation before the one who wrote it has said so.
    #[tokio::test]
    async fn what_is_asked_while_a_generation_is_handed_on_means_nothing() {
        let (questions, mut asked) = mpsc::channel::<oneshot::Sender<bool>>(1);
        let handler = async move || {
            let (answer, is_there) = oneshot::channel();
            questions.send(answer).await.unwrap();
            if is_there.await.unwrap() {
                (StatusCode::OK, r#"{"addPrefix":{"prefix":"/a"}}"#)
            } else {
                (StatusCode::NOT_FOUND, "")
            }
        };
        let app = Router::new().route("/api/http/middlewares/{name}", get(handler));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = TraefikApi::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let marker = |prefix: &str| {
            Some(Marker { middleware: "m".to_owned(), prefix: prefix.to_owned(), since: Instant::now() })
        };
        let (wants, wanted) = watch::channel(marker("/a"));
        let (found, mut finds) = watch::channel(Proxy::Unknown);
        tokio::spawn(follow(api, wanted, found));
        asked.recv().await.unwrap().send(true).unwrap();
        finds.changed().await.unwrap();
        assert_eq!(*finds.borrow_and_update(), Proxy::Loaded("/a".to_owned()));
        wants.send_replace(marker("/a"));
        let question = asked.recv().await.unwrap();
        wants.send_replace(None);
        question.send(false).unwrap();
        wants.send_replace(marker("/b"));
        asked.recv().await.unwrap().send(false).unwrap();
        finds.changed().await.unwrap();
        assert_eq!(*finds.borrow_and_update(), Proxy::Behind);
    }

    #[test]
    fn a_traefik_without_what_it_had_was_started_anew() {
        let answer = |started: &str, prefix: Option<&str>| {
            let started = Some(started.to_owned()).filter(|started| !started.is_empty());
            Ok(TraefikAnswer { started, prefix: prefix.map(str::to_owned) })
        };
        let loaded = |prefix: &str| Proxy::Loaded(prefix.to_owned());
        for (one, other) in [("1", "2"), ("", "")] {
            let mut sight = Sight::default();
            assert_eq!(sight.judge("/a", answer(one, None)), Proxy::Empty);
            assert_eq!(sight.judge("/a", answer(one, Some("/a"))), loaded("/a"));
            // On the way to the next ones.
            assert_eq!(sight.judge("/b", answer(one, None)), Proxy::Behind);
            assert_eq!(sight.judge("/c", answer(one, None)), Proxy::Behind);
            assert_eq!(sight.judge("/c", answer(one, Some("/c"))), loaded("/c"));
            // What it had is gone.
            assert_eq!(sight.judge("/c", answer(other, None)), Proxy::Empty);
            assert_eq!(sight.judge("/d", answer(other, None)), Proxy::Empty);
            assert_eq!(sight.judge("/d", answer(other, Some("/d"))), loaded("/d"));
            let down = Proxy::Down("refused".to_owned());
            assert_eq!(sight.judge("/d", Err("refused".to_owned())), down);
            let same = if other.is_empty() { Proxy::Empty } else { Proxy::Behind };
            assert_eq!(
                sight.judge("/e", answer(other, None)),
                same,
                "only a start time shows that it is the same"
            );
            assert_eq!(sight.judge("/e", Err("refused".to_owned())), down);
            assert_eq!(sight.judge("/e", answer("3", None)), Proxy::Empty);
        }
        // Between two questions, while it is behind.
        let mut sight = Sight::default();
        assert_eq!(sight.judge("/a", answer("1", Some("/a"))), loaded("/a"));
        assert_eq!(sight.judge("/b", answer("2", None)), Proxy::Empty);
        assert_eq!(sight.judge("/b", answer("2", None)), Proxy::Empty);
    }
}
