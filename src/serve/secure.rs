//! `/metrics` over TLS, for those who may read it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::certificate::ServingCertificate;
use super::readers::{Readers, Refused};
use super::text_of;
use crate::metrics::Metrics;

/// Connections at once; more wait until one is over.
const CONNECTIONS: usize = 64;

/// A connection carries one request. All of it has to be over within this, its handshake and its header within half.
const LONGEST: Duration = Duration::from_secs(20);

/// The longest header of a request, a token included.
const LONGEST_HEADER: usize = 32 << 10;

/// After the system could not accept a connection.
const PAUSE: Duration = Duration::from_secs(1);

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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (certificate, router) = (Arc::clone(&certificate), router.clone());
                    tokio::spawn(async move {
                        // Whoever breaks off or stays silent is nobody to tell of.
                        let _ = tokio::time::timeout(LONGEST, answer(stream, &certificate, router)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics can't be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

async fn answer(stream: TcpStream, certificate: &ServingCertificate, router: Router) {
    let acceptor = certificate.acceptor().await;
    let Ok(Ok(stream)) = tokio::time::timeout(LONGEST / 2, acceptor.accept(stream)).await else { return };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST / 2)
        .keep_alive(false)
        .max_buf_size(LONGEST_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = connection.await;
}

async fn show(State((readers, metrics)): State<(Arc<Readers>, Metrics)>, headers: HeaderMap) -> Response {
    match readers.check(&headers).await {
        Ok(()) => text_of(&metrics),
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
