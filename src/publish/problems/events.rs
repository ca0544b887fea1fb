//! Writes Events (events.k8s.io/v1) about problems.
//!
//! kube's own recorder shows the note of the first Event of a reason for all that follow, refuses long names and notes,
//! and starts over with every leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::{EventResult, Queue, WriteKind};
use crate::publish::error::{FailureLog, PublishError};
use crate::publish::problems::event_book::{Action, EventBook, Next};
use crate::publish::requests::{MANAGER, ObjectTarget, Requests, Write};
use crate::translate::problem::{Kind, Problem, Subject};

/// The number of concurrent Event writes.
const CONCURRENT: usize = 4;
/// The namespace of Events about cluster-scoped objects.
const DEFAULT_NAMESPACE: &str = "default";

/// Takes the problems of objects, and writes Events about them. Clones share their state.
#[derive(Clone)]
pub struct Events {
    book: Arc<Mutex<EventBook>>,
    more: Arc<Notify>,
}

impl Events {
    /// `operator` is the object of Events that concern no object of a user, such as the index.
    pub fn new(operator: Subject) -> Self {
        Self { book: Arc::new(Mutex::new(EventBook::new(operator))), more: Arc::new(Notify::new()) }
    }

    /// Replaces all problems of an object. `uid` is empty if the object does not exist.
    pub fn report(&self, subject: &Subject, uid: &str, problems: &[Problem]) {
        self.book.lock().report(subject, uid, problems);
        self.more.notify_one();
    }

    /// Whether the Events of an object are about the one with this uid, and not about an earlier one with the same
    /// name.
    pub fn is_about(&self, subject: &Subject, uid: &str) -> bool {
        self.book.lock().is_about(subject, uid)
    }

    /// The object was deleted: no more Events about it.
    pub fn forget(&self, subject: &Subject) {
        self.book.lock().forget(subject);
    }

    /// Writes for one term of a leader, until the guard allows no more. Cancel-safe. `instance` names this replica.
    pub async fn run(self, requests: Requests, instance: &str) {
        let requests = &requests;
        let mut writes = FuturesUnordered::new();
        let mut log = FailureLog::default();
        while requests.allowed() {
            let now = Instant::now();
            let mut wait = Duration::from_secs(1);
            let metrics = requests.metrics();
            if writes.len() < CONCURRENT {
                let next = {
                    let mut book = self.book.lock();
                    let next = book.next(now);
                    metrics.events.add(EventResult::Suppressed, book.take_suppressed());
                    metrics.queue_depth.set(Queue::Event, book.waiting() as f64);
                    next
                };
                match next {
                    Next::Act(action) => {
                        writes.push(async move {
                            let result = write(requests, &action, instance).await;
                            (action, result)
                        });
                        continue;
                    }
                    Next::Wait(Some(at)) => wait = wait.min(at.saturating_duration_since(now)),
                    Next::Wait(None) => {}
                }
            }
            tokio::select! {
                Some((action, result)) = writes.next() => match result {
                    Ok(result) => {
                        metrics.events.inc(result);
                        self.book.lock().written(&action);
                    }
                    Err(error) => {
                        metrics.events.inc(EventResult::Failed);
                        self.book.lock().failed(&action, Instant::now());
                        if log.is_news(&error, now) {
                            tracing::warn!(%error, "an Event was not written; trying again");
                        }
                    }
                },
                () = self.more.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            }
        }
    }
}

/// Creates an Event, or refreshes an existing one.
async fn write(requests: &Requests, action: &Action, instance: &str) -> Result<EventResult, PublishError> {
    let create = create(action, instance, Timestamp::now())?;
    if action.count > 1 {
        return match requests.write(&refresh(action, Timestamp::now())?).await {
            Ok(_) => Ok(EventResult::Refreshed),
            // The API server has deleted it.
            Err(PublishError::NotFound { .. }) => requests.write(&create).await.map(|_| EventResult::Created),
            Err(error) => Err(error),
        };
    }
    match requests.write(&create).await {
        Ok(_) => Ok(EventResult::Created),
        // An earlier leader wrote it.
        Err(PublishError::Conflict { .. }) => {
            requests.write(&refresh(action, Timestamp::now())?).await.map(|_| EventResult::Refreshed)
        }
        Err(error) => Err(error),
    }
}

fn namespace(subject: &Subject) -> &str {
    if subject.namespace.is_empty() { DEFAULT_NAMESPACE } else { &subject.namespace }
}

fn target(action: &Action) -> ObjectTarget {
    let mut target =
        ObjectTarget::new::<Event>(WriteKind::Event, namespace(&action.subject), &action.event.name);
    target.object = format!("{} on {}", target.object, action.subject);
    target
}

fn create(action: &Action, instance: &str, now: Timestamp) -> Result<Write, PublishError> {
    let Action { subject, uid, event, .. } = action;
    let namespace = namespace(subject);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut reporter = instance.to_owned();
    reporter.truncate(reporter.floor_char_boundary(128));
    let body = Event {
        metadata: ObjectMeta {
            name: Some(event.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        regarding: Some(ObjectReference {
            api_version: some(api_version(subject.kind)),
            kind: some(subject.kind.as_str()),
            namespace: some(&subject.namespace),
            name: some(&subject.name),
            uid: some(uid),
            ..ObjectReference::default()
        }),
        reason: Some(event.reason.clone()),
        note: Some(event.note.clone()),
        type_: some(event.kind),
        action: some("Translate"),
        reporting_controller: some(MANAGER),
        reporting_instance: some(&reporter).or_else(|| some(MANAGER)),
        ..Event::default()
    };
    target(action).create(&body)
}

/// Only the series of an Event may change.
fn refresh(action: &Action, now: Timestamp) -> Result<Write, PublishError> {
    let body = serde_json::json!({
        "series": {"count": action.count.max(2), "lastObservedTime": MicroTime(now)},
    });
    target(action).merge(&body)
}

fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
        Kind::Service | Kind::Secret | Kind::ConfigMap => "v1",
        Kind::IngressClassParameters => "waybill.dev/v1alpha1",
    }
}
