//! Writes the statuses of Ingresses, a bounded number at a time and at most `operator.statusRate` a second.
//!
//! ```text
//! queue of Ingresses ─▶ StatusView::state ─▶ StatusPolicy::decide ─▶ apply the status ─▶ look again later
//! ```
//!
//! Whoever fills the queue makes sure that the routing of an Ingress is committed before its status is written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::Resource as _;
use k8s_openapi::api::networking::v1::Ingress;

use crate::key_queue::KeyQueue;
use crate::kubernetes::key::IngressKey;
use crate::metrics::{Queue, WriteFailure, WriteKind};
use crate::pace::{Backoff, Rate};
use crate::publish::error::{FailureLog, PublishError};
use crate::publish::later::Later;
use crate::publish::requests::{ObjectTarget, Requests, Write};
use crate::publish::statuses::policy::{Decision, Entries, StatusPolicy, StatusState};
use crate::translate::problem::Problem;

/// The number of concurrent writes.
const CONCURRENT: usize = 32;
/// The number of decisions in a row before other tasks get their turn.
const IN_A_ROW: usize = 256;

/// The writer's view of Ingresses. Its answers have to be quick.
pub trait StatusView: Send + Sync {
    /// The state of an Ingress; `None` if it does not exist.
    fn state(&self, key: &IngressKey) -> Option<StatusState>;
    /// Reports whether the status of `key` is contested.
    fn contested(&self, key: &IngressKey, problem: Option<Problem>);
    /// A write is over: it was done, or the Ingress is another one or gone.
    fn written(&self, key: &IngressKey);
}

/// Writes statuses for one term of a leader.
pub struct StatusWriter<V> {
    requests: Requests,
    /// The [`field_manager`](super::policy::field_manager).
    manager: Arc<str>,
    view: Arc<V>,
    queue: Arc<KeyQueue<IngressKey, ()>>,
    /// Taken from the queue and not handled yet: the rate allows no write now, or there was no room.
    next: Option<IngressKey>,
    rate: Rate,
    policy: StatusPolicy,
    later: Later<IngressKey>,
    failures: HashMap<IngressKey, Backoff>,
    /// Being written.
    busy: HashSet<IngressKey>,
    /// To handle again once the write has ended.
    again: HashSet<IngressKey>,
    log: FailureLog,
}

struct Done {
    key: IngressKey,
    state: StatusState,
    written: Entries,
    result: Result<(), PublishError>,
}

impl<V: StatusView> StatusWriter<V> {
    /// `per_second` is `operator.statusRate`.
    pub fn new(
        requests: Requests,
        manager: &str,
        view: Arc<V>,
        queue: Arc<KeyQueue<IngressKey, ()>>,
        per_second: u32,
    ) -> Self {
        Self {
            requests,
            manager: manager.into(),
            view,
            queue,
            next: None,
            rate: Rate::new(per_second, per_second / 10),
            policy: StatusPolicy::default(),
            later: Later::default(),
            failures: HashMap::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            log: FailureLog::default(),
        }
    }

