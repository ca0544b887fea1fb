//! The publisher of a leader's term. It commits changes, output by output, and then releases statuses.
//!
//! ```text
//! Live ── what changed ──▶ throttle ─▶ snapshot ─▶ OutputWriter: shards, then the index
//! OwnWatches ── edited or gone ─┘                      │ committed
//!                                                      ├─▶ statuses
//!                                                      └─▶ upkeep, beside the commits: garbage, the text
//! ```

mod shown;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::kubernetes::key::{IngressKey, OutputKey};
use crate::metrics::{Label, Metrics, WriteFailure};
use crate::operator::agents::{AgentTotals, Agents, Commits};
use crate::operator::live::Live;
use crate::operator::own_watches::{News, OwnWatches};
use crate::operator::pending::Waiting;
use crate::operator::problems::{ProblemReports, ReportedBy};
use crate::operator::status_view::Statuses;
use crate::pace::Backoff;
use crate::parameters::classes::Classes;
use crate::parameters::status::Publication;
use crate::publish::PublishError;
use crate::publish::Requests;
use crate::publish::outputs::{
    GarbageSchedule, Outcome, OutputWriter, OwnKind, Refusals, Seen, TextSchedule, Throttle, index_subject,
    refusal_problem,
};
use crate::published::index::{CommitId, Index};
use crate::published::objects;
use crate::serve::Heartbeat;
use crate::spans::{CommitFacts, CommitSpan};
use crate::table::Counts;
use crate::translate::pause::PAUSED_ANNOTATION;
use crate::translate::problem::{Category, Problem};
use upkeep::{UPKEEP, Upkeep};

/// The delays between attempts at a commit that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The longest interval between checks of the lease and of garbage.
const LOOK: Duration = Duration::from_secs(1);

/// The maximum number of events of own objects that are handled between two commits.
const NEWS: usize = 256;

/// The options for writing outputs.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Minimum time between two commits of an output.
    pub distance: Duration,
    /// `operator.publishBytesPerSecond`
    pub bytes_per_second: u64,
    /// `operator.maxWithdrawal`, 0 for no limit.
    pub max_withdrawal: u8,
}

/// Publishes for one term.
pub struct Publisher {
    live: Arc<Live>,
    requests: Requests,
    problems: Arc<ProblemReports>,
    statuses: Arc<Statuses>,
    pace: Pace,
    metrics: Metrics,
    own: OwnWatches,
    agents: Agents,
    agent_totals: AgentTotals,
    /// When the progress of agents was last shown.
    agents_shown: Option<Instant>,
    outputs: BTreeMap<OutputKey, OutputState>,
    upkeep: JoinSet<(OutputKey, Upkeep)>,
}

/// One output in this term.
struct OutputState {
    writer: OutputWriter,
    throttle: Throttle,
    backoff: Backoff,
    garbage: GarbageSchedule,
    text: TextSchedule,
    /// What kept the last attempt from committing it.
    commit_problems: Vec<Problem>,
    /// What kept the last attempt from writing its text.
    text_problems: Vec<Problem>,
    waiting: Waiting,
    commits: Commits,
    counts: Counts,
    shards: (usize, usize),
    failed: Option<WriteFailure>,
    refusals: Refusals,
    held: bool,
    paused: bool,
    /// The last commit is empty.
    emptied: bool,
}

impl OutputState {
    fn new(key: OutputKey, requests: Requests, pace: Pace) -> Self {
        Self {
            writer: OutputWriter::new(key, requests, pace.max_withdrawal),
            throttle: Throttle::new(pace.distance, pace.bytes_per_second),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            garbage: GarbageSchedule::default(),
            text: TextSchedule::default(),
            commit_problems: Vec::new(),
            text_problems: Vec::new(),
            waiting: Waiting::default(),
            commits: Commits::default(),
            counts: Counts::default(),
            shards: (0, 0),
            failed: None,
            refusals: Refusals::default(),
            held: false,
            paused: false,
            emptied: false,
        }
    }

    /// An attempt to commit did not fail.
    fn succeeded(&mut self) {
        self.backoff.reset();
        if self.failed.take().is_some() {
            self.refusals.reset();
        }
    }

