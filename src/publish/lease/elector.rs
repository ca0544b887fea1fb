//! The election loop: follows, leads, and releases the Lease.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::LeaseOptions;
use super::guard::{LeaseGuard, WriteError, answered};
use super::record::{self, LeaseRecord};
use crate::kubernetes::request::with_timeout;
use crate::kubernetes::well_known::WAYBILL;
use crate::metrics::{Metrics, WatchKind, WriteFailure, WriteKind, WriteResult};
use crate::pace::{Reminder, random};
use crate::publish::error::failure;

/// How long a release waits for current writes. If they take longer, the lease is not released and expires.
const WRITES_UNDER_WAY: Duration = Duration::from_secs(3);

/// Timeout of one attempt to release; there are two.
const RELEASE: Duration = Duration::from_millis(700);

/// How often watches are renewed, so that a dead connection is noticed.
const WATCH_SECONDS: u32 = 30;

/// Minimum time between two log lines about the same trouble.
const QUIET: Duration = Duration::from_secs(30);

/// A handle on the election for the rest of the program. Cheap to clone.
#[derive(Clone)]
pub struct LeaseHandle {
    guard: watch::Receiver<Option<LeaseGuard>>,
    candidate: watch::Sender<bool>,
}

impl LeaseHandle {
    /// The current term of this replica; `None` while it follows.
    pub fn guard(&self) -> Option<LeaseGuard> {
        self.guard.borrow().clone()
    }

    /// Every change of the current term. Its guard follows the clock and may be over before the change is seen.
    pub fn changes(&self) -> watch::Receiver<Option<LeaseGuard>> {
        self.guard.clone()
    }

    /// Whether this replica is fit to lead, which is true at first. A leader that is no longer fit releases the lease
    /// and follows.
    pub fn set_candidate(&self, candidate: bool) {
        self.candidate.send_if_modified(|held| std::mem::replace(held, candidate) != candidate);
    }
}

/// Takes part in the election, or leads without one.
pub struct Elector {
    election: Option<Arc<Election>>,
    metrics: Metrics,
    guard: watch::Sender<Option<LeaseGuard>>,
    candidate: watch::Receiver<bool>,
    record: LeaseRecord,
    reminder: Reminder,
}

/// The Lease, and the client for it.
struct Election {
    client: Client,
    api: Api<Lease>,
    options: LeaseOptions,
}

/// A term that begins, with its record.
struct Elected(LeaseGuard, Lease);

/// How a term ended.
enum End {
    Lost(&'static str),
    Unfit,
    Shutdown,
}

type Shutdown<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;
type Watch = BoxStream<'static, Result<WatchEvent<Lease>, kube::Error>>;

impl Elector {
    /// Takes part in the election of a Lease when it is run.
    pub fn new(client: Client, options: LeaseOptions, metrics: Metrics) -> (Self, LeaseHandle) {
        let api = Api::namespaced(client.clone(), &options.namespace);
        Self::with(Some(Arc::new(Election { client, api, options })), metrics)
    }

    /// Leads as long as it is run and fit (`operator.leaderElection.enabled=false`). There must be no other replica.
    pub fn without_election(metrics: Metrics) -> (Self, LeaseHandle) {
        Self::with(None, metrics)
    }

    fn with(election: Option<Arc<Election>>, metrics: Metrics) -> (Self, LeaseHandle) {
        let (guard, guards) = watch::channel(None);
        let (candidates, candidate) = watch::channel(true);
        let record = LeaseRecord::default();
        let elector = Self { election, metrics, guard, candidate, record, reminder: Reminder::new(QUIET) };
        (elector, LeaseHandle { guard: guards, candidate: candidates })
    }

