//! How far the proxies of each output are, by what their agents report: `published::agents` says how.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::PART_LABEL;
use crate::operator::feeds::{self, WATCH_SECONDS};
use crate::published::agents::{AGENT_PART, AgentReport};

/// Agents of an output that are known; more are not waited for.
const LIMIT: usize = 10_000;

/// Commits of an output that are remembered.
const REMEMBERED: usize = 256;

/// The longest that a report counts, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Epoch and generation of a commit.
pub type Commit = (u64, u64);

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

    /// How long ago the first one after `loaded` was done.
    pub fn age_after(&self, loaded: Commit, now: Instant) -> Duration {
        let next = self.0.iter().find(|(commit, _)| *commit > loaded);
        next.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
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
#[derive(Clone, Copy, Debug)]
struct KnownAgent {
    loaded: Commit,
    /// When its report runs out, by our own clock.
    until: Instant,
}

/// What is known of all agents.
#[derive(Debug, Default)]
struct KnownAgents {
    outputs: HashMap<OutputKey, HashMap<String, KnownAgent>>,
    /// Namespaces whose Leases are not listed yet.
    unlisted: BTreeSet<String>,
}

/// Follows what agents report, until it is dropped.
pub struct Agents {
    client: Client,
    known: Arc<Mutex<KnownAgents>>,
    changed: Arc<Notify>,
    namespaces: BTreeSet<String>,
    tasks: JoinSet<()>,
}

impl Agents {
    /// No watches yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
            changed: Arc::default(),
            namespaces: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Watches the reports in the namespace of an output too.
    pub fn watch(&mut self, output: &OutputKey) {
        let namespace = output.namespace().to_owned();
        if self.namespaces.insert(namespace.clone()) {
            lock(&self.known).unlisted.insert(namespace.clone());
            let leases = Api::namespaced(self.client.clone(), &namespace);
            self.tasks.spawn(follow(leases, namespace, Arc::clone(&self.known), Arc::clone(&self.changed)));
        }
    }

    /// Whether every agent of an output has loaded a commit, or a later one. True where none is known.
    pub fn have(&self, output: &OutputKey, commit: Commit) -> bool {
        lock(&self.known).have(output, commit, Instant::now())
    }

    /// How far the agents of an output are.
    pub fn count(&self, output: &OutputKey, commit: Commit) -> AgentCounts {
        lock(&self.known).count(output, commit, Instant::now())
    }

    /// Done when a report has come.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl KnownAgents {
    fn have(&self, output: &OutputKey, commit: Commit, now: Instant) -> bool {
        let counts = self.count(output, commit, now);
        counts.live == counts.current && !self.unlisted.contains(output.namespace())
    }

    fn count(&self, output: &OutputKey, commit: Commit, now: Instant) -> AgentCounts {
        let live = self.outputs.get(output).into_iter().flatten().filter(|(_, agent)| agent.until > now);
        live.fold(AgentCounts::default(), |counts, (_, agent)| AgentCounts {
            live: counts.live + 1,
            current: counts.current + usize::from(agent.loaded >= commit),
            slowest: Some(counts.slowest.map_or(agent.loaded, |slowest| slowest.min(agent.loaded))),
        })
    }

    /// Takes a Lease. `left` is how long it still counts, where that is not its whole time.
    fn take(&mut self, namespace: &str, lease: &Lease, left: Option<Duration>, now: Instant) {
        let Some(report) = AgentReport::read(lease) else { return };
        let agents = self.outputs.entry(OutputKey::new(namespace, report.output.as_str())).or_default();
        let counts_for = report.counts_for.min(LONGEST);
        let until = now + left.unwrap_or(counts_for).min(counts_for);
        if agents.len() < LIMIT || agents.contains_key(&lease.name_any()) {
            agents.insert(lease.name_any(), KnownAgent { loaded: report.loaded, until });
        }
    }

    /// Forgets those of a namespace that `keep` says no to.
    fn retain(&mut self, namespace: &str, keep: impl Fn(&String) -> bool) {
        for (_, agents) in self.outputs.iter_mut().filter(|(key, _)| key.namespace() == namespace) {
            agents.retain(|name, _| keep(name));
        }
    }
}

fn lock(known: &Mutex<KnownAgents>) -> MutexGuard<'_, KnownAgents> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(leases: Api<Lease>, namespace: String, known: Arc<Mutex<KnownAgents>>, changed: Arc<Notify>) {
    let config =
        watcher::Config::default().labels(&format!("{PART_LABEL}={AGENT_PART}")).timeout(WATCH_SECONDS);
    let mut events = feeds::events(leases, config);
    let mut listed = BTreeSet::new();
    let mut failed = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::info!(%error, namespace, "the Leases of agents can't be watched; trying again");
                }
                // Without the right, statuses wait for nobody.
                lock(&known).unlisted.remove(&namespace);
                continue;
            }
        };
        failed = false;
        let now = Instant::now();
        let mut known = lock(&known);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(lease) => {
                listed.insert(lease.name_any());
                known.take(&namespace, &lease, left_by_clock(&lease), now);
            }
            Event::InitDone => {
                known.retain(&namespace, |name| listed.contains(name));
                known.unlisted.remove(&namespace);
            }
            Event::Apply(lease) => known.take(&namespace, &lease, None, now),
            Event::Delete(lease) => {
                let gone = lease.name_any();
                known.retain(&namespace, |name| *name != gone);
            }
        }
        drop(known);
        changed.notify_one();
    }
}

