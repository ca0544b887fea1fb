//! The two kube Controllers, of Ingresses and of IngressClasses.
//!
//! ```text
//! Live: keys that events touched ──▶ window ──▶ Controller ──▶ reconcile
//!                                      ▲            │
//!                                      └── failed ──┘ a while later
//! ```
//!
//! One set of watches serves everything, so a Controller has no watch of its own: it is triggered by the queue of keys.
//! kube looks up each key in a reflector store before it reconciles. Here that store is a small window of the queue,
//! which holds the keys and why they were queued; the objects themselves are in the stores. A key is in the window
//! whether or not its object exists, so deletions are reconciled like changes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::key_queue::KeyQueue;
use crate::kubernetes::key::{IngressKey, ObjectKey};
use crate::kubernetes::{Ingress, IngressClass};
use crate::metrics::{Controller as Name, Metrics, Queue, ReconcileResult, Trigger};
use crate::operator::line_limit::LineLimit;
use crate::operator::live::{Cause, Live};
use crate::routing::ReconcileError;

/// The number of concurrent reconciliations. They take microseconds under one lock, so more would only wait for it.
const CONCURRENCY: u16 = 2;

/// The number of keys that a Controller has taken from its queue but not started.
const WINDOW: usize = 64;

/// The delay before a failed reconciliation is repeated.
const AGAIN: Duration = Duration::from_secs(30);

/// Limits of log lines about failed reconciliations: per second, and at once.
const LINES: (u32, u32) = (1, 20);

/// A key in the form that a Controller requires.
type QueuedObject<K> = PartialObjectMeta<K>;

/// Reconciles Ingresses until `shutdown` is done.
pub async fn ingresses(
    live: Arc<Live>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let queue = Arc::clone(&live.ingresses);
    let reconcile = move |key: ObjectKey, cause| live.reconcile(&IngressKey(key), cause);
    let window = Window::<Ingress, _>::new(queue, (Name::Ingress, Queue::Ingress), metrics, reconcile, AGAIN);
    window.run(shutdown).await;
}

/// Reconciles IngressClasses until `shutdown` is done.
pub async fn classes(
    live: Arc<Live>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let queue = Arc::clone(&live.classes);
    let reconcile = move |key: ObjectKey, cause: Cause| {
        live.reconcile_class(key.name(), cause.trace);
        Ok(())
    };
    let names = (Name::IngressClass, Queue::IngressClass);
    Window::<IngressClass, _>::new(queue, names, metrics, reconcile, AGAIN).run(shutdown).await;
}

/// The keys between a queue and a Controller.
struct Window<K: Resource<DynamicType = ()> + Clone + 'static, R> {
    queue: Arc<KeyQueue<ObjectKey, Cause>>,
    names: (Name, Queue),
    metrics: Metrics,
    reconcile: R,
    again: Duration,
    space: Arc<Semaphore>,
    lookups: Mutex<Lookups<K>>,
    lines: Mutex<LineLimit>,
}

/// The objects in the Controller's store, and the reasons why each key has to be reconciled.
struct Lookups<K: Resource<DynamicType = ()> + Clone + 'static> {
    causes: HashMap<ObjectKey, (Cause, Option<OwnedSemaphorePermit>)>,
    writer: Writer<QueuedObject<K>>,
}

impl<K, R> Window<K, R>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    R: Fn(ObjectKey, Cause) -> Result<(), ReconcileError> + Send + Sync + 'static,
{
    fn new(
        queue: Arc<KeyQueue<ObjectKey, Cause>>,
        names: (Name, Queue),
        metrics: Metrics,
        reconcile: R,
        again: Duration,
    ) -> Arc<Self> {
        let mut writer = Writer::new(());
        // Without a list of its own, it is ready at once.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let lookups = Mutex::new(Lookups { causes: HashMap::new(), writer });
        let space = Arc::new(Semaphore::new(WINDOW));
        let lines = Mutex::new(LineLimit::new(LINES.0, LINES.1));
        Arc::new(Self { queue, names, metrics, reconcile, again, space, lookups, lines })
    }

    async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
        let store = self.lookups.lock().writer.as_reader();
        Controller::for_stream(stream::pending(), store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_on(Arc::clone(&self).requests())
            .graceful_shutdown_on(shutdown)
            .run(
                |key, window| {
                    // The causes are taken out before it starts: later ones are for another reconciliation.
                    let (key, cause) = window.take_out(&key);
                    async move { window.reconcile(key, cause) }
                },
                |key, error, window| window.failed(&key, error),
                self,
            )
            .for_each(|result| {
                if let Err(error) = result {
                    tracing::debug!(%error, "a reconciliation has failed");
                }
                std::future::ready(())
            })
            .await;
    }

