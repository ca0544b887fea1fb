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

pub use error::Refusal;
pub use proxy::TraefikApi;

use crate::kubernetes::key::OutputKey;
use crate::options::check::ListenAddress;
use crate::serve::Health;
use folder::Folder;
use include::Include;
use metrics::AgentMetrics;
use proxy::Proxy;
use serve::Document;
use source::{Reader, Seen};
use state::State;
use work::Work;

/// `--once` waits so long for a whole generation.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

/// What the agent does, and for whom.
#[derive(Clone, Debug)]
pub struct Agent {
    pub output: OutputKey,
    /// Where Traefik's file provider reads: its `dynamic` folder.
    pub directory: Option<PathBuf>,
    /// Where Traefik's HTTP provider is answered.
    pub http: Option<ListenAddress>,
    pub traefik_api: Option<TraefikApi>,
    pub include: Option<PathBuf>,
    pub metrics_address: ListenAddress,
}

/// Why the agent can't start, or `--once` came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Folder(#[from] Refusal),
    #[error("{flag}: {address:?} can't be listened on: {source}; choose another port or address")]
    Listen { flag: &'static str, address: String, source: std::io::Error },
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("no whole generation within {} s: {reason}", ONCE_WITHIN.as_secs())]
    NothingWritten { reason: String },
}

impl Agent {
    /// Runs until `stop` is done.
    pub async fn run(self, client: Client, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
        let health = Health::default();
        let probes = listen("--metrics-address", &self.metrics_address).await?;
        let http = match &self.http {
            Some(address) => Some(listen("--http", address).await?),
            None => None,
        };
        let (work, parts) = self.prepare(client)?;
        let mut tasks = JoinSet::new();
        let probe_router = serve::probes(parts.state.clone(), parts.metrics, health.clone());
        tasks.spawn(async move { axum::serve(probes, probe_router).await.map_or((), |()| ()) });
        if let Some(listener) = http {
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
        let heartbeat = health.heartbeat("agent");
        tokio::select! {
            () = work.run(parts.seen, heartbeat) => {}
            () = stop => {}
        }
        tasks.shutdown().await;
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

    fn prepare(&self, client: Client) -> Result<(Work, Parts), AgentError> {
        let metrics = AgentMetrics::new()?;
        let state = State::new(metrics.clone(), self.traefik_api.is_some());
        let reader = Reader::new(client, self.output.clone(), metrics.clone());
        let folder = self.directory.as_deref().map(Folder::open).transpose()?;
        let document = Document::default();
        let (marker_sender, marker) = watch::channel(None);
        let wake = std::sync::Arc::default();
        let (seen_sender, seen) = watch::channel(Seen::Unknown);
        let work = Work::new(work::Parts {
            reader: reader.clone(),
            folder,
            document: self.http.is_some().then(|| document.clone()),
            include: self.include.clone().map(Include::new),
            state: state.clone(),
            metrics: metrics.clone(),
            marker: marker_sender,
            wake: std::sync::Arc::clone(&wake),
        });
        Ok((work, Parts { reader, document, state, metrics, marker, wake, seen_sender, seen }))
    }
}

/// What the other tasks need.
struct Parts {
    reader: Reader,
    document: Document,
    state: State,
    metrics: AgentMetrics,
    marker: watch::Receiver<Option<proxy::Marker>>,
    wake: std::sync::Arc<tokio::sync::Notify>,
    seen_sender: watch::Sender<Seen>,
    seen: watch::Receiver<Seen>,
}

async fn listen(flag: &'static str, address: &ListenAddress) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address.sockets()).await.map_err(|source| AgentError::Listen {
        flag,
        address: address.as_str().to_owned(),
        source,
    })
}
