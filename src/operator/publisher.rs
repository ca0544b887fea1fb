//! A leader's term: what changed is committed, then statuses follow, and Events tell what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::metrics::{Label, Metrics, PublishedKind, ShardKind, WriteFailure};
use crate::operator::agents::{Agents, Commits};
use crate::operator::live::{Live, Waiting};
use crate::operator::own_watches::Own;
use crate::operator::problems::{Problems, Reporter};
use crate::operator::status_view::Statuses;
use crate::parameters::status::Publication;
use crate::publish::backoff::Backoff;
use crate::publish::error::PublishError;
use crate::publish::outputs::refusal;
use crate::publish::outputs::snapshot::Snapshot;
use crate::publish::outputs::throttle::Throttle;
use crate::publish::outputs::withdrawal::index_subject;
use crate::publish::outputs::writer::{Outcome, OutputWriter};
use crate::publish::requests::Requests;
use crate::serve::Heartbeat;
use crate::table::Counts;
use crate::translate::pause::PAUSED_ANNOTATION;
use crate::translate::problem::{Category, Problem};

/// Waits between attempts at a commit that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The longest pause between two looks at the lease and at garbage.
const LOOK: Duration = Duration::from_secs(1);

/// The options that decide how outputs are written.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Least time between two commits of an output.
    pub distance: Duration,
    /// `operator.publishBytesPerSecond`
    pub bytes_per_second: u64,
    /// `operator.maxWithdrawal`, 0 for any.
    pub max_withdrawal: u8,
}

/// Publishes for one term.
pub struct Publisher {
    live: Arc<Live>,
    requests: Requests,
    problems: Arc<Problems>,
    statuses: Arc<Statuses>,
    pace: Pace,
    metrics: Metrics,
    own: Own,
    agents: Agents,
    outputs: BTreeMap<OutputKey, Published>,
}

/// One output in this term.
struct Published {
    writer: OutputWriter,
    throttle: Throttle,
    backoff: Backoff,
    waiting: Waiting,
    commits: Commits,
    counts: Counts,
    shards: (usize, usize),
    failed: Option<WriteFailure>,
    held: bool,
    paused: bool,
}

impl Publisher {
    /// Begins a term. Everything is looked at again.
    pub fn new(
        client: Client,
        live: Arc<Live>,
        requests: Requests,
        problems: Arc<Problems>,
        statuses: Arc<Statuses>,
        pace: Pace,
    ) -> Self {
        let metrics = requests.metrics().clone();
        live.everything_pending();
        Self {
            agents: Agents::new(client.clone()),
            own: Own::new(client, metrics.clone()),
            live,
            requests,
            problems,
            statuses,
            pace,
            metrics,
            outputs: BTreeMap::new(),
        }
    }

