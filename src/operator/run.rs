//! Assembles the operator: its tasks, their threads, and how they end.
//!
//! ```text
//! main thread                            worker threads
//! ───────────                            ──────────────
//! signals                                watches ─────────▶ Live: the routing, behind one lock
//! /metrics, /livez, /readyz              controllers ◀────── keys to reconcile
//! election ──▶ guard ──────────────────▶ leader: a term after the other (leader.rs)
//! fitness ──▶ who may lead               fetched and deleted Secrets, pulse
//! ```
//!
//! Workers wait for the routing's lock, and a translation holds it for as long as it takes. Nothing on the main thread
//! ever takes it, so the lease is renewed and probes are answered whatever the workers do. If the lock is
//! never released, the pulse stops, and `/livez` reports it.
//!
//! None of these tasks ends before the operator is stopped. One that does, or panics, ends the process with an error,
//! so that it is started again.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::kubernetes::client::{self, ConnectError, Connection, Environment};
use crate::metrics::Metrics;
use crate::offline::watched;
use crate::operator::feeds::{self, Feeds};
use crate::operator::leader::Leader;
use crate::operator::live::{Live, Phase};
use crate::operator::tasks::{RunError, Tasks};
use crate::operator::{controllers, secrets};
use crate::options::Options;
use crate::options::check::ListenAddress;
use crate::parameters::memory;
use crate::publish::lease::{self, Elector, LeaseOptions, Limits, Timings, keep_fit};
use crate::routing::Routing;
use crate::serve::{self, CertificateFiles, Health, Readers, ServingCertificate};
use crate::spans::{Collector, Exporter, Spans};

/// Tasks that have not ended this long after the stop are abandoned.
const GRACE: Duration = Duration::from_millis(4_500);

/// How often the routing's lock is tried, as a sign of life.
const PULSE: Duration = Duration::from_secs(5);

/// An Ingress that moves to another output leaves the old one when the new one is committed, or after this time plus
/// the throttle's distance.
const LONGEST_MOVE: Duration = Duration::from_secs(60);

/// The tasks that have to finish something when the operator is stopped.
const ELECTION: &str = "election";
const LEADER: &str = "leader";
const EXPORTER: &str = "traces";

const SECURE_METRICS: &str = "secure metrics";

/// An operator that is not running yet.
pub struct Operator {
    options: Arc<Options>,
    environment: Environment,
    identity: String,
    metrics: Metrics,
    live: Arc<Live>,
    exporter: Option<Exporter>,
}

impl Operator {
    /// An operator without any objects.
    ///
    /// # Errors
    /// Metrics that can't be registered.
    pub fn new(options: Options, environment: Environment) -> Result<Self, RunError> {
        let metrics = Metrics::new(&options.leader_election.lease_name)?;
        let mut routing =
            Routing::new(watched(&options), options.class.clone(), Arc::new(options.settings.clone()));
        routing.table_mut().declare(&options.settings.output);
        let identity = lease::identity(&environment.variables);
        let collector = options.otlp_endpoint.clone();
        let collector = collector.map(|endpoint| Collector { endpoint, identity: identity.clone() });
        let (spans, exporter) = collector.map(|collector| Spans::new(collector, metrics.clone())).unzip();
        Ok(Self {
            live: Arc::new(Live::new(routing, metrics.clone()).traced(spans.unwrap_or_default())),
            exporter,
            options: Arc::new(options),
            identity,
            environment,
            metrics,
        })
    }

    /// Its state and its queues.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Runs until `stop` is done, on this thread and others.
    ///
    /// # Errors
    /// Errors that keep it from starting or running. An API server that can't be reached is no error: the operator
    /// waits for it.
    pub fn run(self, stop: impl Future<Output = std::io::Result<()>>) -> Result<(), RunError> {
        let steady = Builder::new_current_thread().enable_all().build().map_err(RunError::Threads)?;
        let workers = Runtime::new().map_err(RunError::Threads)?;
        let result = steady.block_on(self.work(workers.handle(), stop));
        // Not waited for, since a worker may be in the middle of something long.
        workers.shutdown_background();
        result
    }