    /// Whether it can be committed without somebody acting first.
    fn goes_on(&self) -> bool {
        self.failed.is_none() && !self.held && !self.paused
    }

    fn observe(&mut self, key: &OutputKey, kind: OwnKind, seen: Seen) {
        let now = Instant::now();
        let text = objects::text_name(key);
        let is_text = |metadata: &&ObjectMeta| {
            kind == OwnKind::ConfigMap && metadata.name.as_deref() == Some(text.as_str())
        };
        match &seen {
            Seen::Applied(metadata) if is_text(&metadata) => {
                self.text.observed(now, metadata.resource_version.as_deref());
            }
            Seen::Deleted(metadata) if is_text(&metadata) => self.text.observed(now, None),
            Seen::Listed(all) if kind == OwnKind::ConfigMap => {
                let held = all.iter().find(is_text);
                self.text.observed(now, held.and_then(|metadata| metadata.resource_version.as_deref()));
            }
            _ => {}
        }
        if self.writer.observe(kind, seen) {
            self.throttle.changed(now);
        }
    }
}

impl Publisher {
    /// Starts a term. Everything is checked again.
    pub fn new(
        client: Client,
        live: Arc<Live>,
        requests: Requests,
        problems: Arc<ProblemReports>,
        statuses: Arc<Statuses>,
        agent_totals: AgentTotals,
        pace: Pace,
    ) -> Self {
        let metrics = requests.metrics().clone();
        live.everything_pending();
        Self {
            agents: Agents::new(client.clone(), metrics.clone()),
            agent_totals,
            agents_shown: None,
            own: OwnWatches::new(client, metrics.clone()),
            live,
            requests,
            problems,
            statuses,
            pace,
            metrics,
            outputs: BTreeMap::new(),
            upkeep: JoinSet::new(),
        }
    }

