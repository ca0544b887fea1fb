//! Tracks which generation the proxies of each output have loaded, from the Leases of their agents (see
//! `published::agents`).
//!
//! Anyone who may write Leases in the namespace of an output can claim anything there. So at most [`LIMIT`] of them
//! count, each for an hour at most, and statuses wait for `operator.statusDelay` at most. A report counts from when it
//! was seen by our own clock. The clocks of agents do not matter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::PART_LABEL;
use crate::metrics::{IgnoredReport, Metrics, WatchKind};
use crate::operator::feeds::{self, WATCH_SECONDS};
use crate::pace::Reminder;
use crate::published::agents::{AGENT_PART, AgentReport, ReportError};
use crate::published::index::CommitId;

/// The maximum number of known agents of a namespace; statuses do not wait for more.
const LIMIT: usize = 10_000;

/// The page size for lists of Leases. Anyone who may write Leases can make each as large as etcd allows, 1.5 MB.
const PAGE: u32 = 10;

/// The number of stored commits of an output.
const REMEMBERED: usize = 256;

/// The longest time for which a report is valid, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long agents may be unknown. If their Leases can't be listed by then, only those that were seen count.
const LISTING: Duration = Duration::from_secs(60);

/// The time between two log lines about ignored Leases, and between two checks for expired ones.
const AGAIN: Duration = Duration::from_secs(60);
const TIDY_AGAIN: Duration = Duration::from_secs(1);

/// The last commits of an output, with their times.
#[derive(Debug, Default)]
pub struct Commits(VecDeque<(CommitId, Instant)>);

impl Commits {
    /// Adds a commit, unless it is the last one again.
    pub fn push(&mut self, commit: CommitId, at: Instant) {
        if self.newest() != Some(commit) {
            self.0.push_back((commit, at));
        }
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The newest one.
    pub fn newest(&self) -> Option<CommitId> {
        self.0.back().map(|(commit, _)| *commit)
    }

    /// The minimum that an up-to-date agent has loaded.
    pub fn up_to_date(&self, now: Instant) -> CommitId {
        let settled = self.0.iter().rev().find(|(_, at)| now.saturating_duration_since(*at) >= UP_TO_DATE);
        settled.map_or(CommitId::NOTHING, |(commit, _)| *commit)
    }

    /// The age of the first commit after `loaded`.
    pub fn age_after(&self, loaded: CommitId, now: Instant) -> Duration {
        let next = self.0.iter().find(|(commit, _)| *commit > loaded);
        next.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

/// An agent that is behind for no longer than this counts as up to date in statuses, since most generations are
/// reported only when it is the agent's turn.
const UP_TO_DATE: Duration = Duration::from_secs(30);

/// How many agents of an output are live and how many of them are up to date, once this is known.
pub type Totals = Option<(u64, u64)>;

/// The totals of each output that was committed in this term. Shared by the parts of a term.
#[derive(Clone, Default)]
pub struct AgentTotals(Arc<Mutex<BTreeMap<OutputKey, Totals>>>);

impl AgentTotals {
    /// Those of all outputs.
    pub fn set(&self, totals: BTreeMap<OutputKey, Totals>) {
        *self.0.lock() = totals;
    }

    /// Those of an output that was just committed.
    pub fn add(&self, output: OutputKey, totals: Totals) {
        self.0.lock().insert(output, totals);
    }

    /// Whether all of these outputs were committed in this term.
    pub fn are_committed(&self, outputs: &BTreeSet<OutputKey>) -> bool {
        let totals = self.0.lock();
        outputs.iter().all(|output| totals.contains_key(output))
    }

    /// The sums over some outputs, if all of them are known.
    pub fn of(&self, outputs: &BTreeSet<OutputKey>) -> Totals {
        let totals = self.0.lock();
        outputs.iter().try_fold((0, 0), |(live, updated), output| {
            let one = (*totals.get(output)?)?;
            Some((live + one.0, updated + one.1))
        })
    }
}

/// The progress of the agents of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Agents with a valid report.
    pub live: usize,
    /// Those of them that have loaded a commit or a later one.
    pub current: usize,
    /// What the slowest of them has loaded.
    pub slowest: Option<CommitId>,
}

/// An agent, according to its last seen Lease.
#[derive(Clone, Debug)]
struct KnownAgent {
    output: String,
    loaded: CommitId,
    renewed: Timestamp,
    /// When its report expires, by our own clock.
    until: Instant,
}

/// The agents of one namespace.
#[derive(Debug)]
struct KnownAgents {
    /// When its Leases were first requested.
    begun: Instant,
    /// Whether its Leases have been listed, or can't be.
    listed: bool,
    /// By the name of the Lease.
    agents: HashMap<String, KnownAgent>,
    tidied: Option<Instant>,
}

type ByNamespace = Arc<Mutex<BTreeMap<String, KnownAgents>>>;

/// Follows the reports of agents until it is dropped.
pub struct Agents {
    client: Client,
    metrics: Metrics,
    known: ByNamespace,
    changed: Arc<Notify>,
    /// The task of each namespace.
    tasks: BTreeMap<String, JoinSet<()>>,
}

impl Agents {
    /// No watches yet.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, known: Arc::default(), changed: Arc::default(), tasks: BTreeMap::new() }
    }

    /// Also watches the reports in the namespace of an output.
    pub fn watch(&mut self, output: &OutputKey) {
        let namespace = output.namespace();
        let mut known = lock(&self.known);
        if !known.contains_key(namespace) {
            known.insert(namespace.to_owned(), KnownAgents::new(Instant::now()));
            let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
            self.metrics.watch_age.begun(WatchKind::AgentLease, leases.resource_url());
            let follower = Follower {
                namespace: namespace.to_owned(),
                metrics: self.metrics.clone(),
                known: Arc::clone(&self.known),
                changed: Arc::clone(&self.changed),
                reminder: Reminder::new(AGAIN),
            };
            let mut tasks = JoinSet::new();
            tasks.spawn(follower.follow(leases));
            self.tasks.insert(namespace.to_owned(), tasks);
        }
    }

    /// Stops watching a namespace.
    pub fn end(&mut self, namespace: &str) {
        self.tasks.remove(namespace);
        lock(&self.known).remove(namespace);
        self.metrics.watch_age.ended(WatchKind::AgentLease, &Lease::url_path(&(), Some(namespace)));
    }

    /// The newest commit that every live agent of an output has loaded, or all commits if there is no agent.
    pub fn loaded_by_all(&self, output: &OutputKey) -> CommitId {
        let known = lock(&self.known);
        known
            .get(output.namespace())
            .map_or(CommitId::EVERYTHING, |known| known.loaded_by_all(output, Instant::now()))
    }

    /// The progress of the agents of an output.
    pub fn count(&self, output: &OutputKey, commit: CommitId) -> AgentCounts {
        let known = lock(&self.known);
        known
            .get(output.namespace())
            .map(|known| known.count(output, commit, Instant::now()))
            .unwrap_or_default()
    }

    /// The totals of an output with these commits.
    pub fn totals(&self, output: &OutputKey, commits: &Commits, now: Instant) -> Totals {
        lock(&self.known).get(output.namespace())?.totals(output, commits, now)
    }

    /// Resolves when a report with news has arrived.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.metrics.watch_age.clear(WatchKind::AgentLease);
    }
}

