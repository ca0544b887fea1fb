//! How far the proxies of each output are, by what their agents report: `published::agents` says how.
//!
//! Whoever may write Leases in the namespace of an output can claim anything there. So at most [`LIMIT`] of them count,
//! each for an hour at most, and statuses wait for `operator.statusDelay` at most. A report counts from when it was seen,
//! by our own clock: the clocks of agents decide nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::PART_LABEL;
use crate::metrics::{IgnoredReport, Metrics, WatchKind};
use crate::operator::feeds::{self, WATCH_SECONDS};
use crate::published::agents::{AGENT_PART, AgentReport, ReportError};

/// Agents of a namespace that are known; more are not waited for.
const LIMIT: usize = 10_000;

/// Leases in one answer to a list. Whoever may write them can make each as large as etcd takes, 1.5 MB.
const PAGE: u32 = 10;

/// Commits of an output that are remembered.
const REMEMBERED: usize = 256;

/// The longest that a report counts, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Between two log lines about Leases that do not count, and between two looks for those that ran out.
const AGAIN: Duration = Duration::from_secs(60);
const TIDY_AGAIN: Duration = Duration::from_secs(1);

/// Epoch and generation of a commit.
pub type Commit = (u64, u64);

/// What an output has where nobody is waited for.
const EVERYTHING: Commit = (u64::MAX, u64::MAX);

/// The last commits of an output, and when each was done.
#[derive(Debug, Default)]
pub struct Commits(VecDeque<(Commit, Instant)>);

impl Commits {
    /// Another one; the same again is none.
    pub fn push(&mut self, commit: Commit, at: Instant) {
        if self.newest() != Some(commit) {
            self.0.push_back((commit, at));
        }
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The newest one.
    pub fn newest(&self) -> Option<Commit> {
        self.0.back().map(|(commit, _)| *commit)
    }

    /// What an agent that is up to date has loaded at least.
    pub fn up_to_date(&self, now: Instant) -> Commit {
        let settled = self.0.iter().rev().find(|(_, at)| now.saturating_duration_since(*at) >= UP_TO_DATE);
        settled.map_or((0, 0), |(commit, _)| *commit)
    }

    /// How long ago the first one after `loaded` was done.
    pub fn age_after(&self, loaded: Commit, now: Instant) -> Duration {
        let next = self.0.iter().find(|(commit, _)| *commit > loaded);
        next.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

/// An agent that is behind for no longer than this counts as up to date where people look: most generations are reported
/// when it is an agent's turn.
const UP_TO_DATE: Duration = Duration::from_secs(30);

/// How many agents of each output live, and how many of them are up to date. Shared by the parts of a term.
#[derive(Clone, Default)]
pub struct AgentTotals(Arc<Mutex<BTreeMap<OutputKey, (u64, u64)>>>);

impl AgentTotals {
    /// Those of all outputs.
    pub fn set(&self, totals: BTreeMap<OutputKey, (u64, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    /// The sums over some outputs.
    pub fn of<'a>(&self, outputs: impl IntoIterator<Item = &'a OutputKey>) -> (u64, u64) {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outputs
            .into_iter()
            .filter_map(|output| totals.get(output))
            .fold((0, 0), |(live, updated), one| (live + one.0, updated + one.1))
    }
}

/// How far the agents of an output are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Those whose report counts.
    pub live: usize,
    /// Those of them that have loaded a commit, or a later one.
    pub current: usize,
    /// What the slowest of them has loaded.
    pub slowest: Option<Commit>,
}

/// An agent, as its Lease was seen last.
#[derive(Clone, Debug)]
struct KnownAgent {
    output: String,
    loaded: Commit,
    renewed: Timestamp,
    /// When its report runs out, by our own clock.
    until: Instant,
}

/// The agents of one namespace.
#[derive(Debug, Default)]
struct KnownAgents {
    /// Whether its Leases have been listed, or can't be.
    listed: bool,
    /// By the name of the Lease.
    agents: HashMap<String, KnownAgent>,
    tidied: Option<Instant>,
}

type ByNamespace = Arc<Mutex<BTreeMap<String, KnownAgents>>>;

/// Follows what agents report, until it is dropped.
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

    /// Watches the reports in the namespace of an output too.
    pub fn watch(&mut self, output: &OutputKey) {
        let namespace = output.namespace();
        let mut known = lock(&self.known);
        if !known.contains_key(namespace) {
            known.insert(namespace.to_owned(), KnownAgents::default());
            let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
            self.metrics.watch_age.begun(WatchKind::AgentLease, leases.resource_url());
            let follower = Follower {
                namespace: namespace.to_owned(),
                metrics: self.metrics.clone(),
                known: Arc::clone(&self.known),
                changed: Arc::clone(&self.changed),
                logged: None,
            };
            let mut tasks = JoinSet::new();
            tasks.spawn(follower.follow(leases));
            self.tasks.insert(namespace.to_owned(), tasks);
        }
    }

    /// Watches a namespace no longer.
    pub fn end(&mut self, namespace: &str) {
        self.tasks.remove(namespace);
        lock(&self.known).remove(namespace);
        self.metrics.watch_age.ended(WatchKind::AgentLease, &Lease::url_path(&(), Some(namespace)));
    }

    /// The newest commit that every live agent of an output has loaded: all of them where there is no agent.
    pub fn loaded_by_all(&self, output: &OutputKey) -> Commit {
        let known = lock(&self.known);
        known.get(output.namespace()).map_or(EVERYTHING, |known| known.loaded_by_all(output, Instant::now()))
    }

    /// How far the agents of an output are.
    pub fn count(&self, output: &OutputKey, commit: Commit) -> AgentCounts {
        let known = lock(&self.known);
        known
            .get(output.namespace())
            .map(|known| known.count(output, commit, Instant::now()))
            .unwrap_or_default()
    }

    /// Done when a report has come that says something new.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.metrics.watch_age.clear(WatchKind::AgentLease);
    }
}

/// Why a Lease does not count.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error("{0}")]
    Unreadable(#[from] ReportError),
    #[error("there are over {LIMIT} of them; delete those that are no agent's")]
    TooMany,
}

impl KnownAgents {
    fn live<'a>(&'a self, output: &'a OutputKey, now: Instant) -> impl Iterator<Item = &'a KnownAgent> {
        self.agents.values().filter(move |agent| agent.until > now && agent.output == output.name())
    }

