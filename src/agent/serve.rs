//! Serves probes and metrics, and the routing as one document for Traefik's HTTP provider.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use parking_lot::Mutex;

use super::folder::marker;
use super::metrics::AgentMetrics;
use super::state::AgentState;
use crate::published::index::CommitId;
use crate::serve::{Health, metrics_text, probe};

/// `/livez`, `/readyz`, `/startupz` and `/metrics`.
pub fn probes(state: AgentState, metrics: AgentMetrics, health: Health) -> Router {
    let ready = state.clone();
    Router::new()
        .route("/startupz", get(move || async move { probe(state.started()) }))
        .route("/readyz", get(move || async move { probe(ready.ready()) }))
        .route("/livez", get(move || async move { probe(health.alive()) }))
        .route("/metrics", get(move || async move { metrics_text(metrics.render()) }))
}

/// The document for Traefik's HTTP provider.
#[derive(Clone, Default)]
pub struct HttpDocument(Arc<Mutex<Option<HttpAnswer>>>);

#[derive(Clone)]
struct HttpAnswer {
    sum: String,
    commit: CommitId,
    text: Bytes,
}

impl HttpDocument {
    /// Serves this document from now on, as this generation. `sum` is that of its content without the marker.
    pub fn set(&self, sum: &str, commit: CommitId, text: String) {
        let answer = HttpAnswer { sum: sum.to_owned(), commit, text: text.into() };
        *self.0.lock() = Some(answer);
    }

    fn get(&self) -> Option<HttpAnswer> {
        self.0.lock().clone()
    }

    /// The sum of the current document.
    pub fn sum(&self) -> Option<String> {
        self.get().map(|answer| answer.sum)
    }

    /// The marker for Traefik: the middleware's name and the prefix that it adds.
    pub fn marker(&self) -> Option<(String, String)> {
        self.get().map(|answer| marker(answer.commit, &answer.sum))
    }

    /// Serves it at any path.
    pub fn server(self) -> Router {
        Router::new().fallback(get(answer)).with_state(self)
    }
}

async fn answer(Shared(document): Shared<HttpDocument>, headers: HeaderMap) -> Response {
    // Traefik keeps its configuration if the answer is no success.
    let Some(HttpAnswer { sum, text, .. }) = document.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no routing has been read yet\n").into_response();
    };
    let tag = format!("\"{sum}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let json = "application/json".to_owned();
    ([(header::CONTENT_TYPE, json), (header::ETAG, tag)], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_document_has_a_tag() {
        let document = HttpDocument::default();
        let commit = CommitId::new(1, 1);
        let ask = async |tag: Option<&str>| {
            let mut request = Request::get("/any");
            if let Some(tag) = tag {
                request = request.header(header::IF_NONE_MATCH, tag);
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = document.clone().server().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        };
        assert_eq!(ask(None).await.0, 503);
        document.set("one", commit, "{}".to_owned());
        assert_eq!(ask(None).await, (200, Bytes::from("{}")));
        assert_eq!(ask(Some("\"zero\", W/\"one\"")).await, (304, Bytes::new()));
        document.set("two", commit, "{}".to_owned());
        assert_eq!(ask(Some("\"one\"")).await.0, 200);
    }
}