/// Why a Lease is ignored.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error("{0}")]
    Unreadable(#[from] ReportError),
    #[error("there are over {LIMIT} of them; delete those that do not belong to agents")]
    TooMany,
}

impl KnownAgents {
    fn new(begun: Instant) -> Self {
        Self { begun, listed: false, agents: HashMap::new(), tidied: None }
    }

    fn live<'a>(&'a self, output: &'a OutputKey, now: Instant) -> impl Iterator<Item = &'a KnownAgent> {
        self.agents.values().filter(move |agent| agent.until > now && agent.output == output.name())
    }

    fn loaded_by_all(&self, output: &OutputKey, now: Instant) -> CommitId {
        if !self.listed {
            return CommitId::NOTHING;
        }
        self.live(output, now).map(|agent| agent.loaded).min().unwrap_or(CommitId::EVERYTHING)
    }

    fn count(&self, output: &OutputKey, commit: CommitId, now: Instant) -> AgentCounts {
        self.live(output, now).fold(AgentCounts::default(), |counts, agent| AgentCounts {
            live: counts.live + 1,
            current: counts.current + usize::from(agent.loaded >= commit),
            slowest: Some(counts.slowest.map_or(agent.loaded, |slowest| slowest.min(agent.loaded))),
        })
    }

    fn totals(&self, output: &OutputKey, commits: &Commits, now: Instant) -> Totals {
        if !self.listed && now.saturating_duration_since(self.begun) < LISTING {
            return None;
        }
        let counts = self.count(output, commits.up_to_date(now), now);
        Some((counts.live as u64, counts.current as u64))
    }

