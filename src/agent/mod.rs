//! `waybill agent`: hands the published routing to the Traefik beside it, generation by generation.
//!
//! [`source`] follows the index and fetches shards, [`shard`] checks them, [`assembly`] joins and cuts them,
//! [`folder`] puts them where Traefik reads, [`proxy`] asks Traefik what it has loaded, and [`state`] knows what to
//! say about all of it. Whatever goes wrong, what Traefik has stays.

mod assembly;
mod error;
mod folder;
mod include;
mod metrics;
mod proxy;
#[cfg(test)]
mod published_tests;
mod renames;
mod report;
mod serve;
mod shard;
mod source;
mod state;
mod work;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use error::NotHandedOn;
pub use proxy::TraefikApi;

use crate::kubernetes::key::OutputKey;
use crate::serve::{Health, serve};
use folder::Folder;
use include::Include;
use metrics::AgentMetrics;
use proxy::Proxy;
use report::Reporter;
use serve::HttpDocument;
use source::{OutputReader, SeenIndex};
use state::AgentState;
use work::Work;

/// How long `--once` waits for a complete generation.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

/// The configuration of an agent.
#[derive(Debug)]
pub struct Agent {
    pub output: OutputKey,
    /// Stays the same after a restart of the container: the pod's name.
    pub identity: String,
    /// The folder of Traefik's file provider, which reads its `dynamic` folder.
    pub directory: Option<PathBuf>,
    /// The address for Traefik's HTTP provider.
    pub http: Option<TcpListener>,
    pub traefik_api: Option<TraefikApi>,
    pub include: Option<PathBuf>,
}

/// Errors that keep the agent from starting or `--once` from finishing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Folder(#[from] NotHandedOn),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("no complete generation within {} s: {reason}", ONCE_WITHIN.as_secs())]
    NothingWritten { reason: String },
}

impl Agent {
    /// Runs until `stop` is done, with probes and metrics at `probes`.
    pub async fn run(
        mut self,
        client: Client,
        probes: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let health = Health::default();
        let (work, parts) = self.prepare(client.clone())?;
        let mut tasks = JoinSet::new();
        let probe_router = serve::probes(parts.state.clone(), parts.metrics, health.clone());
        tasks.spawn(serve(probes, probe_router, std::future::pending()));
        if let Some(listener) = self.http.take() {
            tasks.spawn(serve(listener, parts.document.server(), std::future::pending()));
        }
        tasks.spawn(parts.reader.follow(parts.seen_sender));
        if let Some(api) = self.traefik_api {
            let (found, mut finds) = watch::channel(Proxy::Unknown);
            tasks.spawn(proxy::follow(api, parts.marker, found));
            let state = parts.state.clone();
            let wake = parts.wake;
            tasks.spawn(async move {
                while finds.changed().await.is_ok() {
                    state.asked(finds.borrow_and_update().clone());
                    wake.notify_one();
                }
            });
        }
        let reporter = Reporter::new(client.clone(), self.output.clone(), self.identity.clone());
        tasks.spawn(reporter.run(parts.state.clone(), parts.state.reaches()));
        let heartbeat = health.heartbeat("agent");
        tokio::select! {
            () = work.run(parts.seen, heartbeat) => {}
            () = stop => {}
        }
        tasks.shutdown().await;
        Reporter::end(client, &self.output, &self.identity).await;
        Ok(())
    }

    /// Writes one generation and returns.
    pub async fn once(self, client: Client) -> Result<(), AgentError> {
        let (mut work, parts) = self.prepare(client)?;
        let state = parts.state.clone();
        let follow = parts.reader.follow(parts.seen_sender);
        tokio::select! {
            done = work.once(parts.seen) => Ok(done?),
            () = follow => Ok(()),
            () = tokio::time::sleep(ONCE_WITHIN) => {
                let nothing = || "there is no index, or the API server does not answer".to_owned();
                Err(AgentError::NothingWritten { reason: state.reasons().unwrap_or_else(nothing) })
            }
        }
    }

    fn prepare(&self, client: Client) -> Result<(Work, TaskParts), AgentError> {
        let metrics = AgentMetrics::new(&self.output)?;
        metrics.heard.start();
        let state = AgentState::new(metrics.clone(), self.traefik_api.is_some());
        let reader = OutputReader::new(client, self.output.clone(), metrics.clone());
        let folder = self.directory.as_deref().map(Folder::open).transpose()?;
        let document = HttpDocument::default();
        let (marker_sender, marker) = watch::channel(None);
        let wake = std::sync::Arc::default();
        let (seen_sender, seen) = watch::channel(SeenIndex::Unknown);
        let work = Work::new(work::WorkParts {
            reader: reader.clone(),
            folder,
            document: self.http.is_some().then(|| document.clone()),
            include: self.include.clone().map(Include::new),
            state: state.clone(),
            metrics: metrics.clone(),
            marker: marker_sender,
            wake: std::sync::Arc::clone(&wake),
        });
        Ok((work, TaskParts { reader, document, state, metrics, marker, wake, seen_sender, seen }))
    }
}

/// The parts that the tasks share.
struct TaskParts {
    reader: OutputReader,
    document: HttpDocument,
    state: AgentState,
    metrics: AgentMetrics,
    marker: watch::Receiver<Option<proxy::Marker>>,
    wake: std::sync::Arc<tokio::sync::Notify>,
    seen_sender: watch::Sender<SeenIndex>,
    seen: watch::Receiver<SeenIndex>,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::time::Instant;

    use kube::client::Body;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// Waits until the other side closes; a reset is as good.
    async fn closed(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut text)).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn idle_and_slow_clients_keep_nobody_from_its_ports() {
        let nobody = |_: axum::http::Request<Body>| {
            std::future::pending::<Result<axum::http::Response<Body>, Infallible>>()
        };
        let client = Client::new(tower::service_fn(nobody), "default");
        let folder = tempfile::tempdir().unwrap();
        let probes = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = [(probes.local_addr().unwrap(), "/livez", 200), (http.local_addr().unwrap(), "/", 503)];
        let agent = Agent {
            output: OutputKey::new("waybill", "waybill"),
            identity: "proxy".to_owned(),
            directory: Some(folder.path().to_owned()),
            http: Some(http),
            traefik_api: None,
            include: None,
        };
        let running = tokio::spawn(agent.run(client, probes, std::future::pending()));
        for (address, path, code) in ports {
            let mut idle = Vec::new();
            for _ in 0..64 {
                idle.push(connect("127.0.0.2", address).await);
            }
            // Many of one address are closed at once, so that they take no file descriptors.
            assert_eq!(closed(idle.last_mut().unwrap()).await, "");
            let mut stream = connect("127.0.0.1", address).await;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let text = closed(&mut stream).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {code}")), "{text}");
            // Half a header is not waited for.
            let begun = Instant::now();
            let mut slow = connect("127.0.0.1", address).await;
            slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
            closed(&mut slow).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
        running.abort();
    }
}
