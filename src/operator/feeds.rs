//! Runs the watches: one task for each kind and namespace, whose events go into the routing.

mod events;
mod optional;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use self::events::is_unreachable;
pub use self::events::{events, refusal};
use crate::kubernetes::well_known::{CLASSES_PART, PART_LABEL};
use crate::kubernetes::{
    EndpointSlice, Ingress, IngressClass, MetadataOf, Node, Secret, WireService, with_causes,
};
use crate::metrics::{Label as _, Metrics, WatchKind};
use crate::operator::live::{Live, Phase};
use crate::pace::Reminder;
use crate::routing::Routing;
use crate::spans::ChangedObject;
use crate::watch::{Scope, SecretSource, Touched};

/// A watch ends after this long and goes on where it was, so a connection that died is noticed soon after.
pub const WATCH_SECONDS: u32 = 30;

/// Objects in a page of a first list. Every kind has a whole page in memory at the same time, as text and decoded, and
/// the gaps between what is kept of it fragment the heap. On the other hand, pages are fetched one after the other, and
/// each costs a round trip.
pub const PAGE: u32 = 500;

/// Failures of the watches of a kind are logged at most this often.
const LOG_AGAIN: Duration = Duration::from_secs(30);

/// If the first list has been answered with 403 for this long, the right is missing. For a shorter time, a role may be
/// about to be replaced, or the API server may not have read its roles yet. A watch counts as dead only after more than
/// this ([`crate::publish::lease::Limits`]).
pub const WAIT_FOR_RIGHT: Duration = Duration::from_secs(30);

/// Secrets of Helm's releases are large, many, and of no use here.
const NOT_HELM: &str = "owner!=helm";

/// What decides which watches there are.
#[derive(Clone, Debug)]
pub struct Feeds {
    pub label_selector: String,
    pub classes: bool,
    pub nodes: bool,
    /// The namespace of the ConfigMap with the last accepted parameters of classes.
    pub namespace: String,
    pub class_memory: String,
    /// After how many seconds a watch ends and goes on where it was: [`WATCH_SECONDS`], less in tests.
    pub watch_seconds: u32,
    /// How long a first list may be refused: [`WAIT_FOR_RIGHT`], less in tests.
    pub wait_for_right: Duration,
}

/// A task that ends only by being dropped.
type Task = BoxFuture<'static, ()>;

/// What all watches need.
#[derive(Clone)]
struct Watching {
    client: Client,
    live: Arc<Live>,
    metrics: Metrics,
    watch_seconds: u32,
    wait_for_right: Duration,
    /// When it was last logged that the API server is away.
    away: Arc<Mutex<Reminder>>,
    /// Kinds that were listed in some namespace.
    listed: Arc<Mutex<Vec<WatchKind>>>,
}

/// All watches, as tasks to be spawned.
pub fn feeds(feeds: &Feeds, client: &Client, live: &Arc<Live>, metrics: &Metrics) -> Vec<Task> {
    let context = Watching {
        client: client.clone(),
        live: Arc::clone(live),
        metrics: metrics.clone(),
        watch_seconds: feeds.watch_seconds,
        wait_for_right: feeds.wait_for_right,
        away: Arc::new(Mutex::new(Reminder::new(LOG_AGAIN))),
        listed: Arc::default(),
    };
    let scopes = live.routing().stores().watched().scopes();
    let mut tasks: Vec<Task> = Vec::new();
    for scope in &scopes {
        tasks.push(context.namespaced(
            WatchKind::Ingress,
            scope,
            context.config().labels(&feeds.label_selector),
            |routing, scope, event: Event<Ingress>| routing.stores_mut().apply_ingress(scope, event),
        ));
        tasks.push(context.namespaced(
            WatchKind::Service,
            scope,
            context.config(),
            |routing, scope, event: Event<WireService>| routing.stores_mut().apply_service(scope, event),
        ));
        tasks.push(context.namespaced(
            WatchKind::EndpointSlice,
            scope,
            context.config(),
            |routing, scope, event: Event<EndpointSlice>| routing.stores_mut().apply_slice(scope, event),
        ));
        tasks.push(context.secrets(scope));
        tasks.push(context.secret_metadata(scope));
    }
    if feeds.classes {
        tasks.push(context.cluster(
            WatchKind::IngressClass,
            context.config(),
            |routing, event: Event<IngressClass>| routing.stores_mut().apply_class(event),
        ));
        tasks.push(context.class_memory(&feeds.namespace, &feeds.class_memory));
        tasks.push(context.namespaces());
        tasks.push(context.parameters());
    }
    if feeds.nodes {
        tasks.push(context.cluster(WatchKind::Node, context.config(), |routing, event: Event<Node>| {
            routing.stores_mut().apply_node(event)
        }));
    }
    tasks
}