    /// Publishes until the guard allows no more writes. What is under way then is finished.
    pub async fn run(mut self, heartbeat: Heartbeat) {
        while self.requests.allowed() {
            heartbeat.beat();
            self.take_pending();
            let now = Instant::now();
            let late = self.statuses.release(now, |output, commit| self.agents.have(output, commit));
            self.metrics.statuses_unconfirmed.add(late as u64);
            self.show_agents(now);
            let next = self
                .outputs
                .iter()
                .filter_map(|(key, output)| Some((output.throttle.due(now)?, key.clone())))
                .min();
            if let Some((due, key)) = &next
                && *due <= now
            {
                heartbeat.during(self.commit(key)).await;
                self.show();
                continue;
            }
            heartbeat.during(self.collect_garbage()).await;
            let wait = next.map_or(LOOK, |(due, _)| due.saturating_duration_since(now).min(LOOK));
            tokio::select! {
                () = self.live.changed.notified() => {}
                () = self.agents.changed() => {}
                news = self.own.next() => {
                    if let Some((kind, key, seen)) = news
                        && let Some(output) = self.outputs.get_mut(&key)
                        && output.writer.observe(kind, seen)
                    {
                        output.throttle.changed();
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.live.everything_pending();
    }

    fn take_pending(&mut self) {
        let pending = self.live.take_pending();
        for (key, waiting) in pending.outputs {
            if !self.outputs.contains_key(&key) {
                self.own.watch(&key);
                self.agents.watch(&key);
            }
            let (requests, pace) = (&self.requests, self.pace);
            let output = self.outputs.entry(key.clone()).or_insert_with(|| Published {
                writer: OutputWriter::new(key, requests.clone(), pace.max_withdrawal),
                throttle: Throttle::new(pace.distance, pace.bytes_per_second),
                backoff: Backoff::new(RETRY.0, RETRY.1),
                waiting: Waiting::default(),
                commits: Commits::default(),
                counts: Counts::default(),
                shards: (0, 0),
                failed: None,
                held: false,
                paused: false,
            });
            output.throttle.changed();
            output.waiting.since(waiting);
        }
        self.statuses.look_at(pending.statuses, pending.all_statuses, |output| {
            self.outputs.get(output).is_some_and(|output| output.waiting.oldest().is_some())
        });
        let oldest = self.outputs.values().filter_map(|output| output.waiting.oldest()).min();
        match oldest {
            Some(at) => self.metrics.pending_age.since(at),
            None => self.metrics.pending_age.clear(),
        }
    }

    async fn commit(&mut self, key: &OutputKey) {
        let Some(output) = self.outputs.get_mut(key) else { return };
        output.throttle.started(Instant::now());
        if let Err(error) = output.writer.take_over().await {
            return self.failed(key, &error);
        }
        let pausing = self.live.routing().classes().pausing(key).cloned();
        if let Some(class) = pausing {
            return self.paused(key, paused_by(key, &class));
        }
        let waiting = std::mem::take(&mut output.waiting);
        let (snapshot, arrived) = {
            let mut routing = self.live.routing();
            let arrived: Vec<IngressKey> = routing.table().moving_to(key).cloned().collect();
            let table = routing.table_mut().declare(key);
            (Snapshot::of(table, |part, digest| output.writer.needs(part, digest)), arrived)
        };
        let outcome = output.writer.commit(&snapshot).await;
        let now = Instant::now();
        match outcome {
            Ok(Outcome::Committed(_) | Outcome::Unchanged) => {
                if let Ok(Outcome::Committed(report)) = &outcome {
                    output.throttle.wrote(now, report.bytes);
                    tracing::debug!(%key, generation = report.generation, bytes = report.bytes, "committed");
                    if let Some(at) = waiting.change {
                        self.metrics.change_to_commit.observe(at.elapsed().as_secs_f64());
                    }
                    if let Some(at) = waiting.deletion {
                        self.metrics.deletion_to_commit.observe(at.elapsed().as_secs_f64());
                    }
                }
                output.backoff.reset();
                output.counts = snapshot.wanted.counts;
                output.shards = (snapshot.wanted.routing_shards().len(), snapshot.wanted.key_shards.len());
                if output.failed.take().is_some() {
                    tracing::info!(output = %key, "published again");
                }
                (output.held, output.paused) = (false, false);
                let resumed = !self.live.is_committed(key);
                self.live.set_publication(key, Publication::Committed);
                let commit = output.writer.index().map_or((0, 0), |index| (index.epoch, index.generation));
                output.commits.push(commit, now);
                self.statuses.committed(key, commit, resumed, self.agents.have(key, commit));
                // Only now may what has moved here leave where it was: nothing is ever in neither.
                self.live.settle(key, &arrived);
                self.metrics.published_age.since(now);
                self.problems.set(Reporter::Output(key.clone()), Vec::new());
            }
            Ok(Outcome::Held(held)) => {
                output.waiting.since(waiting);
                (output.held, output.paused) = (true, false);
                self.live.set_publication(key, Publication::Held(Category::WithdrawalHeld));
                self.tell_of_index(key, vec![held.problem(key)]);
            }
            Ok(Outcome::Paused(pause)) => {
                output.waiting.since(waiting);
                self.paused(key, pause.problems(&index_subject(key), "nothing is published"));
            }
            Err(error) => {
                output.waiting.since(waiting);
                self.failed(key, &error);
            }
        }
    }

    fn paused(&mut self, key: &OutputKey, problems: Vec<Problem>) {
        if let Some(output) = self.outputs.get_mut(key) {
            (output.held, output.paused) = (false, true);
            if output.failed.take().is_some() {
                output.backoff.reset();
            }
        }
        self.live.set_publication(key, Publication::Held(Category::Paused));
        self.tell_of_index(key, problems);
    }

    fn tell_of_index(&self, key: &OutputKey, problems: Vec<Problem>) {
        let uid = self.outputs.get(key).and_then(|output| output.writer.index_uid());
        self.problems.set_uid(&index_subject(key), uid.unwrap_or_default());
        self.problems.set(Reporter::Output(key.clone()), problems);
    }

    fn failed(&mut self, key: &OutputKey, error: &PublishError) {
        let Some(output) = self.outputs.get_mut(key) else { return };
        let wait = output.backoff.next_wait();
        output.throttle.failed(Instant::now(), wait);
        if output.failed != Some(error.category()) {
            tracing::warn!(output = %key, %error, "not published; trying again");
        }
        output.failed = Some(error.category());
        self.live.set_publication(key, Publication::Failing(Label::as_str(error.category())));
        let problem = refusal::problem(key, output.writer.index_uid(), error).map(|(problem, uid)| {
            self.problems.set_uid(&problem.subject, &uid);
            problem
        });
        self.problems.set(Reporter::Output(key.clone()), problem.into_iter().collect());
    }

    async fn collect_garbage(&mut self) {
        for (key, output) in &mut self.outputs {
            if output.writer.garbage_due().is_some_and(|due| due <= Instant::now())
                && let Err(error) = output.writer.collect_garbage(Instant::now()).await
            {
                tracing::debug!(output = %key, %error, "garbage stays for now");
            }
        }
    }

    /// Shows how far the proxies of all outputs are.
    fn show_agents(&self, now: Instant) {
        let (mut live, mut behind, mut lag) = (0, 0, Duration::ZERO);
        for (key, output) in &self.outputs {
            let Some(newest) = output.commits.newest() else { continue };
            let counts = self.agents.count(key, newest);
            live += counts.live;
            behind += counts.live - counts.current;
            lag = counts.slowest.map_or(lag, |slowest| lag.max(output.commits.age_after(slowest, now)));
        }
        self.metrics.agents.set(live as f64);
        self.metrics.agents_behind.set(behind as f64);
        self.metrics.agents_lag.set(lag.as_secs_f64());
    }

    /// Shows what all outputs together are.
    fn show(&self) {
        let metrics = &self.metrics;
        let sum = |of: fn(&Published) -> usize| self.outputs.values().map(of).sum::<usize>() as f64;
        metrics.published.set(PublishedKind::Router, sum(|output| output.counts.routers));
        metrics.published.set(PublishedKind::Service, sum(|output| output.counts.services));
        metrics.published.set(PublishedKind::Certificate, sum(|output| output.counts.certificates));
        metrics.shards.set(ShardKind::Routing, sum(|output| output.shards.0));
        metrics.shards.set(ShardKind::Keys, sum(|output| output.shards.1));
        metrics.withdrawal_held.set(f64::from(u8::from(self.outputs.values().any(|output| output.held))));
        metrics.paused.set(f64::from(u8::from(self.outputs.values().any(|output| output.paused))));
        let now = Instant::now();
        let stretch =
            self.outputs.values().map(|output| output.throttle.stretch(now)).max().unwrap_or_default();
        metrics.throttle_stretch.set(stretch.as_secs_f64());
        // Each is set once, so that no scrape sees a reason vanish that still holds.
        for &failure in WriteFailure::ALL {
            let holds = self.outputs.values().any(|output| output.failed == Some(failure));
            metrics.publish_error.set(failure, f64::from(u8::from(holds)));
        }
    }
}

/// That a class pauses an output, as a problem of its index.
fn paused_by(output: &OutputKey, class: &str) -> Vec<Problem> {
    vec![Problem {
        category: Category::Paused,
        subject: index_subject(output),
        field: "data".to_owned(),
        value: Problem::shown(class),
        remedy: format!(
            "the IngressClass of this name publishes here and its annotation {PAUSED_ANNOTATION} pauses it, so \
             nothing is published; remove the annotation from the IngressClass to go on"
        ),
    }]
}
