//! `waybill run`: the operator, put together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{PROBLEMS, SUCCESS, Streams, USAGE};
use crate::kubernetes::client::{self, Access, ConnectError, Environment};
use crate::metrics::Metrics;
use crate::offline::watched;
use crate::operator::class_publisher::ClassPublisher;
use crate::operator::feeds::{self, Feeds};
use crate::operator::live::{Live, Phase};
use crate::operator::problems::Problems;
use crate::operator::publisher::{Pace, Publisher};
use crate::operator::status_view::Statuses;
use crate::operator::{controllers, deleted_secrets, fetch};
use crate::options::{Loaded, LogFormat, Options, Surroundings};
use crate::parameters::memory;
use crate::publish::lease::{
    self, Elector, LeaseGuard, LeaseHandle, LeaseOptions, Timings, TimingsError, fitness,
};
use crate::publish::outputs::withdrawal::index_subject;
use crate::publish::problems::events::Events;
use crate::publish::requests::Requests;
use crate::publish::statuses::class_statuses::ClassWriter;
use crate::publish::statuses::writer::StatusWriter;
use crate::redact::KeylessWriter;
use crate::routing::Routing;
use crate::serve::{self, Health, ServeError};

/// After SIGTERM, whatever is not done by then is left.
const GRACE: Duration = Duration::from_millis(4_500);

/// How often the routing's lock is tried, as a sign of life.
const PULSE: Duration = Duration::from_secs(5);

/// An Ingress that moves to another output leaves the old one when the new one is committed, or after this and the
/// throttle's distance.
const LONGEST_MOVE: Duration = Duration::from_secs(60);

/// Why the operator could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Metrics and probes can't be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Leader election's times don't go together.
    #[error(transparent)]
    Timings(#[from] TimingsError),
    /// Two metrics of one name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Signals can't be received.
    #[error("signals can't be received: {0}")]
    Signals(#[from] std::io::Error),
}

impl RunError {
    /// Whether it is the user's to mend before anything can start.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Timings(_))
    }
}

/// Runs the operator; gives the exit code.
pub fn start(loaded: &Loaded, surroundings: &dyn Surroundings, streams: &mut Streams<'_>) -> u8 {
    start_logging(&loaded.options);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(streams.stderr, "waybill: no threads: {error}");
            return PROBLEMS;
        }
    };
    match runtime.block_on(run(loaded.options.clone(), surroundings.variables())) {
        Ok(()) => SUCCESS,
        Err(error) => {
            let _ = writeln!(streams.stderr, "waybill: {error}");
            if error.is_usage() { USAGE } else { PROBLEMS }
        }
    }
}

/// Starts logging, for this process.
pub fn start_logging(options: &Options) {
    let level = options.log_level.as_str();
    // What kube says of a failing watch is said by the watch itself, once a while.
    let filter =
        tracing_subscriber::EnvFilter::new(format!("warn,kube_runtime=off,kube_client=off,waybill={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| KeylessWriter(std::io::stderr()))
        .with_target(false);
    // A logger that is set already (in a test) stays.
    let _ = match options.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. An API server that can't be reached is no error: it is waited for.
pub async fn run(options: Options, variables: BTreeMap<String, String>) -> Result<(), RunError> {
    let shutdown = on_signal()?;
    let identity = lease::identity(&variables);
    let election = &options.leader_election;
    let metrics = Metrics::new(&election.lease_name)?;
    let environment = Environment { variables, ..Environment::of_process() };
    let connection =
        client::connect(&Access::from(&options.connection), &environment, &identity, &metrics).await?;
    for warning in &connection.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        api_server = connection.address,
        output = %options.settings.output,
        "starting"
    );
    let client = connection.client;
    // Connections of its own: were they shared, every idle one that has died would cost a renewal its time.
    let electing =
        client::connect(&Access::from(&options.connection), &environment, &identity, &metrics).await?.client;
    let health = Health::default();
    let address = &options.metrics_address;
    let listener = TcpListener::bind(address.sockets())
        .await
        .map_err(|source| ServeError::Bind { value: address.as_str().to_owned(), source })?;

    let timings = Timings::new(election.lease_duration, election.renew_deadline, election.retry_period)?;
    let (elector, lease) = if election.enabled {
        let lease = LeaseOptions {
            namespace: options.namespace.clone(),
            name: election.lease_name.clone(),
            identity: identity.clone(),
            timings,
        };
        Elector::new(electing, lease, metrics.clone())
    } else {
        Elector::without_election(metrics.clone())
    };

    let mut routing = Routing::new(watched(&options), options.class.clone());
    routing.table_mut().declare(&options.settings.output);
    let live = Arc::new(Live::new(routing, metrics.clone()));

    let mut tasks = JoinSet::new();
    tasks.spawn(stopped(serve::serve(listener, metrics.clone(), health.clone(), until(shutdown.clone()))));
    for feed in feeds::feeds(&what_to_watch(&options), &client, &live, &metrics) {
        tasks.spawn(feed);
    }
    tasks.spawn(controllers::ingresses(Arc::clone(&live), metrics.clone(), until(shutdown.clone())));
    tasks.spawn(controllers::classes(Arc::clone(&live), metrics.clone(), until(shutdown.clone())));
    tasks.spawn(fetch::secrets(client.clone(), Arc::clone(&live)));
    tasks.spawn(deleted_secrets::withdraw(Arc::clone(&live)));
    let distance = options.providers_throttle_duration.max(options.throttle_duration);
    tasks.spawn(pulse(Arc::clone(&live), health.clone(), LONGEST_MOVE + distance));
    tasks.spawn(fitness::keep(lease.clone(), metrics.clone(), fitness::Limits::default()));
    tasks.spawn(ready(Arc::clone(&live), lease.clone(), health.clone()));
    let leader = Leader { client, live, lease, metrics, health, identity, options: Arc::new(options) };
    let leading = tokio::spawn(leader.run(shutdown.clone()));
    let electing = tokio::spawn(elector.run(until(shutdown.clone())));

    until(shutdown).await;
    tracing::info!("stopping");
    let _ = tokio::time::timeout(GRACE, async {
        // The elector ends the term, waits for writes under way and gives the lease back.
        let _ = electing.await;
        let _ = leading.await;
    })
    .await;
    tasks.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

fn what_to_watch(options: &Options) -> Feeds {
    Feeds {
        label_selector: options.label_selector.as_str().to_owned(),
        classes: !options.class.lookup_disabled,
        nodes: !options.settings.disable_cluster_scope_resources,
        namespace: options.namespace.clone(),
        class_memory: memory::name(&options.leader_election.lease_name),
        watch_seconds: feeds::WATCH_SECONDS,
    }
}

/// Done at the first SIGTERM or SIGINT.
fn on_signal() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = stop.send(true);
        stop.closed().await;
    });
    Ok(stopping)
}