impl Watching {
    fn config(&self) -> watcher::Config {
        watcher::Config::default().timeout(self.watch_seconds).page_size(PAGE)
    }

    fn namespaced<K>(
        &self,
        kind: WatchKind,
        scope: &Scope,
        config: watcher::Config,
        apply: impl Fn(&mut Routing, &Scope, Event<K>) -> Touched + Send + 'static,
    ) -> Task
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let (scope, of) = (scope.clone(), scope.clone());
        let api = api::<K>(&self.client, &scope);
        let apply = move |routing: &mut Routing, event| apply(routing, &of, event);
        self.clone().feed(kind, scope, api, config, apply).boxed()
    }

    fn cluster<K>(
        &self,
        kind: WatchKind,
        config: watcher::Config,
        apply: impl Fn(&mut Routing, Event<K>) -> Touched + Send + 'static,
    ) -> Task
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.clone().feed(kind, Scope::All, Api::all(self.client.clone()), config, apply).boxed()
    }

    /// TLS Secrets with their data. Begun once it is known which of them anybody names, since the data of the others
    /// is dropped as it arrives.
    fn secrets(&self, scope: &Scope) -> Task {
        let (context, scope, of) = (self.clone(), scope.clone(), scope.clone());
        async move {
            context.live.reached(Phase::SecretsNamed).await;
            let api = api::<Secret>(&context.client, &scope);
            let config = context.config().fields("type=kubernetes.io/tls").labels(NOT_HELM);
            context
                .feed(WatchKind::TlsSecret, scope, api, config, move |routing, event| {
                    let (stores, index) = routing.stores_and_index();
                    stores.apply_secret(SecretSource::Tls, &of, event, |key| index.secret_is_named(key))
                })
                .await;
        }
        .boxed()
    }

    /// Metadata of all other Secrets.
    fn secret_metadata(&self, scope: &Scope) -> Task {
        let (context, scope, of) = (self.clone(), scope.clone(), scope.clone());
        async move {
            context.live.reached(Phase::SecretsNamed).await;
            let api = api::<MetadataOf<Secret>>(&context.client, &scope);
            let config = context.config().fields("type!=kubernetes.io/tls").labels(NOT_HELM);
            context
                .feed(WatchKind::SecretMetadata, scope, api, config, move |routing, event| {
                    let (stores, index) = routing.stores_and_index();
                    stores.apply_secret_metadata(SecretSource::Others, &of, event, |key| {
                        index.secret_is_named(key)
                    })
                })
                .await;
        }
        .boxed()
    }

    /// The ConfigMap in which a leader keeps the last accepted parameters.
    fn class_memory(&self, namespace: &str, name: &str) -> Task {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        // Another installation in the namespace has one of its own.
        let label = format!("{PART_LABEL}={CLASSES_PART}");
        let config = self.config().labels(&label).fields(&format!("metadata.name={name}"));
        self.clone()
            .feed(WatchKind::ClassMemory, Scope::All, api, config, |routing, event| {
                routing.stores_mut().apply_class_memory(event)
            })
            .boxed()
    }

    /// Follows the objects of a kind. The owner of a watched namespace can take away our rights there, which must not hold
    /// up the others: what has been read of that namespace stays, and if nothing has been read, it counts as empty.
    async fn feed<K>(
        self,
        kind: WatchKind,
        scope: Scope,
        api: Api<K>,
        config: watcher::Config,
        apply: impl Fn(&mut Routing, Event<K>) -> Touched,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut reminder = Reminder::new(LOG_AGAIN);
        let mut listed = false;
        let mut refused_since = None;
        let path = api.resource_url().to_owned();
        self.metrics.watch_age.begun(kind, &path);
        let mut events = events(api, config);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        listed = true;
                        self.note_listed(kind);
                    }
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        refused_since = None;
                    }
                    self.take(kind, &path, event, &apply);
                }
                Err(error) => {
                    self.failed(kind, &error, &mut reminder);
                    let (Scope::Namespace(namespace), Some(403)) = (&scope, refusal(&error)) else {
                        refused_since = None;
                        continue;
                    };
                    let since = *refused_since.get_or_insert_with(Instant::now);
                    if listed {
                        self.metrics.watch_age.heard(kind, &path, Instant::now());
                    } else if since.elapsed() >= self.wait_for_right && self.was_listed(kind) {
                        tracing::warn!(
                            kind = kind.as_str(),
                            %namespace,
                            "waybill may not read this kind in this namespace; its objects there count as absent until it may"
                        );
                        listed = true;
                        self.take(kind, &path, Event::InitDone, &apply);
                    }
                }
            }
        }
    }

    /// A kind was listed in some namespace.
    fn note_listed(&self, kind: WatchKind) {
        let mut listed = self.listed.lock();
        if !listed.contains(&kind) {
            listed.push(kind);
        }
    }

    /// Whether a kind was listed in any namespace. If it was not, the fault is in our own rights, and everything would
    /// count as gone.
    fn was_listed(&self, kind: WatchKind) -> bool {
        self.listed.lock().contains(&kind)
    }

    fn take<K: Resource>(
        &self,
        kind: WatchKind,
        path: &str,
        event: Event<K>,
        apply: impl Fn(&mut Routing, Event<K>) -> Touched,
    ) {
        if matches!(event, Event::InitDone) && *self.live.phase().borrow() == Phase::Synced {
            self.metrics.watch_restarts.inc(kind);
        }
        if matches!(event, Event::InitDone) {
            tracing::debug!(kind = kind.as_str(), path, "listed");
        }
        // Until a list is complete, it shows no deletions, and `Init` comes before any answer: neither is a sign of life.
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            self.metrics.watch_age.heard(kind, path, Instant::now());
        }
        let object = self.live.spans.is_on().then(|| changed(kind, &event)).flatten();
        self.live.watch_event(kind, object, |routing| apply(routing, event));
    }

    fn failed(&self, kind: WatchKind, error: &watcher::Error, reminder: &mut Reminder) {
        self.metrics.watch_errors.inc(kind);
        let now = Instant::now();
        if is_unreachable(error) {
            // It is away for all watches alike.
            if self.away.lock().is_due(now) {
                tracing::warn!(error = %with_causes(error), "the API server can't be reached; trying again");
            }
        } else if reminder.is_due(now) {
            tracing::warn!(kind = kind.as_str(), error = %with_causes(error), "watch failed; trying again");
        }
    }
}

/// The object that an event changes by itself; those of a list are many.
fn changed<K: Resource>(kind: WatchKind, event: &Event<K>) -> Option<ChangedObject> {
    let (object, deleted) = match event {
        Event::Apply(object) => (object, false),
        Event::Delete(object) => (object, true),
        Event::Init | Event::InitApply(_) | Event::InitDone => return None,
    };
    let metadata = object.meta();
    Some(ChangedObject {
        kind: kind.as_str(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        deleted,
    })
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Scope::All => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}
