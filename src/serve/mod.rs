//! `/metrics`, `/livez` and `/readyz`, and the bounds of every port that waybill listens on.
//!
//! `/livez` fails only when the process is stuck: a loop that promised to give a sign of life has given
//! none for [`STUCK_AFTER`]. An API server that is away is no reason. `/readyz` answers 200 once all
//! watches have listed, on leaders and followers alike. With `operator.metricsSecure`, `/metrics` is served by itself
//! ([`secure`]) over TLS.

mod certificate;
mod connections;
mod readers;
mod secure;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;

pub use certificate::{CertificateError, CertificateFiles, ServingCertificate};
pub use readers::Readers;
pub use secure::serve_secure;

use crate::metrics::Metrics;

/// A loop counts as stuck after this time without a sign of life.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How often [`Heartbeat::during`] gives a sign of life.
const BEAT: Duration = Duration::from_secs(5);

/// The state for the probes. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<HealthState>);

struct HealthState {
    stuck_after: Duration,
    loops: Mutex<BTreeMap<&'static str, Instant>>,
    ready: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(STUCK_AFTER)
    }
}

impl Health {
    /// Not ready, without loops. A loop counts as stuck `stuck_after` its last sign of life.
    pub fn new(stuck_after: Duration) -> Self {
        Self(Arc::new(HealthState { stuck_after, loops: Mutex::default(), ready: AtomicBool::new(false) }))
    }

    /// Registers a loop that gives signs of life until the handle is dropped.
    pub fn heartbeat(&self, name: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat { health: self.clone(), name };
        heartbeat.beat();
        heartbeat
    }

    /// Sets that all watches have listed once.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }

    /// Whether this replica counts as up in a rollout.
    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// The answer of `/livez`. The error names the loops that seem to hang.
    pub fn alive(&self) -> Result<String, String> {
        let stuck = self.stuck();
        let line = |(name, silence): &(&str, Duration)| {
            format!("{name}: no sign of life for {} s\n", silence.as_secs())
        };
        if stuck.is_empty() { Ok("ok\n".to_owned()) } else { Err(stuck.iter().map(line).collect()) }
    }

    /// The loops without a recent sign of life, with the time since the last one.
    fn stuck(&self) -> Vec<(&'static str, Duration)> {
        let loops = self.0.loops.lock();
        loops
            .iter()
            .map(|(name, beat)| (*name, beat.elapsed()))
            .filter(|(_, silence)| *silence > self.0.stuck_after)
            .collect()
    }
}

/// A loop's handle to give signs of life; dropped when the loop ends in order.
pub struct Heartbeat {
    health: Health,
    name: &'static str,
}

impl Heartbeat {
    /// Gives a sign of life.
    pub fn beat(&self) {
        let mut loops = self.health.0.loops.lock();
        loops.insert(self.name, Instant::now());
    }

    /// Gives signs of life while waiting for something that may take longer, such as an answer of the API server. Not
    /// for locks: a deadlock would go unnoticed.
    pub async fn during<F: Future>(&self, future: F) -> F::Output {
        let mut beats = tokio::time::interval(BEAT.min(self.health.0.stuck_after / 4));
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => {
                    self.beat();
                    return output;
                }
                _ = beats.tick() => self.beat(),
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.0.loops.lock().remove(self.name);
    }
}

/// The service at the operator's port. Without `metrics`, it answers only probes.
pub fn probes(metrics: Option<Metrics>, health: Health) -> Router {
    let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(health);
    match metrics {
        Some(metrics) => router.route("/metrics", get(move || async move { metrics_text(metrics.render()) })),
        None => router,
    }
}

/// Serves until `shutdown` is done, with as many connections as [`connections`] allows.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    connections::each(listener, shutdown, |stream, peer| connections::answer(stream, peer, router.clone()))
        .await;
}

/// The answer of `/metrics`.
pub fn metrics_text(rendered: Result<String, prometheus::Error>) -> Response {
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn livez(State(health): State<Health>) -> Response {
    probe(health.alive())
}

async fn readyz(State(health): State<Health>) -> Response {
    probe(health.is_ready().then(|| "ok\n".to_owned()).ok_or("not all watches have listed yet\n".to_owned()))
}

/// The answer to a probe: the text, with 200 or 503.
pub fn probe(result: Result<String, String>) -> Response {
    match result {
        Ok(text) => text.into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(health: Health) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let metrics = Metrics::new("x").unwrap();
        let task = tokio::spawn(serve(listener, probes(Some(metrics), health), async {
            let _ = stopped.await;
        }));
        Running { address, stop, task }
    }

    /// Status code, headers and body.
    async fn fetch(address: SocketAddr, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn metrics_come_in_the_text_format() {
        let server = start(Health::default()).await;
        let (code, head, body) = fetch(server.address, "/metrics").await;
        assert_eq!(code, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("# TYPE workqueue_depth gauge"), "{body}");
        assert_eq!(fetch(server.address, "/").await.0, 404);
    }

    #[tokio::test]
    async fn ready_once_all_watches_have_listed() {
        let health = Health::default();
        let server = start(health.clone()).await;
        assert_eq!(fetch(server.address, "/readyz").await.0, 503);
        health.set_ready();
        assert_eq!(fetch(server.address, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn dead_only_while_a_loop_is_silent_for_too_long() {
        let limit = Duration::from_millis(500);
        let health = Health::new(limit);
        let server = start(health.clone()).await;
        let stuck = health.heartbeat("publisher");
        let waiting = health.heartbeat("watcher");
        assert_eq!(fetch(server.address, "/livez").await.0, 200);

        // `during` runs three times as long as the limit, and only the silent loop is named.
        waiting.during(tokio::time::sleep(limit * 3)).await;
        let (code, _, body) = fetch(server.address, "/livez").await;
        assert_eq!(code, 503);
        assert!(body.contains("publisher"), "{body}");
        assert!(!body.contains("watcher"), "{body}");

        stuck.beat();
        assert_eq!(fetch(server.address, "/livez").await.0, 200);
        waiting.during(tokio::time::sleep(limit * 2)).await;
        assert_eq!(fetch(server.address, "/livez").await.0, 503);
        drop(stuck);
        assert_eq!(fetch(server.address, "/livez").await.0, 200, "a loop that ended is not stuck");
    }

    #[tokio::test]
    async fn stops_in_time_although_a_client_holds_on() {
        let server = start(Health::default()).await;
        let mut holding = TcpStream::connect(server.address).await.unwrap();
        holding.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        let begun = Instant::now();
        server.stop.send(()).unwrap();
        server.task.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}