    fn loaded_by_all(&self, output: &OutputKey, now: Instant) -> Commit {
        if !self.listed {
            return (0, 0);
        }
        self.live(output, now).map(|agent| agent.loaded).min().unwrap_or(EVERYTHING)
    }

    fn count(&self, output: &OutputKey, commit: Commit, now: Instant) -> AgentCounts {
        self.live(output, now).fold(AgentCounts::default(), |counts, agent| AgentCounts {
            live: counts.live + 1,
            current: counts.current + usize::from(agent.loaded >= commit),
            slowest: Some(counts.slowest.map_or(agent.loaded, |slowest| slowest.min(agent.loaded))),
        })
    }

    /// Takes a Lease; whether it says something new. What can't be read changes nothing.
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
        // A list, or somebody's edit, shows the same report again, which does not make it count for longer.
        let until = if agent.renewed == renewed { agent.until.min(until) } else { until };
        let news = agent.output != output || agent.loaded != loaded || agent.until <= now;
        *agent = KnownAgent { output, loaded, renewed, until };
        Ok(news)
    }
}

fn lock(known: &ByNamespace) -> MutexGuard<'_, BTreeMap<String, KnownAgents>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the Leases of one namespace.
struct Follower {
    namespace: String,
    metrics: Metrics,
    known: ByNamespace,
    changed: Arc<Notify>,
    /// When something was logged last.
    logged: Option<Instant>,
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
                                "statuses wait for no agent: Leases here may not be listed and watched"
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
                    "the Lease of an agent does not count: {reason}"
                );
            });
        }
    }

    /// Changes what is known; wakes whoever waits where that is news.
    fn with(&self, change: impl FnOnce(&mut KnownAgents) -> bool) {
        let news = lock(&self.known).get_mut(&self.namespace).is_some_and(change);
        if news {
            self.changed.notify_one();
        }
    }

    fn log(&mut self, line: impl FnOnce()) {
        if self.logged.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.logged = Some(Instant::now());
            line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::agents;

    const SECOND: Duration = Duration::from_secs(1);

    fn output() -> OutputKey {
        OutputKey::new("edge", "public")
    }

    /// The report number `number` of an agent.
    fn lease(output: &OutputKey, identity: &str, loaded: Commit, number: u64) -> Lease {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": agents::lease_name(output, identity), "labels": agents::labels(output),
                "annotations": agents::annotations(loaded.0, loaded.1),
            },
            // The clock of this agent is years behind.
            "spec": {"leaseDurationSeconds": 30, "renewTime": format!("2011-11-26T08:00:00.{number:06}Z")},
        }))
        .unwrap()
    }

    fn counts(known: &KnownAgents, commit: Commit, now: Instant) -> (usize, usize) {
        let counts = known.count(&output(), commit, now);
        (counts.live, counts.current)
    }

    #[test]
    fn how_old_what_is_not_loaded_yet_is() {
        let begun = Instant::now();
        let mut commits = Commits::default();
        for (at, commit) in [(0, (1, 1)), (1, (1, 2)), (2, (1, 2)), (3, (2, 3))] {
            commits.push(commit, begun + Duration::from_secs(at));
        }
        let now = begun + Duration::from_secs(10);
        let age = |loaded| commits.age_after(loaded, now).as_secs();
        assert_eq!((age((1, 1)), age((1, 2)), age((2, 3)), age((2, 4))), (9, 7, 0, 0));
        let settled = |seconds| commits.up_to_date(begun + Duration::from_secs(seconds));
        assert_eq!([settled(29), settled(30), settled(32), settled(90)], [(0, 0), (1, 1), (1, 2), (2, 3)]);
        for generation in 0..1_000 {
            commits.push((3, generation), now);
        }
        assert_eq!((commits.newest(), commits.0.len()), (Some((3, 999)), REMEMBERED));
    }

    #[test]
    fn who_has_loaded_what() {
        let other = OutputKey::new("edge", "internal");
        let now = Instant::now();
        let mut known = KnownAgents::default();
        assert_eq!(known.loaded_by_all(&output(), now), (0, 0), "there may be some");
        known.listed = true;
        assert_eq!(known.loaded_by_all(&output(), now), EVERYTHING, "nobody is waited for");
        for (output, identity, loaded) in
            [(&output(), "a", (1, 5)), (&output(), "b", (1, 4)), (&other, "c", (1, 1))]
        {
            assert!(known.take(&lease(output, identity, loaded, 0), now).unwrap());
        }
        assert_eq!(counts(&known, (1, 5), now), (2, 1));
        assert_eq!(counts(&known, (1, 4), now), (2, 2));
        assert_eq!(counts(&known, (2, 1), now), (2, 0), "a later epoch");
        assert_eq!(known.loaded_by_all(&output(), now), (1, 4));

        // One reports again, the other runs out.
        assert!(!known.take(&lease(&output(), "a", (1, 5), 1), now + 20 * SECOND).unwrap(), "no news");
        assert_eq!(counts(&known, (1, 5), now + 40 * SECOND), (1, 1));
        assert_eq!(known.loaded_by_all(&output(), now + 40 * SECOND), (1, 5));
    }

    #[test]
    fn only_a_new_report_makes_an_agent_count_for_longer() {
        let now = Instant::now();
        let mut known = KnownAgents::default();
        known.take(&lease(&output(), "a", (1, 5), 0), now).unwrap();
        // A list shows it again, or somebody edits it: with a longer duration, too.
        let mut again = lease(&output(), "a", (1, 5), 0);
        again.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        known.take(&again, now + 20 * SECOND).unwrap();
        assert_eq!(counts(&known, (1, 5), now + 31 * SECOND).0, 0);
        // A clock that goes back tells a new report all the same, and none counts for years.
        again.spec.as_mut().unwrap().renew_time.as_mut().unwrap().0 = "1999-01-01T00:00:00Z".parse().unwrap();
        assert!(known.take(&again, now + 40 * SECOND).unwrap(), "it counts again");
        assert_eq!(counts(&known, (1, 5), now + 41 * SECOND).0, 1);
        assert_eq!(counts(&known, (1, 5), now + 40 * SECOND + LONGEST).0, 0);
    }

    #[test]
    fn garbage_changes_nothing_and_what_is_known_is_bounded() {
        let now = Instant::now();
        let mut known = KnownAgents::default();
        known.take(&lease(&output(), "a", (1, 5), 0), now).unwrap();
        let mut garbage = lease(&output(), "a", (1, 5), 1);
        garbage.metadata.annotations.as_mut().unwrap().insert(agents::LOADED.to_owned(), "x".repeat(200_000));
        assert!(matches!(known.take(&garbage, now), Err(Ignored::Unreadable(_))));
        assert_eq!(counts(&known, (1, 5), now), (1, 1));

        for number in 0..LIMIT + 100 {
            let _ = known.take(&lease(&output(), &format!("forged-{number}"), (0, 1), 0), now);
        }
        assert_eq!(known.agents.len(), LIMIT);
        let late = lease(&output(), "late", (1, 5), 0);
        assert!(matches!(known.take(&late, now), Err(Ignored::TooMany)));
        // Those that ran out make room.
        known.take(&late, now + 60 * SECOND).unwrap();
        assert_eq!(known.agents.len(), 1);
    }
}