async fn until(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone is as good as a signal.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn stopped(server: impl Future<Output = Result<(), ServeError>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "metrics and probes are no longer served");
    }
}

/// Gives a sign of life as long as the routing's lock can be had. `longest` is how long an Ingress that moved may be
/// in two outputs.
async fn pulse(live: Arc<Live>, health: Health, longest: Duration) {
    let heartbeat = health.heartbeat("routing");
    loop {
        live.settle_overdue(longest);
        heartbeat.beat();
        tokio::time::sleep(PULSE).await;
    }
}

/// Ready once every watch has listed, or as a follower.
async fn ready(live: Arc<Live>, lease: LeaseHandle, health: Health) {
    let mut changes = lease.changes();
    let follow = {
        let health = health.clone();
        async move {
            loop {
                health.set_following(changes.borrow_and_update().is_none());
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    };
    let sync = async move {
        live.reached(Phase::Synced).await;
        health.set_synced();
    };
    tokio::join!(follow, sync);
}

/// What a leader does, term by term.
struct Leader {
    client: Client,
    live: Arc<Live>,
    lease: LeaseHandle,
    metrics: Metrics,
    health: Health,
    identity: String,
    options: Arc<Options>,
}

impl Leader {
    async fn run(self, stopping: watch::Receiver<bool>) {
        let mut shutdown = std::pin::pin!(until(stopping));
        let mut changes = self.lease.changes();
        loop {
            let guard = changes.borrow_and_update().clone();
            if let Some(guard) = guard {
                self.live.set_leading(true);
                self.term(guard).await;
                self.live.set_leading(false);
                self.metrics.clear_leaders();
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = &mut shutdown => return,
            }
        }
    }

    /// Until the guard allows no more writes. Nothing is written before every watch has listed.
    async fn term(&self, guard: LeaseGuard) {
        let over = {
            let guard = guard.clone();
            async move {
                while guard.may_start_write() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        tokio::select! {
            () = self.live.reached(Phase::Synced) => {}
            () = over => return,
        }
        let options = &self.options;
        let events = Events::new(index_subject(&options.settings.output));
        let problems = Arc::new(Problems::new(events.clone(), Arc::clone(&self.live), self.metrics.clone()));
        let statuses = Arc::new(Statuses::new(Arc::clone(&self.live), Arc::clone(&problems), options.status));
        let requests = Requests::new(self.client.clone(), guard, self.metrics.clone());
        let pace = Pace {
            distance: options.providers_throttle_duration.max(options.throttle_duration),
            bytes_per_second: options.publish_bytes_per_second,
            max_withdrawal: options.max_withdrawal.unwrap_or_default(),
        };
        let classes = ClassPublisher::new(
            ClassWriter::new(
                requests.clone(),
                options.namespace.as_str(),
                options.leader_election.lease_name.as_str(),
            ),
            Arc::clone(&self.live),
            Arc::clone(&problems),
            self.metrics.clone(),
            requests.clone(),
        );
        let writer = StatusWriter::new(
            requests.clone(),
            Arc::clone(&statuses),
            Arc::clone(&statuses.queue),
            options.status_rate,
        );
        let publisher = Publisher::new(
            self.client.clone(),
            Arc::clone(&self.live),
            requests.clone(),
            Arc::clone(&problems),
            statuses,
            pace,
        );
        self.live.all_problems_pending();
        let heartbeat = self.health.heartbeat("publisher");
        let identity = self.identity.clone();
        let mut parts = JoinSet::new();
        parts.spawn(publisher.run(heartbeat));
        parts.spawn(writer.run());
        if !options.class.lookup_disabled {
            parts.spawn(classes.run());
        }
        parts.spawn(async move { events.run(requests, &identity).await });
        // Following problems has no end of its own; the others end with the term.
        let following = tokio::spawn(problems.follow());
        while parts.join_next().await.is_some() {}
        following.abort();
        // What it took from the queue after the next term has begun would be told by nobody.
        let _ = following.await;
    }
}