    /// Writes until the guard allows no more. Cancel-safe: a write in progress may be executed or not, and repeating it
    /// does no harm.
    pub async fn run(mut self) {
        let mut writes = FuturesUnordered::new();
        let mut in_a_row = 0;
        while self.requests.allowed() {
            let now = Instant::now();
            while let Some(key) = self.later.due(now) {
                self.queue.push(key, ());
            }
            self.show_depth();
            let mut wait = self.later.next().map(|at| at.saturating_duration_since(now));
            if writes.len() < CONCURRENT {
                match self.step(now) {
                    Step::Write(key, state, entries) => {
                        let (requests, manager) = (self.requests.clone(), Arc::clone(&self.manager));
                        writes.push(write(requests, manager, key, state, entries));
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
            // At most a second, to notice a lost lease.
            let wait = wait.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1));
            tokio::select! {
                Some(done) = writes.next() => self.finish(done),
                (key, ()) = self.queue.next(), if self.next.is_none() => self.next = Some(key),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn show_depth(&self) {
        let waiting = self.queue.len() + usize::from(self.next.is_some());
        let metrics = self.requests.metrics();
        metrics.queue_depth.set(Queue::Status, waiting as f64);
        metrics.statuses_pending.set((waiting + self.busy.len() + self.failures.len()) as f64);
    }

    fn step(&mut self, now: Instant) -> Step {
        let next = self.next.take().or_else(|| self.queue.try_next().map(|(key, ())| key));
        let Some(key) = next else { return Step::Idle };
        if self.busy.contains(&key) {
            self.again.insert(key);
            return Step::Next;
        }
        let before = self.policy.problem(&key).is_some();
        let state = self.view.state(&key);
        let decision = self.policy.decide(&key, state.as_ref(), now);
        let after = self.policy.problem(&key);
        // Even if nothing changed, since the Ingress may be a new one with the same name.
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
                    self.next = Some(key);
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
                self.view.written(&key);
                self.policy.wrote(&key, &state, written, now);
                // Handled again when the watch must have shown the write.
                if let Decision::LookAgain(at) = self.policy.decide(&key, Some(&state), now) {
                    self.later.add(key.clone(), at);
                }
            }
            // The Ingress was deleted, or recreated and handled when the watch shows it.
            Err(error) if matches!(error, PublishError::NotFound { .. }) || is_made_anew(&error) => {
                self.failures.remove(&key);
                self.view.written(&key);
            }
            Err(error) => {
                // After a conflict, the watch will show what the other writer wrote.
                if !matches!(error, PublishError::Conflict { .. }) && self.log.is_news(&error, now) {
                    tracing::warn!(%error, "a status was not written; trying again");
                }
                let backoff = self
                    .failures
                    .entry(key.clone())
                    .or_insert_with(|| Backoff::new(Duration::from_millis(500), Duration::from_secs(300)));
                self.later.add(key.clone(), now + backoff.next_wait());
            }
        }
        if self.again.remove(&key) {
            self.queue.push(key, ());
        }
    }
}

/// Whether the API server has another Ingress with that name.
fn is_made_anew(error: &PublishError) -> bool {
    let PublishError::Api { failure: WriteFailure::Invalid, source, .. } = error else { return false };
    let kube::Error::Api(status) = &**source else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| &cause.field).any(|field| field == "metadata.uid")
}

enum Step {
    Write(IngressKey, StatusState, Entries),
    Next,
    Wait(Duration),
    Idle,
}

async fn write(
    requests: Requests,
    manager: Arc<str>,
    key: IngressKey,
    state: StatusState,
    entries: Entries,
) -> Done {
    let result = match request(&manager, &key, &state, &entries) {
        Ok(write) => requests.write(&write).await.map(|_| ()),
        Err(error) => Err(error),
    };
    Done { key, state, written: entries, result }
}

/// Applies exactly these addresses. With the uid, the API server refuses this for an Ingress that was recreated since,
/// whose routing may not be published. An empty list is sent explicitly: a field that is left out stays while another
/// manager owns it too.
///
/// By the time an address is withdrawn, another installation may own the field. If that is known, ours is left out, and
/// theirs stays. If not, the apply is not forced, so that theirs stays too. It is forced only for values that another
/// manager owns together with us, such as the provider that wrote them first.
fn request(
    manager: &str,
    key: &IngressKey,
    state: &StatusState,
    entries: &Entries,
) -> Result<Write, PublishError> {
    let mut body = serde_json::json!({
        "apiVersion": Ingress::API_VERSION,
        "kind": Ingress::KIND,
        "metadata": {"name": key.name(), "namespace": key.namespace()},
    });
    if state.ours || !state.owners.another_installation {
        body["status"] = serde_json::json!({"loadBalancer": {"ingress": entries}});
    }
    if let Some(uid) = &state.uid {
        body["metadata"]["uid"] = uid.as_str().into();
    }
    let mut target = ObjectTarget::new::<Ingress>(WriteKind::IngressStatus, key.namespace(), key.name());
    target.object = format!("status of {}", target.object);
    target.apply_status(manager, state.ours || state.owners.others, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::statuses::policy::StatusOwners;
    use crate::translate::status::DesiredStatus;

    fn key(name: &str) -> IngressKey {
        IngressKey::new("ns", name)
    }

    #[test]
    fn an_empty_status_is_sent_as_an_empty_list_and_a_withdrawal_clears_nobody_elses() {
        let text = |ours, another_installation, others| {
            let state = StatusState {
                uid: Some("u".to_owned()),
                ours,
                wanted: DesiredStatus::LeaveAlone,
                current: Vec::new(),
                owners: StatusOwners { we: true, another_installation, others },
                shown: 0,
            };
            let write = request("waybill:a/b", &key("web"), &state, &Vec::new()).unwrap();
            let text = format!("{write:?}");
            assert!(
                text.contains("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/web/status?"),
                "{text}"
            );
            assert!(text.contains("fieldManager=waybill%3Aa%2Fb"), "{text}");
            (text.contains("force=true"), write.bytes())
        };
        let mut body = serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "status": {"loadBalancer": {"ingress": []}},
        });
        let empty = body.to_string().len() as u64;
        body.as_object_mut().unwrap().remove("status");
        let released = body.to_string().len() as u64;
        for (another_installation, others) in [(false, false), (true, false), (true, true)] {
            assert_eq!(text(true, another_installation, others), (true, empty), "ours");
        }
        assert_eq!(text(false, false, false), (false, empty), "who writes meanwhile is not known yet");
        assert_eq!(text(false, false, true), (true, empty), "a provider that is gone clears nothing");
        assert_eq!(text(false, true, false), (false, released));
    }
}