    /// Applies a Lease. Returns whether it contains news. An unreadable one changes nothing.
    fn take(&mut self, lease: &Lease, now: Instant) -> Result<bool, Ignored> {
        let report = AgentReport::try_from(lease)?;
        let name = lease.name_any();
        if self.agents.len() >= LIMIT && !self.agents.contains_key(&name) {
            if self.tidied.is_none_or(|at| now.saturating_duration_since(at) >= TIDY_AGAIN) {
                self.tidied = Some(now);
                self.agents.retain(|_, agent| agent.until > now);
            }
            if self.agents.len() >= LIMIT {
                return Err(Ignored::TooMany);
            }
        }
        let AgentReport { output, loaded, renewed, counts_for } = report;
        let until = now + counts_for.min(LONGEST);
        let Some(agent) = self.agents.get_mut(&name) else {
            self.agents.insert(name, KnownAgent { output, loaded, renewed, until });
            return Ok(true);
        };
        // A list or an edit may show the same report again. That does not extend its validity.
        let until = if agent.renewed == renewed { agent.until.min(until) } else { until };
        let news = agent.output != output || agent.loaded != loaded || agent.until <= now;
        *agent = KnownAgent { output, loaded, renewed, until };
        Ok(news)
    }
}

fn lock(known: &ByNamespace) -> MutexGuard<'_, BTreeMap<String, KnownAgents>> {
    known.lock()
}

/// Follows the Leases of one namespace.
struct Follower {
    namespace: String,
    metrics: Metrics,
    known: ByNamespace,
    changed: Arc<Notify>,
    reminder: Reminder,
}

impl Follower {
    async fn follow(mut self, leases: Api<Lease>) {
        let labels = format!("{PART_LABEL}={AGENT_PART}");
        let config = watcher::Config::default().labels(&labels).timeout(WATCH_SECONDS).page_size(PAGE);
        let path = leases.resource_url().to_owned();
        let mut events = feeds::events(leases, config);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            let heard = match &event {
                Ok(Event::Init | Event::InitApply(_)) => false,
                Ok(_) => true,
                // The right is optional.
                Err(error) => feeds::refusal(error) == Some(403),
            };
            if heard {
                self.metrics.watch_age.heard(WatchKind::AgentLease, &path, Instant::now());
            }
            match event {
                Ok(event) => self.take(event, &mut listed),
                Err(error) => {
                    self.metrics.watch_errors.inc(WatchKind::AgentLease);
                    if feeds::refusal(&error) == Some(403) {
                        self.with(|known| !std::mem::replace(&mut known.listed, true));
                        let namespace = self.namespace.clone();
                        self.log(|| {
                            tracing::info!(
                                namespace,
                                "statuses do not wait for agents: waybill may not list and watch Leases here"
                            );
                        });
                    } else {
                        tracing::debug!(%error, namespace = self.namespace, "watch of agents' Leases failed; trying again");
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Event<Lease>, listed: &mut HashSet<String>) {
        let now = Instant::now();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(lease) => {
                self.report(&lease, now);
                let name = lease.name_any();
                self.with(|known| {
                    if known.agents.contains_key(&name) {
                        listed.insert(name);
                    }
                    false
                });
            }
            Event::InitDone => self.with(|known| {
                known.agents.retain(|name, _| listed.contains(name));
                known.listed = true;
                true
            }),
            Event::Apply(lease) => self.report(&lease, now),
            Event::Delete(lease) => self.with(|known| known.agents.remove(&lease.name_any()).is_some()),
        }
    }

    fn report(&mut self, lease: &Lease, now: Instant) {
        let mut ignored = None;
        self.with(|known| {
            known.take(lease, now).unwrap_or_else(|reason| {
                ignored = Some(reason);
                false
            })
        });
        if let Some(reason) = ignored {
            self.metrics.agent_reports_ignored.inc(match reason {
                Ignored::Unreadable(_) => IgnoredReport::Unreadable,
                Ignored::TooMany => IgnoredReport::TooMany,
            });
            let namespace = self.namespace.clone();
            self.log(|| {
                tracing::warn!(
                    namespace,
                    lease = lease.name_any(),
                    "ignoring the Lease of an agent: {reason}"
                );
            });
        }
    }

    /// Changes the known state, and wakes waiting tasks if there is news.
    fn with(&self, change: impl FnOnce(&mut KnownAgents) -> bool) {
        let news = lock(&self.known).get_mut(&self.namespace).is_some_and(change);
        if news {
            self.changed.notify_one();
        }
    }

    fn log(&mut self, line: impl FnOnce()) {
        if self.reminder.is_due(Instant::now()) {
            line();
        }
    }
}

#[cfg(test)]
mod tests;
