//! `/metrics` over TLS, for those who may read it.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpStream};

use super::certificate::ServingCertificate;
use super::connections::{self, PROMPT};
use super::metrics_text;
use super::readers::{Readers, Refused};
use crate::metrics::Metrics;

/// Serves until `shutdown` is done.
pub async fn serve_secure(
    listener: TcpListener,
    certificate: ServingCertificate,
    readers: Readers,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let router = Router::new().route("/metrics", get(show)).with_state((Arc::new(readers), metrics));
    let certificate = Arc::new(certificate);
    connections::each(listener, shutdown, |stream, peer| {
        answer(stream, peer, Arc::clone(&certificate), router.clone())
    })
    .await;
}

async fn answer(stream: TcpStream, peer: IpAddr, certificate: Arc<ServingCertificate>, router: Router) {
    let acceptor = certificate.acceptor().await;
    let Ok(Ok(stream)) = tokio::time::timeout(PROMPT, acceptor.accept(stream)).await else { return };
    connections::answer(stream, peer, router).await;
}

async fn show(
    State((readers, metrics)): State<(Arc<Readers>, Metrics)>,
    Extension(peer): Extension<IpAddr>,
    headers: HeaderMap,
) -> Response {
    match readers.check(&headers, peer).await {
        Ok(()) => metrics_text(metrics.render()),
        Err(refused) => refused.into_response(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, text) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "send a bearer token of the cluster\n"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "the API server does not know this bearer token\n")
            }
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "this user may not get /metrics; bind the ClusterRole waybill-metrics-reader to it\n",
            ),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too many unknown tokens; try again\n"),
            Self::NoAnswer => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server can't be asked who you are; the log of waybill says why\n",
            ),
        };
        match code {
            StatusCode::UNAUTHORIZED => (code, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response(),
            StatusCode::TOO_MANY_REQUESTS => (code, [(header::RETRY_AFTER, "1")], text).into_response(),
            _ => (code, text).into_response(),
        }
    }
}