    /// Takes keys from the queue while there is space for them.
    fn requests(self: Arc<Self>) -> impl Stream<Item = ObjectRef<QueuedObject<K>>> + Send + 'static {
        stream::unfold(self, |window| async move {
            let space = Arc::clone(&window.space).acquire_owned().await.ok()?;
            let (key, cause) = window.queue.next().await;
            let reference = window.take_in(key, cause, Some(space));
            Some((reference, window))
        })
    }

    fn take_in(
        &self,
        key: ObjectKey,
        cause: Cause,
        space: Option<OwnedSemaphorePermit>,
    ) -> ObjectRef<QueuedObject<K>> {
        let object = object(&key);
        let reference = ObjectRef::from_obj(&object);
        let mut taken = self.lookups.lock();
        // The first cause is used, since that change has waited longest.
        taken.causes.entry(key).or_insert((cause, space));
        taken.writer.apply_watcher_event(&Event::Apply(object));
        self.show_depth(&taken);
        reference
    }

    fn take_out(&self, object: &QueuedObject<K>) -> (ObjectKey, Cause) {
        let key = key_of(object);
        let mut taken = self.lookups.lock();
        taken.writer.apply_watcher_event(&Event::Delete(object.clone()));
        let cause = taken.causes.remove(&key).map(|(cause, _)| cause);
        self.show_depth(&taken);
        (key, cause.unwrap_or_else(Cause::again))
    }

    fn show_depth(&self, taken: &Lookups<K>) {
        self.metrics.queue_depth.set(self.names.1, (self.queue.len() + taken.causes.len()) as f64);
    }

    fn reconcile(&self, key: ObjectKey, cause: Cause) -> Result<Action, ReconcileError> {
        let timer = self.metrics.reconcile_seconds.timer(self.names.0);
        (self.reconcile)(key, cause)?;
        drop(timer);
        self.metrics.reconciles.inc(self.names.0, ReconcileResult::Success);
        Ok(Action::await_change())
    }

    fn failed(&self, object: &QueuedObject<K>, error: &ReconcileError) -> Action {
        let line = self.lines.lock().allows(Instant::now());
        if let Some(not_logged) = line {
            tracing::error!(%error, not_logged, "a reconciliation has failed; trying again later");
        }
        self.metrics.reconciles.inc(self.names.0, ReconcileResult::Error);
        self.take_in(key_of(object), Cause::again(), None);
        Action::requeue(self.again)
    }
}

impl Cause {
    fn again() -> Self {
        Self { trigger: Trigger::Resync, at: Instant::now(), trace: None }
    }
}

fn object<K>(key: &ObjectKey) -> QueuedObject<K> {
    let namespace = Some(key.namespace().to_owned()).filter(|namespace| !namespace.is_empty());
    let metadata = ObjectMeta { namespace, name: Some(key.name().to_owned()), ..ObjectMeta::default() };
    PartialObjectMeta { types: None, metadata, _phantom: std::marker::PhantomData }
}

fn key_of<K>(object: &QueuedObject<K>) -> ObjectKey {
    let metadata = &object.metadata;
    ObjectKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    /// More keys than there is space for, one of which fails the first time.
    #[tokio::test]
    async fn every_key_is_reconciled_and_one_that_fails_comes_again() {
        let queue = Arc::new(KeyQueue::default());
        let metrics = Metrics::new("x").unwrap();
        let (done, mut reconciled) = mpsc::unbounded_channel();
        let failures = AtomicUsize::new(1);
        let reconcile = move |key: ObjectKey, _| {
            let fails = key.name() == "7" && failures.swap(0, Ordering::Relaxed) > 0;
            if fails {
                return Err(ReconcileError::Panicked { key: IngressKey(key), message: String::new() });
            }
            let _ = done.send(key);
            Ok(())
        };
        let keys = 3 * WINDOW;
        queue.extend((0..keys).map(|key| (ObjectKey::new("web", key.to_string()), Cause::again())));
        let names = (Name::Ingress, Queue::Ingress);
        let window =
            Window::<Ingress, _>::new(Arc::clone(&queue), names, metrics.clone(), reconcile, Duration::ZERO);
        let running = tokio::spawn(window.run(std::future::pending()));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..keys {
            assert!(seen.insert(reconciled.recv().await.unwrap()));
        }
        assert_eq!(metrics.reconciles.get(Name::Ingress, ReconcileResult::Error), 1);
        assert!(metrics.render().unwrap().contains("workqueue_depth{name=\"ingress\"} 0\n"));
        // Again, and one without a namespace.
        for namespace in ["web", ""] {
            queue.push(ObjectKey::new(namespace, "7"), Cause::again());
            assert_eq!(reconciled.recv().await.unwrap(), ObjectKey::new(namespace, "7"));
        }
        running.abort();
    }
}
