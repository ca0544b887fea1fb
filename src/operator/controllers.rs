//! The two kube Controllers: what is to be reconciled comes from the index, not from the Controllers' own watches, so
//! that one set of watches serves everything.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};

use crate::kubernetes::key::IngressKey;
use crate::kubernetes::{Ingress, IngressClass};
use crate::metrics::{Controller as Name, Metrics, Queue, ReconcileResult};
use crate::operator::live::{Cause, Live};

/// Reconciliations that run at once. They take microseconds under one lock; more would only wait for it.
const CONCURRENCY: u16 = 2;

/// What a reconciliation of an Ingress needs.
struct Context {
    live: Arc<Live>,
    metrics: Metrics,
    /// Why each Ingress that the Controller was told of is to be reconciled.
    causes: Mutex<HashMap<IngressKey, Cause>>,
}

/// Reconciles Ingresses until `shutdown` is done.
pub async fn ingresses(
    live: Arc<Live>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let reader = live.routing().stores_mut().ingresses_mut().mirror();
    let context = Arc::new(Context { live, metrics, causes: Mutex::default() });
    Controller::for_stream(never::<Ingress>(), reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(requests(&context))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, |_, error: &Infallible, _| match *error {}, context)
        .for_each(|_| std::future::ready(()))
        .await;
}

/// A Controller wants a stream of objects; everything comes through `reconcile_on` here.
fn never<K: Send + 'static>() -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static {
    stream::pending()
}

fn requests(context: &Arc<Context>) -> impl Stream<Item = ObjectRef<Ingress>> + Send + 'static {
    let context = Arc::clone(context);
    Arc::clone(&context.live.ingresses).stream().map(move |(key, cause)| {
        let reference = ObjectRef::new(key.name()).within(key.namespace());
        let mut causes = context.causes();
        causes.entry(key).or_insert(cause);
        context.metrics.queue_depth.set(Queue::Ingress, causes.len() as f64);
        reference
    })
}

impl Context {
    fn causes(&self) -> std::sync::MutexGuard<'_, HashMap<IngressKey, Cause>> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn reconcile(ingress: Arc<Ingress>, context: Arc<Context>) -> Result<Action, Infallible> {
    let timer = context.metrics.reconcile_seconds.timer(Name::Ingress);
    let metadata = &ingress.metadata;
    let key = IngressKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let cause = {
        let mut causes = context.causes();
        let cause = causes.remove(&key);
        context.metrics.queue_depth.set(Queue::Ingress, causes.len() as f64);
        cause
    };
    let cause =
        cause.unwrap_or_else(|| Cause { trigger: crate::metrics::Trigger::Resync, at: Instant::now() });
    context.live.reconcile(&key, cause);
    drop(timer);
    context.metrics.reconciles.inc(Name::Ingress, ReconcileResult::Success);
    Ok(Action::await_change())
}

/// Reconciles IngressClasses until `shutdown` is done.
pub async fn classes(
    live: Arc<Live>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let reader = live.routing().stores_mut().classes_mut().mirror();
    let requests = Arc::clone(&live.classes).stream().map(|(name, ())| ObjectRef::new(&name));
    Controller::for_stream(never::<IngressClass>(), reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(requests)
        .graceful_shutdown_on(shutdown)
        .run(reconcile_class, |_, error: &Infallible, _| match *error {}, Arc::new((live, metrics)))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile_class(
    class: Arc<IngressClass>,
    context: Arc<(Arc<Live>, Metrics)>,
) -> Result<Action, Infallible> {
    let (live, metrics) = &*context;
    let timer = metrics.reconcile_seconds.timer(Name::IngressClass);
    live.reconcile_class(class.metadata.name.as_deref().unwrap_or_default());
    drop(timer);
    metrics.reconciles.inc(Name::IngressClass, ReconcileResult::Success);
    Ok(Action::await_change())
}
