//! Writes the statuses of Ingresses: beside the routing and never before it, a bounded number at a time, no more a
//! second than allowed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::Resource as _;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Resource as _;
use tokio::sync::Notify;

use crate::kubernetes::key::IngressKey;
use crate::metrics::{Queue, WriteKind};
use crate::publish::backoff::Backoff;
use crate::publish::error::PublishError;
use crate::publish::rate::Rate;
use crate::publish::requests::{Requests, Write};
use crate::publish::statuses::policy::{Decision, Entries, StatusPolicy, StatusState};
use crate::translate::problem::Problem;

/// Status writes under way at once.
const CONCURRENT: usize = 32;
/// Keys that wait; above it all Ingresses are looked at once more when the queue has run empty.
const CAPACITY: usize = 200_000;
/// Decisions in a row before other tasks get their turn.
const IN_A_ROW: usize = 256;
/// The same fault is logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What the writer asks for and tells. The answers have to be quick.
pub trait StatusView: Send + Sync {
    /// What is known of an Ingress now; `None` when it is not there.
    fn state(&self, key: &IngressKey) -> Option<StatusState>;
    /// All Ingresses.
    fn keys(&self) -> Vec<IngressKey>;
    /// The status of `key` is contested, still or from now on, or is no longer.
    fn contested(&self, key: &IngressKey, problem: Option<Problem>);
}

/// Ingresses whose statuses have to be looked at, each once. Clones are the same queue.
#[derive(Clone)]
pub struct StatusQueue {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<IngressKey>,
    members: HashSet<IngressKey>,
    capacity: usize,
    /// Some did not fit.
    missed: bool,
}

