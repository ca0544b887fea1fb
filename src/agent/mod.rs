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
use crate::serve::Health;
use folder::Folder;
use include::Include;
use metrics::AgentMetrics;
use proxy::Proxy;
use report::Reporter;
use serve::HttpDocument;
use source::{OutputReader, SeenIndex};
use state::AgentState;
use work::Work;

/// `--once` waits so long for a whole generation.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

/// What the agent does, and for whom.
#[derive(Debug)]
pub struct Agent {
    pub output: OutputKey,
    /// The same after the container was started anew: the pod's name.
    pub identity: String,
    /// Where Traefik's file provider reads: its `dynamic` folder.
    pub directory: Option<PathBuf>,
    /// Where Traefik's HTTP provider is answered.
    pub http: Option<TcpListener>,
    pub traefik_api: Option<TraefikApi>,
    pub include: Option<PathBuf>,
}

/// Why the agent can't start, or `--once` came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Folder(#[from] NotHandedOn),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("no whole generation within {} s: {reason}", ONCE_WITHIN.as_secs())]
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
        tasks.spawn(async move { axum::serve(probes, probe_router).await.map_or((), |()| ()) });
        if let Some(listener) = self.http.take() {
            let router = parts.document.server();
            tasks.spawn(async move { axum::serve(listener, router).await.map_or((), |()| ()) });
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

    /// Writes one generation.
    pub async fn once(self, client: Client) -> Result<(), AgentError> {
        let (mut work, parts) = self.prepare(client)?;
        let state = parts.state.clone();
        let follow = parts.reader.follow(parts.seen_sender);
        tokio::select! {
            () = work.once(parts.seen) => Ok(()),
            () = follow => Ok(()),
            () = tokio::time::sleep(ONCE_WITHIN) => {
                let nothing = || "there is no index, or the API server does not answer".to_owned();
                Err(AgentError::NothingWritten { reason: state.reasons().unwrap_or_else(nothing) })
            }
        }
    }

    fn prepare(&self, client: Client) -> Result<(Work, TaskParts), AgentError> {
        let metrics = AgentMetrics::new()?;
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

/// What the other tasks need.
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