    async fn work(
        self,
        workers: &Handle,
        stop: impl Future<Output = std::io::Result<()>>,
    ) -> Result<(), RunError> {
        let mut stop = std::pin::pin!(stop);
        // Signals are handled from here on.
        if let Poll::Ready(told) = futures::poll!(stop.as_mut()) {
            return told.map_err(RunError::Signals);
        }
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = self.start(workers, &stopped).await?;
        let outcome = tokio::select! {
            told = stop => told.map_err(RunError::Signals),
            failure = tasks.failed() => Err(failure),
        };
        tracing::info!("stopping");
        stopping.send_replace(true);
        // The election ends the term, waits for current writes and releases the lease.
        let _ = tokio::time::timeout(GRACE, tasks.all_ended(&[ELECTION, LEADER, EXPORTER])).await;
        tracing::info!("stopped");
        outcome
    }

    async fn start(mut self, workers: &Handle, stopped: &watch::Receiver<bool>) -> Result<Tasks, RunError> {
        let exporter = self.exporter.take();
        let options = &self.options;
        // Connections of its own. On shared ones, every idle connection that has died could delay a renewal.
        let electing = connect(&self).await?;
        for warning in &electing.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            identity = self.identity,
            api_server = electing.address,
            output = %options.settings.output,
            "starting"
        );
        let client = {
            // A client belongs to the threads on which it was created.
            let _workers = workers.enter();
            connect(&self).await?.client
        };
        let listener = listen("operator.metricsAddress", &options.metrics_address).await?;
        let (elector, lease) = self.elector(electing.client);
        let listed = {
            let live = Arc::clone(&self.live);
            async move { live.reached(Phase::Synced).await }
        };
        let fitness = keep_fit(lease.clone(), self.metrics.clone(), listed, Limits::default());
        let health = Health::default();
        let live = || Arc::clone(&self.live);
        let metrics = || self.metrics.clone();
        let until_stopped = || until(stopped.clone());

        let steady = &Handle::current();
        let mut tasks = Tasks::default();
        let plain = (!options.metrics_secure).then(metrics);
        let server = serve::serve(listener, serve::probes(plain, health.clone()), until_stopped());
        tasks.spawn("metrics and probes", steady, server.map(Ok));
        if options.metrics_secure {
            // Handshakes take longer than a renewal of the lease may wait.
            let server = secure_metrics(Arc::clone(options), metrics(), client.clone(), stopped.clone());
            let failed = |source| RunError::Failed { task: SECURE_METRICS, source };
            let server = workers.spawn(server).await.map_err(failed)??;
            tasks.spawn(SECURE_METRICS, workers, server.map(Ok));
        }
        tasks.spawn(ELECTION, steady, elector.run(until_stopped()).map(Ok));
        tasks.spawn("fitness", steady, fitness.map(Ok));
        tasks.spawn("readiness", steady, ready(live(), health.clone()).map(Ok));
        for feed in feeds::feeds(&what_to_watch(options), &client, &self.live, &self.metrics) {
            tasks.spawn("watches", workers, feed.map(Ok));
        }
        tasks.spawn(
            "Ingress controller",
            workers,
            controllers::ingresses(live(), metrics(), until_stopped()).map(Ok),
        );
        tasks.spawn(
            "IngressClass controller",
            workers,
            controllers::classes(live(), metrics(), until_stopped()).map(Ok),
        );
        tasks.spawn(
            "fetched Secrets",
            workers,
            secrets::fetch(client.clone(), live(), feeds::WAIT_FOR_RIGHT).map(Ok),
        );
        tasks.spawn("deleted Secrets", workers, secrets::expire(live()).map(Ok));
        if let Some(exporter) = exporter {
            tasks.spawn(EXPORTER, workers, exporter.run(until_stopped()).map(Ok));
        }
        let distance = options.providers_throttle_duration.max(options.throttle_duration);
        tasks.spawn("pulse", workers, pulse(live(), health.clone(), LONGEST_MOVE + distance).map(Ok));
        let leader = Leader {
            client,
            live: live(),
            lease,
            metrics: metrics(),
            health,
            identity: self.identity.clone(),
            options: Arc::clone(options),
        };
        tasks.spawn(LEADER, workers, leader.run(until_stopped()));
        Ok(tasks)
    }

    fn elector(&self, client: kube::Client) -> (Elector, lease::LeaseHandle) {
        let election = &self.options.leader_election;
        if !election.enabled {
            return Elector::without_election(self.metrics.clone());
        }
        let lease = LeaseOptions {
            namespace: self.options.namespace.clone(),
            name: election.lease_name.clone(),
            identity: self.identity.clone(),
            timings: Timings {
                lease_duration: election.lease_duration,
                renew_deadline: election.renew_deadline,
                retry_period: election.retry_period,
            },
        };
        Elector::new(client, lease, self.metrics.clone())
    }
}