    /// Runs until `shutdown` resolves. Then it waits for current writes and releases the lease.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        let Some(election) = self.election.clone() else {
            return self.run_without(shutdown).await;
        };
        loop {
            let Some(Elected(guard, mut lease)) = self.follow(&election, shutdown.as_mut()).await else {
                return;
            };
            self.begin(&guard, &lease);
            let end = self.lead(&election, &guard, &mut lease, shutdown.as_mut()).await;
            self.end(&guard);
            if let End::Lost(why) = end {
                self.metrics.leases_lost.inc();
                tracing::warn!(lease = %election.options.name, why, "lost the lease; all writes stop");
                continue;
            }
            self.release(&election, &guard, lease).await;
            if let End::Shutdown = end {
                return;
            }
        }
    }

    async fn run_without(mut self, mut shutdown: Shutdown<'_>) {
        loop {
            let fit = *self.candidate.borrow_and_update();
            let guard = fit.then(LeaseGuard::without_lease);
            self.metrics.leader.set(if fit { 1.0 } else { 0.0 });
            self.guard.send_replace(guard.clone());
            let stop = tokio::select! {
                biased;
                () = &mut shutdown => true,
                () = until(&mut self.candidate, !fit) => false,
            };
            if let Some(guard) = guard {
                self.end(&guard);
                guard.idle(WRITES_UNDER_WAY).await;
            }
            if stop {
                return;
            }
        }
    }

    fn begin(&mut self, guard: &LeaseGuard, lease: &Lease) {
        let epoch = record::epoch(lease);
        tracing::info!(lease = %lease.name_any(), epoch, "leading");
        self.metrics.leader.set(1.0);
        self.metrics.watch_age.clear(WatchKind::Lease);
        self.guard.send_replace(Some(guard.clone()));
    }

    fn end(&mut self, guard: &LeaseGuard) {
        guard.end();
        self.guard.send_replace(None);
        self.metrics.leader.set(0.0);
        self.metrics.lease_renewal_age.clear();
        self.metrics.clear_leaders();
    }

    /// Waits until the lease is free, and takes it; `None` at shutdown.
    async fn follow(&mut self, election: &Election, mut shutdown: Shutdown<'_>) -> Option<Elected> {
        let options = &election.options;
        let mut watch: Option<Watch> = None;
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return None,
                // A replica that became fit checks at once.
                () = changed(&mut self.candidate) => look_at = Instant::now(),
                event = next(&mut watch) => {
                    match event {
                        Some(Ok(event)) => self.observe_event(event),
                        Some(Err(error)) => {
                            self.metrics.watch_errors.inc(WatchKind::Lease);
                            self.trouble(&error, "can't watch the Lease; polling it instead");
                            watch = None;
                        }
                        None => watch = None,
                    }
                    look_at = look_at.min(self.due(options));
                    // Released: the version from the watch is the newest one.
                    if self.record.exists() && self.may_take(options) {
                        if let Some(elected) = self.take(election).await {
                            return Some(elected);
                        }
                        look_at = Instant::now() + options.timings.retry();
                    }
                }
                () = sleep_until(look_at.into()) => {
                    let looked = tokio::select! {
                        biased;
                        () = &mut shutdown => return None,
                        looked = self.look(election) => looked,
                    };
                    look_at = Instant::now() + options.timings.retry();
                    if !looked {
                        continue;
                    }
                    if watch.is_none() {
                        self.metrics.watch_age.begun(WatchKind::Lease, election.api.resource_url());
                        watch = self.record.resource_version().map(|version| election.watch(version));
                    }
                    if !self.may_take(options) {
                        look_at = look_at.min(self.due(options));
                    } else if let Some(elected) = self.take(election).await {
                        return Some(elected);
                    }
                }
            }
        }
    }

    /// Whether the lease is free, and this replica fit to take it.
    fn may_take(&self, options: &LeaseOptions) -> bool {
        let now = Instant::now();
        *self.candidate.borrow() && self.record.free_at(&options.identity, now) <= now
    }

    /// When to read the Lease again: after a while, or as soon as it may be taken. Replicas that wait for the same
    /// moment spread out a little.
    fn due(&self, options: &LeaseOptions) -> Instant {
        let now = Instant::now();
        if !*self.candidate.borrow() {
            return now + options.timings.retry();
        }
        let spread = (options.timings.retry_period / 5).mul_f64(random());
        let free = self.record.free_at(&options.identity, now) + spread;
        free.min(now + options.timings.retry())
    }

    fn observe_event(&mut self, event: WatchEvent<Lease>) {
        let now = Instant::now();
        match event {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) => self.observe(Some(lease), now),
            WatchEvent::Deleted(_) => self.observe(None, now),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
        }
    }

    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        let before = self.record.holder().to_owned();
        self.record.observe(lease, now);
        self.metrics.lease_transitions.set(f64::from(self.record.transitions()));
        let holder = self.record.holder();
        let ours = self.election.as_ref().is_some_and(|election| holder == election.options.identity);
        if holder != before && !holder.is_empty() && !ours {
            tracing::info!(leader = holder, "following");
        }
    }

    /// Reads the Lease. Returns whether that worked.
    async fn look(&mut self, election: &Election) -> bool {
        match election.get(election.options.timings.attempt()).await {
            Ok(lease) => {
                self.observe(lease, Instant::now());
                self.reminder.reset();
                true
            }
            Err(error) => {
                self.trouble(&error, "can't read the Lease; trying again");
                false
            }
        }
    }

    /// Tries to take the lease.
    async fn take(&mut self, election: &Election) -> Option<Elected> {
        let timings = election.options.timings;
        let lease = self.record.taken(&election.options, Timestamp::now());
        let sent = Instant::now();
        match self.write(election, &lease, timings.attempt()).await {
            Ok(lease) => {
                let guard = LeaseGuard::begin(record::epoch(&lease), timings, sent);
                self.metrics.lease_renewal_age.since(sent);
                self.observe(Some(lease.clone()), Instant::now());
                Some(Elected(guard, lease))
            }
            // Another one was faster, or someone edited it. The next read shows it.
            Err(error) if error.code() == Some(409) => None,
            Err(error) => {
                self.trouble(&error, "can't take the Lease; trying again");
                None
            }
        }
    }

    /// Renews until the lease is lost or has to be released. `lease` is the last confirmed record.
    async fn lead(
        &mut self,
        election: &Election,
        guard: &LeaseGuard,
        lease: &mut Lease,
        mut shutdown: Shutdown<'_>,
    ) -> End {
        let timings = election.options.timings;
        let mut candidate = self.candidate.clone();
        let mut renew_at = Instant::now() + timings.retry_period;
        loop {
            let Some(deadline) = guard.write_deadline() else {
                return End::Lost("the term was ended");
            };
            let outcome = tokio::select! {
                biased;
                () = &mut shutdown => return End::Shutdown,
                () = until(&mut candidate, false) => return End::Unfit,
                // Before the answer of a renewal, so that a late answer does not count.
                () = sleep_until(deadline.into()) => return End::Lost("it could not be renewed in time"),
                outcome = async {
                    sleep_until(renew_at.into()).await;
                    self.renew(election, lease).await
                } => outcome,
            };
            match outcome {
                Renewal::Done { sent, record } => {
                    *lease = *record;
                    guard.renew(sent);
                    self.metrics.lease_renewal_age.since(sent);
                    self.reminder.reset();
                    renew_at = sent + timings.retry_period;
                }
                Renewal::Stale(record) => {
                    // Someone edited it, or our own renewal was executed although its answer did not arrive.
                    *lease = *record;
                    renew_at = Instant::now() + timings.retry_period / 10;
                }
                Renewal::Failed => {
                    renew_at = Instant::now() + timings.retry_period.mul_f64(0.5 + 0.5 * random());
                }
                Renewal::Taken => return End::Lost("another replica holds it"),
                Renewal::Gone => return End::Lost("it was deleted"),
            }
        }
    }

    async fn renew(&mut self, election: &Election, lease: &Lease) -> Renewal {
        let attempt = election.options.timings.attempt();
        let sent = Instant::now();
        let error = match self.write(election, &record::renewed(lease, Timestamp::now()), attempt).await {
            Ok(record) => return Renewal::Done { sent, record: Box::new(record) },
            Err(error) if error.code() == Some(404) => return Renewal::Gone,
            Err(error) if error.code() == Some(409) => match election.get(attempt).await {
                Ok(Some(found)) if record::same_term(&found, lease) => {
                    return Renewal::Stale(Box::new(found));
                }
                Ok(Some(_)) => return Renewal::Taken,
                Ok(None) => return Renewal::Gone,
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.trouble(&error, "can't renew the lease; trying again");
        Renewal::Failed
    }

    /// Releases the lease, unless a write is still in progress.
    async fn release(&mut self, election: &Election, guard: &LeaseGuard, mut lease: Lease) {
        if !guard.idle(WRITES_UNDER_WAY).await {
            tracing::warn!("a write is still under way; the lease will expire by itself");
            return;
        }
        for _ in 0..2 {
            match self.write(election, &record::released(&lease, Timestamp::now()), RELEASE).await {
                Ok(record) => {
                    self.observe(Some(record), Instant::now());
                    tracing::info!(lease = %election.options.name, "released the lease");
                    return;
                }
                // An aborted renewal may have been executed.
                Err(error) if error.code() == Some(409) => match election.get(RELEASE).await {
                    Ok(Some(found)) if record::same_term(&found, &lease) => lease = found,
                    _ => return,
                },
                Err(error) => {
                    tracing::warn!(%error, "can't release the lease; it will expire by itself");
                    return;
                }
            }
        }
    }

    async fn write(&self, election: &Election, lease: &Lease, within: Duration) -> Result<Lease, WriteError> {
        let result = election.write(lease, within).await;
        let counted = match &result {
            Ok(_) => WriteResult::Success,
            Err(WriteError::Api(error)) => WriteResult::Failed(failure(error)),
            Err(WriteError::Timeout(_)) => WriteResult::Failed(WriteFailure::Timeout),
            Err(WriteError::Uri(_)) => WriteResult::Failed(WriteFailure::Other),
        };
        self.metrics.writes.inc(WriteKind::Lease, counted);
        result
    }

    /// One log line for a persisting trouble, and another every half minute.
    fn trouble(&mut self, error: &dyn std::fmt::Display, what: &'static str) {
        if self.reminder.is_due(Instant::now()) {
            tracing::warn!(%error, "{what}");
        }
    }
}

impl Election {
    async fn get(&self, within: Duration) -> Result<Option<Lease>, WriteError> {
        answered(within, self.api.get_opt(&self.options.name)).await
    }

    /// Creates the Lease, or replaces the version on which it is based.
    async fn write(&self, lease: &Lease, within: Duration) -> Result<Lease, WriteError> {
        let body = serde_json::to_vec(lease).map_err(kube::Error::SerdeError)?;
        let path = Request::new(self.api.resource_url());
        let params = PostParams { field_manager: Some(WAYBILL.to_owned()), ..PostParams::default() };
        let request = match lease.metadata.resource_version {
            Some(_) => path.replace(&self.options.name, &params, body),
            None => path.create(&params, body),
        };
        let request = with_timeout(request.map_err(kube::Error::BuildRequest)?, within)?;
        answered(within, self.client.request(request)).await
    }

    /// A watch of the Lease from a version on. It is opened when it is first polled. A stall is harmless, since the
    /// Lease is also read regularly.
    fn watch(&self, version: &str) -> Watch {
        let (api, version) = (self.api.clone(), version.to_owned());
        let name = format!("metadata.name={}", self.options.name);
        let params = WatchParams::default().fields(&name).timeout(WATCH_SECONDS);
        let opening = async move { api.watch(&params, &version).await.map(StreamExt::boxed) };
        futures::stream::once(opening).try_flatten().boxed()
    }
}

enum Renewal {
    Done { sent: Instant, record: Box<Lease> },
    Stale(Box<Lease>),
    Failed,
    Taken,
    Gone,
}

/// Waits until the channel holds `wanted`; forever when its sender is gone.
async fn until(channel: &mut watch::Receiver<bool>, wanted: bool) {
    if channel.wait_for(|held| *held == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a change; forever when the sender is gone.
async fn changed(channel: &mut watch::Receiver<bool>) {
    if channel.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The next event; never without a watch.
async fn next(watch: &mut Option<Watch>) -> Option<Result<WatchEvent<Lease>, kube::Error>> {
    match watch {
        Some(watch) => match watch.next().await {
            // As when the version to watch from is too old.
            Some(Ok(WatchEvent::Error(status))) => Some(Err(kube::Error::Api(status))),
            other => other,
        },
        None => std::future::pending().await,
    }
}