impl Default for StatusQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        let waiting = Waiting { capacity, ..Waiting::default() };
        Self { waiting: Arc::new(Mutex::new(waiting)), more: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the status of an Ingress looked at.
    pub fn push(&self, key: IngressKey) {
        let mut waiting = self.lock();
        if waiting.members.contains(&key) {
            return;
        }
        if waiting.order.len() >= waiting.capacity {
            waiting.missed = true;
            return;
        }
        waiting.members.insert(key.clone());
        waiting.order.push_back(key);
        drop(waiting);
        self.more.notify_one();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push_front(&self, key: IngressKey) {
        let mut waiting = self.lock();
        if waiting.members.insert(key.clone()) {
            waiting.order.push_front(key);
        }
    }

    /// The next key; `all` is asked for every one when the queue has run empty and some did not fit.
    fn pop(&self, all: impl FnOnce() -> Vec<IngressKey>) -> Option<IngressKey> {
        let missed = {
            let mut waiting = self.lock();
            if waiting.order.is_empty() { std::mem::take(&mut waiting.missed) } else { false }
        };
        // Not under the lock: whoever answers may push.
        let all = if missed { all() } else { Vec::new() };
        let mut waiting = self.lock();
        for key in all {
            // There is no more than all of them.
            if waiting.members.insert(key.clone()) {
                waiting.order.push_back(key);
            }
        }
        let key = waiting.order.pop_front()?;
        waiting.members.remove(&key);
        Some(key)
    }
}

/// Keys that are looked at later, each at its earliest time.
#[derive(Default)]
struct Later {
    times: HashMap<IngressKey, Instant>,
    order: BTreeSet<(Instant, IngressKey)>,
}

impl Later {
    fn add(&mut self, key: IngressKey, at: Instant) {
        if let Some(before) = self.times.get(&key).copied() {
            if before <= at {
                return;
            }
            self.order.remove(&(before, key.clone()));
        }
        self.times.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    fn due(&mut self, now: Instant) -> Option<IngressKey> {
        self.order.first().filter(|(at, _)| *at <= now)?;
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// Writes statuses for one term of a leader.
pub struct StatusWriter<V> {
    requests: Requests,
    view: Arc<V>,
    queue: StatusQueue,
    rate: Rate,
    policy: StatusPolicy,
    later: Later,
    failures: HashMap<IngressKey, Backoff>,
    /// Writes under way.
    busy: HashSet<IngressKey>,
    /// Pushed while being written.
    again: HashSet<IngressKey>,
    logged: Option<(Instant, crate::metrics::WriteResult)>,
}

struct Done {
    key: IngressKey,
    state: StatusState,
    written: Entries,
    result: Result<(), PublishError>,
}

impl<V: StatusView> StatusWriter<V> {
    /// `per_second` is `operator.statusRate`.
    pub fn new(requests: Requests, view: Arc<V>, queue: StatusQueue, per_second: u32) -> Self {
        Self {
            requests,
            view,
            queue,
            rate: Rate::new(per_second, per_second / 10),
            policy: StatusPolicy::default(),
            later: Later::default(),
            failures: HashMap::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            logged: None,
        }
    }

    /// Works until the guard allows no more writes. May be dropped at any point; what was under way may or may not
    /// be written then, and writing it again does no harm.
    pub async fn run(mut self) {
        let mut writes = FuturesUnordered::new();
        let mut in_a_row = 0;
        while self.requests.allowed() {
            let now = Instant::now();
            while let Some(key) = self.later.due(now) {
                self.queue.push(key);
            }
            self.show_depth();
            let mut wait = self.later.next().map(|at| at.saturating_duration_since(now));
            if writes.len() < CONCURRENT {
                match self.step(now) {
                    Step::Write(key, state, entries) => {
                        writes.push(write(self.requests.clone(), key, state, entries));
                        continue;
                    }
                    Step::Next => {
                        in_a_row += 1;
                        if in_a_row >= IN_A_ROW {
                            in_a_row = 0;
                            tokio::task::yield_now().await;
                        }
                        continue;
                    }
                    Step::Wait(pause) => wait = Some(pause),
                    Step::Idle => {}
                }
            }
            in_a_row = 0;
            // A second at most, to notice a lost lease.
            let wait = wait.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1));
            tokio::select! {
                Some(done) = writes.next() => self.finish(done),
                () = self.queue.more.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn show_depth(&self) {
        let waiting = self.queue.len();
        let metrics = self.requests.metrics();
        metrics.queue_depth.set(Queue::Status, waiting as f64);
        metrics.statuses_pending.set((waiting + self.busy.len() + self.failures.len()) as f64);
    }

    fn step(&mut self, now: Instant) -> Step {
        let view = &self.view;
        let Some(key) = self.queue.pop(|| view.keys()) else { return Step::Idle };
        if self.busy.contains(&key) {
            self.again.insert(key);
            return Step::Next;
        }
        let before = self.policy.problem(&key).is_some();
        let state = self.view.state(&key);
        let decision = self.policy.decide(&key, state.as_ref(), now);
        let after = self.policy.problem(&key);
        // Also while it stays so: the Ingress may be another one of that name.
        if before || after.is_some() {
            self.view.contested(&key, after);
        }
        match (decision, state) {
            (Decision::Write(entries), Some(state)) => match self.rate.take(now) {
                Ok(()) => {
                    self.busy.insert(key.clone());
                    Step::Write(key, state, entries)
                }
                Err(wait) => {
                    self.queue.push_front(key);
                    Step::Wait(wait)
                }
            },
            (Decision::LookAgain(at), _) => {
                self.later.add(key, at);
                Step::Next
            }
            (Decision::Write(_) | Decision::Nothing, _) => {
                self.failures.remove(&key);
                Step::Next
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        let Done { key, state, written, result } = done;
        self.busy.remove(&key);
        match result {
            Ok(()) => {
                self.failures.remove(&key);
                self.policy.wrote(&key, &state, written, now);
                // Looked at once more when the watch must have shown it.
                if let Decision::LookAgain(at) = self.policy.decide(&key, Some(&state), now) {
                    self.later.add(key.clone(), at);
                }
            }
            // It is gone.
            Err(PublishError::NotFound { .. }) => {
                self.failures.remove(&key);
            }
            Err(error) => {
                self.log(&error, now);
                let backoff = self
                    .failures
                    .entry(key.clone())
                    .or_insert_with(|| Backoff::new(Duration::from_millis(500), Duration::from_secs(300)));
                self.later.add(key.clone(), now + backoff.next_wait());
            }
        }
        if self.again.remove(&key) {
            self.queue.push(key);
        }
    }

    fn log(&mut self, error: &PublishError, now: Instant) {
        let fresh = self.logged.is_none_or(|(at, result)| {
            result != error.result() || now.saturating_duration_since(at) >= LOG_EVERY
        });
        if fresh {
            self.logged = Some((now, error.result()));
            tracing::warn!(%error, "a status was not written; it is tried again");
        }
    }
}

enum Step {
    Write(IngressKey, StatusState, Entries),
    Next,
    Wait(Duration),
    Idle,
}

async fn write(requests: Requests, key: IngressKey, state: StatusState, entries: Entries) -> Done {
    let result = match request(&key, &entries) {
        Ok(write) => requests.write(&write).await.map(|_| ()),
        Err(error) => Err(error),
    };
    Done { key, state, written: entries, result }
}

/// Applies these addresses and nothing else. An empty list is said, since a field that is merely left out stays
/// while another manager owns it too.
fn request(key: &IngressKey, entries: &Entries) -> Result<Write, PublishError> {
    let path = format!("{}/{}/status", Ingress::url_path(&(), Some(key.namespace())), key.name());
    let body = serde_json::json!({
        "apiVersion": Ingress::API_VERSION,
        "kind": Ingress::KIND,
        "metadata": {"name": key.name(), "namespace": key.namespace()},
        "status": {"loadBalancer": {"ingress": entries}},
    });
    Write::apply(WriteKind::IngressStatus, format!("status of Ingress {key}"), &path, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> IngressKey {
        IngressKey::new("ns", name)
    }

    #[test]
    fn a_key_waits_once_and_in_order() {
        let queue = StatusQueue::new();
        for name in ["a", "b", "a", "c", "b"] {
            queue.push(key(name));
        }
        let mut order = Vec::new();
        while let Some(next) = queue.pop(Vec::new) {
            order.push(next.name().to_owned());
        }
        assert_eq!(order, ["a", "b", "c"]);
        queue.push(key("a"));
        assert_eq!(queue.len(), 1, "after it was taken it may come again");
    }

    #[test]
    fn what_did_not_fit_is_made_good_by_a_full_pass() {
        let queue = StatusQueue::with_capacity(2);
        for name in ["a", "b", "c"] {
            queue.push(key(name));
        }
        let all = || vec![key("a"), key("b"), key("c")];
        let mut seen = HashSet::new();
        for _ in 0..10 {
            if let Some(next) = queue.pop(all) {
                seen.insert(next.name().to_owned());
            }
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn later_keeps_the_earliest_time_of_a_key() {
        let now = Instant::now();
        let mut later = Later::default();
        later.add(key("a"), now + Duration::from_secs(5));
        later.add(key("a"), now + Duration::from_secs(9));
        later.add(key("a"), now + Duration::from_secs(2));
        later.add(key("b"), now + Duration::from_secs(3));
        assert_eq!(later.due(now), None);
        assert_eq!(later.next(), Some(now + Duration::from_secs(2)));
        let late = now + Duration::from_secs(60);
        assert_eq!(
            [later.due(late), later.due(late), later.due(late)],
            [Some(key("a")), Some(key("b")), None]
        );
    }

    #[test]
    fn an_emptied_status_is_said() {
        let write = request(&key("web"), &Vec::new()).unwrap();
        let text = format!("{write:?}");
        assert!(text.contains("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/web/status?"), "{text}");
        let body = serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "ns"}, "status": {"loadBalancer": {"ingress": []}},
        });
        assert_eq!(write.bytes(), body.to_string().len() as u64);
    }
}