async fn connect(operator: &Operator) -> Result<Connection, ConnectError> {
    client::connect(&operator.options.access, &operator.environment, &operator.identity, &operator.metrics)
        .await
}

/// Listens, and returns the task that serves metrics.
async fn secure_metrics(
    options: Arc<Options>,
    metrics: Metrics,
    client: kube::Client,
    stopped: watch::Receiver<bool>,
) -> Result<BoxFuture<'static, ()>, RunError> {
    let files = options.metrics_cert_file.clone().zip(options.metrics_key_file.clone());
    let files = files.map(|(certificate, key)| CertificateFiles { certificate, key });
    let certificate = ServingCertificate::new(files).await?;
    let listener = listen("operator.metricsSecureAddress", &options.metrics_secure_address).await?;
    let readers = Readers::new(client, metrics.clone());
    Ok(serve::serve_secure(listener, certificate, readers, metrics, until(stopped)).boxed())
}

async fn listen(option: &'static str, address: &ListenAddress) -> Result<TcpListener, RunError> {
    let failed = |source| RunError::Listen { option, value: address.as_str().to_owned(), source };
    TcpListener::bind(address.sockets()).await.map_err(failed)
}

fn what_to_watch(options: &Options) -> Feeds {
    Feeds {
        label_selector: options.label_selector.as_str().to_owned(),
        classes: !options.class.lookup_disabled,
        nodes: !options.settings.disable_cluster_scope_resources,
        namespace: options.namespace.clone(),
        class_memory: memory::name(&options.leader_election.lease_name),
        watch_seconds: feeds::WATCH_SECONDS,
        wait_for_right: feeds::WAIT_FOR_RIGHT,
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A dropped sender counts as a signal.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Gives a sign of life while the routing's lock can be acquired. `longest` is how long a moved Ingress may be in two
/// outputs.
async fn pulse(live: Arc<Live>, health: Health, longest: Duration) {
    let heartbeat = health.heartbeat("routing");
    loop {
        live.settle_overdue(longest);
        heartbeat.beat();
        tokio::time::sleep(PULSE).await;
    }
}

/// Ready once every watch has listed, whether it leads or not, because a replica that can't list is useless.
async fn ready(live: Arc<Live>, health: Health) {
    live.reached(Phase::Synced).await;
    health.set_ready();
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;
    use crate::options::from_yaml_str;

    /// Against an API server that nobody runs.
    fn operator(metrics: SocketAddr) -> Operator {
        let options = from_yaml_str(&format!(
            "{{providers: {{kubernetesIngress: {{endpoint: 'http://127.0.0.1:9'}}}}, operator: {{metricsAddress: '{metrics}'}}}}"
        ));
        Operator::new(options.unwrap().options, Environment::of_process()).unwrap()
    }

    #[tokio::test]
    async fn a_replica_that_reaches_no_api_server_lives_and_is_not_ready() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let operator = operator(address);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = std::thread::spawn(|| operator.run(stopped.map(|_| Ok(()))));
        let probe = async |path: &str| {
            let request = format!("GET {path} HTTP/1.0\r\n\r\n");
            let mut answer = String::new();
            // Until it listens.
            let mut stream = loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!(probe("/livez").await, "200");
        assert_eq!(probe("/readyz").await, "503");
        stop.send(()).unwrap();
        tokio::task::spawn_blocking(|| running.join().unwrap()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr();
        let kept = TcpListener::bind(taken.unwrap()).await.unwrap();
        let operator = operator(kept.local_addr().unwrap());
        let ended = tokio::task::spawn_blocking(|| operator.run(std::future::pending()));
        let error = ended.await.unwrap().unwrap_err().to_string();
        let address = format!("{:?}", kept.local_addr().unwrap().to_string());
        assert!(error.contains("operator.metricsAddress") && error.contains(&address), "{error}");
    }
}