    /// Publishes until the guard allows no more writes. The current write is finished.
    pub async fn run(mut self, heartbeat: Heartbeat) {
        while self.requests.allowed() {
            heartbeat.beat();
            self.take_pending();
            for _ in 0..NEWS {
                let Some(news) = self.own.try_next() else { break };
                self.observe(news);
            }
            while let Some(done) = self.upkeep.try_join_next() {
                self.upkept(done.ok());
            }
            let now = Instant::now();
            if self.live.spans.is_on() {
                self.outputs
                    .keys()
                    .for_each(|key| self.live.spans.loaded(key, self.agents.loaded_by_all(key)));
            }
            for (output, late) in self.statuses.release(now, |output| self.agents.loaded_by_all(output)) {
                self.metrics.statuses_unconfirmed.add(&output.to_string(), late);
            }
            self.show_agents(now);
            self.forget_retired(now);
            self.start_upkeep(now);
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
            let wait = next.map_or(LOOK, |(due, _)| due.saturating_duration_since(now).min(LOOK));
            tokio::select! {
                () = self.live.changed.notified() => {}
                () = self.agents.changed() => {}
                Some(news) = self.own.next() => self.observe(news),
                Some(done) = self.upkeep.join_next() => self.upkept(done.ok()),
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.live.everything_pending();
    }

    /// Handles changes that somebody made to our objects.
    fn observe(&mut self, news: News) {
        match news {
            News::Object(kind, key, seen) => {
                if let Some(output) = self.outputs.get_mut(&key) {
                    output.observe(&key, kind, *seen);
                }
            }
            News::Listed(kind, namespace, all) => {
                let mut by_output: BTreeMap<&str, Vec<ObjectMeta>> = BTreeMap::new();
                for metadata in &all {
                    let name = objects::output_of(metadata.name.as_deref().unwrap_or_default());
                    by_output.entry(name).or_default().push(metadata.clone());
                }
                for (key, output) in self.outputs.iter_mut().filter(|(key, _)| key.namespace() == namespace) {
                    let listed = by_output.remove(key.name()).unwrap_or_default();
                    output.observe(key, kind, Seen::Listed(listed));
                }
            }
        }
    }

    /// Reports all problems of an output.
    fn report(&self, key: &OutputKey) {
        let Some(output) = self.outputs.get(key) else { return };
        if let Some(uid) = output.writer.index_uid() {
            self.problems.set_uid(&index_subject(key), uid);
        }
        let text = output.text.problem(key);
        let problems =
            output.commit_problems.iter().chain(&output.text_problems).cloned().chain(text).collect();
        self.problems.set(ReportedBy::Output(key.clone()), problems);
    }

    fn take_pending(&mut self) {
        let routing = self.live.routing();
        let pending = self.live.take_pending();
        for (key, waiting) in pending.outputs {
            if !self.outputs.contains_key(&key) {
                self.own.watch(&key);
                self.agents.watch(&key);
            }
            let (requests, pace) = (&self.requests, self.pace);
            let output = self
                .outputs
                .entry(key.clone())
                .or_insert_with(|| OutputState::new(key, requests.clone(), pace));
            output.throttle.changed(Instant::now());
            output.waiting.since(waiting);
        }
        self.statuses.note_left(pending.left);
        self.statuses.look_at(routing, pending.statuses, pending.all_statuses, |output| {
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
        if output.refusals.has_begun() && output.writer.namespace_is_gone().await {
            if self.let_go(key) {
                tracing::info!(output = %key, "no class publishes here any more, and the namespace is gone");
                return;
            }
            self.still_wanted(key);
        }
        let Some(output) = self.outputs.get_mut(key) else { return };
        if let Err(error) = output.writer.take_over().await {
            return self.failed(key, &error);
        }
        let pausing = paused_by_class(key, self.live.routing().classes());
        if let Some(problem) = pausing {
            return self.paused(key, problem.category, vec![problem]);
        }
        let waiting = std::mem::take(&mut output.waiting);
        let with_text = output.text.is_due(Instant::now()) && self.upkeep.len() < UPKEEP;
        let (mut snapshot, arrived, span) = {
            let mut routing = self.live.routing();
            let span = self.live.spans.committing(key);
            self.live.commit_begins(key);
            let arrived: Vec<IngressKey> = routing.table().moving_to(key).cloned().collect();
            let table = routing.table_mut().declare(key);
            let snapshot = output.writer.snapshot(table);
            let mut snapshot = if with_text { snapshot.with_text(table) } else { snapshot };
            snapshot.retired = routing.is_retired(key);
            (snapshot, arrived, span)
        };
        // Without agents, nothing is awaited.
        let newest = output.writer.index().map_or(CommitId::NOTHING, Index::commit);
        snapshot.awaited = self.agents.loaded_by_all(key) <= newest && self.statuses.await_commit(key);
        let log = self.live.spans.log(span.as_ref().and_then(CommitSpan::first));
        let outcome = output.writer.commit(&snapshot).instrument(log.clone()).await;
        let _log = log.entered();
        let now = Instant::now();
        match outcome {
            Ok(Outcome::Committed(_) | Outcome::Unchanged) => {
                if let Ok(Outcome::Committed(report)) = &outcome {
                    output.throttle.wrote(now, report.bytes);
                    output.refusals.reset();
                    tracing::debug!(%key, generation = report.generation, bytes = report.bytes, "committed");
                    if let Some(at) = waiting.change {
                        self.metrics.change_to_commit.observe(at.elapsed().as_secs_f64());
                    }
                    if let Some(at) = waiting.deletion {
                        self.metrics.deletion_to_commit.observe(at.elapsed().as_secs_f64());
                    }
                }
                if output.failed.is_some() {
                    tracing::info!(output = %key, "publishing works again");
                }
                output.succeeded();
                output.text.committed(now, snapshot.desired.hash, snapshot.text_bytes);
                output.commit_problems.clear();
                output.emptied = snapshot.desired.counts == Counts::default();
                output.counts = snapshot.desired.counts;
                output.shards = (snapshot.desired.routing_shards.len(), snapshot.desired.key_shards.len());
                (output.held, output.paused) = (false, false);
                let commit = output.writer.index().map_or(CommitId::NOTHING, Index::commit);
                output.commits.push(commit, now);
                // Before others are notified of the commit, so that what they write has the counts of this term.
                self.agent_totals.add(key.clone(), self.agents.totals(key, &output.commits, now));
                let resumed = !self.live.is_committed(key);
                self.live.set_publication(key, Publication::Committed);
                if let Some(span) = span {
                    let bytes = if let Ok(Outcome::Committed(report)) = &outcome { report.bytes } else { 0 };
                    let awaited = self.agents.loaded_by_all(key) < commit;
                    span.committed(&CommitFacts { commit, bytes, awaited });
                }
                self.statuses.committed(key, commit, resumed, self.agents.loaded_by_all(key));
                // Only now may moved Ingresses leave their old outputs, so that they are never in neither.
                self.live.settle(key, &arrived);
                self.metrics.published_age.since(now);
                if with_text {
                    self.start_text(key, snapshot.text.take());
                }
                self.report(key);
            }
            Ok(Outcome::Held(held)) => {
                span.into_iter().for_each(|span| span.failed("held by operator.maxWithdrawal"));
                output.waiting.since(waiting);
                (output.held, output.paused) = (true, false);
                output.succeeded();
                output.commit_problems = vec![held.problem(key)];
                self.live.set_publication(key, Publication::Held(Category::WithdrawalHeld));
                self.report(key);
            }
            Ok(Outcome::Paused(pause)) => {
                span.into_iter().for_each(|span| span.failed("the output is paused"));
                output.waiting.since(waiting);
                self.paused(
                    key,
                    Category::Paused,
                    pause.problems(&index_subject(key), "nothing new is published"),
                );
            }
            Err(error) => {
                span.into_iter().for_each(|span| span.failed(&error.to_string()));
                output.waiting.since(waiting);
                self.failed(key, &error);
            }
        }
    }

    fn paused(&mut self, key: &OutputKey, why: Category, problems: Vec<Problem>) {
        if let Some(output) = self.outputs.get_mut(key) {
            (output.held, output.paused) = (false, true);
            output.succeeded();
            output.commit_problems = problems;
        }
        self.live.set_publication(key, Publication::Held(why));
        self.report(key);
    }

    fn failed(&mut self, key: &OutputKey, error: &PublishError) {
        let Some(output) = self.outputs.get_mut(key) else { return };
        let wait = output.backoff.next_wait();
        output.throttle.failed(Instant::now(), wait);
        if output.failed != Some(error.category()) {
            tracing::warn!(output = %key, %error, "not published; trying again");
        }
        let again = output.failed.replace(error.category()).is_some();
        output.refusals.note(error, Instant::now(), || self.live.routing().is_retired(key));
        // A single failure that resolves by itself says nothing about what is published.
        if again || !error.is_passing() {
            self.live.set_publication(key, Publication::Failing(Label::as_str(error.category())));
        }
        let refused = self.refused(key, error);
        if let (Some(output), Some(problem)) = (self.outputs.get_mut(key), refused) {
            output.commit_problems = vec![problem];
        }
        self.report(key);
    }

    /// What an error says about an output. A temporary one says nothing, so that the last known problem stays.
    fn refused(&self, key: &OutputKey, error: &PublishError) -> Option<Problem> {
        let (problem, uid) = refusal_problem(key, self.outputs.get(key)?.writer.index_uid(), error)?;
        self.problems.set_uid(&problem.subject, &uid);
        Some(problem)
    }
}

/// The problem of an index that a class pauses or withholds.
fn paused_by_class(output: &OutputKey, classes: &Classes) -> Option<Problem> {
    let (category, class, remedy) = if let Some(class) = classes.pausing(output) {
        let remedy = format!(
            "the IngressClass of this name publishes here, and its annotation {PAUSED_ANNOTATION} pauses it, so \
             nothing new is published; remove the annotation from the IngressClass to resume"
        );
        (Category::Paused, class, remedy)
    } else {
        let remedy = "the IngressClass of this name publishes here and selects namespaces by label, but labels \
             cannot be read, so the published routing stays as it is; give waybill the right to list and watch Namespaces"
            .to_owned();
        (Category::NamespacesUnavailable, classes.withholding(output)?, remedy)
    };
    Some(Problem {
        category,
        subject: index_subject(output),
        field: "data".to_owned(),
        value: Problem::shown(class),
        remedy,
    })
}

#[cfg(test)]
mod tests;