/// How long a report still counts by the clocks of two machines: for one that was written before it was seen.
fn left_by_clock(lease: &Lease) -> Option<Duration> {
    let report = AgentReport::read(lease)?;
    let age = Timestamp::now().duration_since(report.renewed);
    Some(report.counts_for.saturating_sub(Duration::try_from(age).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::agents;

    fn lease(output: &OutputKey, identity: &str, generation: u64) -> Lease {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": agents::lease_name(output, identity), "labels": agents::labels(output),
                "annotations": agents::annotations(1, generation),
            },
            "spec": {"leaseDurationSeconds": 30, "renewTime": "2026-11-26T08:00:00.000000Z"},
        }))
        .unwrap()
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
        for generation in 0..1_000 {
            commits.push((3, generation), now);
        }
        assert_eq!((commits.newest(), commits.0.len()), (Some((3, 999)), REMEMBERED));
    }

    #[test]
    fn who_has_loaded_what() {
        let (output, other) = (OutputKey::new("edge", "public"), OutputKey::new("edge", "internal"));
        let now = Instant::now();
        let mut known = KnownAgents::default();
        let counts = |known: &KnownAgents, commit, now| {
            let counts = known.count(&output, commit, now);
            (counts.live, counts.current)
        };
        assert!(known.have(&output, (1, 5), now), "nobody is waited for");
        known.unlisted.insert("edge".to_owned());
        assert!(!known.have(&output, (1, 5), now), "there may be some");
        known.unlisted.clear();
        known.take("edge", &lease(&output, "a", 5), None, now);
        known.take("edge", &lease(&output, "b", 4), None, now);
        known.take("edge", &lease(&other, "c", 1), None, now);
        assert_eq!(counts(&known, (1, 5), now), (2, 1));
        assert_eq!(counts(&known, (1, 4), now), (2, 2));
        assert_eq!(counts(&known, (2, 1), now), (2, 0), "a later epoch");
        assert!(known.have(&output, (1, 4), now) && !known.have(&output, (1, 5), now));

        // One reports again, the other runs out.
        known.take("edge", &lease(&output, "a", 6), None, now + Duration::from_secs(20));
        assert_eq!(counts(&known, (1, 6), now + Duration::from_secs(40)), (1, 1));
        // One that ran out before it was seen never counts.
        known.take("edge", &lease(&output, "d", 1), Some(Duration::ZERO), now);
        assert_eq!(counts(&known, (1, 5), now).0, 2);
        assert_eq!(known.count(&output, (1, 5), now).slowest, Some((1, 4)));
        // Gone.
        known.retain("edge", |name| *name != agents::lease_name(&output, "b"));
        assert_eq!(counts(&known, (1, 5), now), (1, 1));
    }
}
