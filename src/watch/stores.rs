//! The known objects of the cluster, offline and live alike: watcher events go in, and keys of what they changed come
//! out.
//!
//! `Stores` is a plain value. If several tasks share it, it is behind a lock. Nothing in here waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::Value;

use crate::kubernetes::key::{IngressKey, SecretKey, ServiceKey};
use crate::kubernetes::{
    EndpointSlice, Ingress, IngressClass, MetadataOf, Namespace, Node, NodeAddresses, Secret, Service, Slice,
    WireService,
};
use crate::metrics::WatchKind;
use crate::watch::apply::{apply_cluster_scoped, apply_part, cluster_key, count, key_of, secret_event};
use crate::watch::changes::Touched;
use crate::watch::collection::{Collection, Scope};
use crate::watch::namespaces::KnownNamespaces;
use crate::watch::nodes::Nodes;
use crate::watch::secrets::{Asked, FetchFailure, SecretSource, Secrets};
use crate::watch::slices::SlicesByService;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The namespaces of namespaced kinds; `None` means all, with one watch for the whole cluster.
    pub namespaces: Option<Vec<Arc<str>>>,
    /// Whether nodes are read.
    pub nodes: bool,
}

impl Watched {
    /// One scope for each watch of a namespaced kind.
    pub fn scopes(&self) -> Vec<Scope> {
        match &self.namespaces {
            None => vec![Scope::All],
            Some(namespaces) => namespaces.iter().cloned().map(Scope::Namespace).collect(),
        }
    }
}

/// The stored part of an IngressClassParameters: unchecked, since manifests and older CRDs allow anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// `metadata.generation`; `None` in a manifest.
    pub generation: Option<i64>,
    /// The spec; `Null` if there is none.
    pub spec: Value,
    /// The status; `Null` if there is none.
    pub status: Value,
}

impl From<DynamicObject> for Parameters {
    fn from(mut object: DynamicObject) -> Self {
        let mut part = |name| object.data.get_mut(name).map(Value::take).unwrap_or_default();
        Self { spec: part("spec"), status: part("status"), generation: object.metadata.generation }
    }
}

/// The objects.
#[derive(Debug)]
pub struct Stores {
    watched: Watched,
    ingresses: Collection<Arc<Ingress>>,
    /// See [`Stores::take_left`].
    left: Vec<(IngressKey, Arc<Ingress>)>,
    classes: Collection<Arc<IngressClass>>,
    services: Collection<Arc<Service>>,
    slices: Collection<Arc<Slice>>,
    slices_by_service: SlicesByService,
    secrets: Secrets,
    nodes: Nodes,
    labels: Collection<Arc<BTreeMap<String, String>>>,
    parameters: Collection<Arc<Parameters>>,
    class_memory: Collection<Arc<ConfigMap>>,
    known: KnownNamespaces,
}

impl Stores {
    /// Empty stores.
    pub fn new(watched: Watched) -> Self {
        let scopes = watched.scopes();
        let mut known = KnownNamespaces::default();
        for namespace in watched.namespaces.iter().flatten() {
            known.add(namespace);
        }
        Self {
            ingresses: Collection::new(&scopes),
            left: Vec::new(),
            classes: Collection::default(),
            services: Collection::new(&scopes),
            slices: Collection::new(&scopes),
            slices_by_service: SlicesByService::default(),
            secrets: Secrets::new(&scopes),
            nodes: Nodes::default(),
            labels: Collection::default(),
            parameters: Collection::default(),
            class_memory: Collection::default(),
            known,
            watched,
        }
    }

    /// What is watched.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The Ingresses.
    pub fn ingresses(&self) -> &Collection<Arc<Ingress>> {
        &self.ingresses
    }

    /// The IngressClasses, by name (the namespace of the key is empty).
    pub fn classes(&self) -> &Collection<Arc<IngressClass>> {
        &self.classes
    }

    /// The Services.
    pub fn services(&self) -> &Collection<Arc<Service>> {
        &self.services
    }

    /// The Secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The labels of namespaces, by name (the namespace of the key is empty).
    pub fn labels(&self) -> &Collection<Arc<BTreeMap<String, String>>> {
        &self.labels
    }

    /// IngressClassParameters by name (the namespace of the key is empty).
    pub fn parameters(&self) -> &Collection<Arc<Parameters>> {
        &self.parameters
    }

    /// The ConfigMaps in which a leader keeps the last accepted parameters of classes.
    pub fn class_memory(&self) -> &Collection<Arc<ConfigMap>> {
        &self.class_memory
    }

    /// An Ingress was created, changed or deleted.
    pub fn apply_ingress(&mut self, scope: &Scope, event: Event<Ingress>) -> Touched {
        let mut touched = Touched::default();
        let (event, known) = (stripped(event, Ingress::strip), &self.known);
        let changes = apply_part(&mut self.ingresses, scope, event, |ingress| key_of(ingress, known));
        for (key, change) in changes {
            count(&mut self.known, &mut touched, &key, &change);
            match (&change.before, &change.after) {
                (Some(before), Some(after)) if same_routing(before, after) => {
                    touched.statuses.push(IngressKey(key));
                    continue;
                }
                (Some(before), None) => self.left.push((IngressKey(key.clone()), Arc::clone(before))),
                _ => {}
            }
            touched.ingresses.push(IngressKey(key));
        }
        touched
    }

    /// Ingresses that left the watch since the last call, in their last version. One that loses the selected label leaves it
    /// like a deleted one.
    pub fn take_left(&mut self) -> Vec<(IngressKey, Arc<Ingress>)> {
        std::mem::take(&mut self.left)
    }

    /// An IngressClass was created, changed or deleted.
    pub fn apply_class(&mut self, event: Event<IngressClass>) -> Touched {
        let event = stripped(event, IngressClass::strip);
        Touched { classes: apply_cluster_scoped(&mut self.classes, event), ..Touched::default() }
    }

    /// A Service was created, changed or deleted.
    pub fn apply_service(&mut self, scope: &Scope, event: Event<WireService>) -> Touched {
        let mut touched = Touched::default();
        let known = &self.known;
        let changes = apply_part(&mut self.services, scope, event, |service| key_of(service, known));
        for (key, change) in changes {
            count(&mut self.known, &mut touched, &key, &change);
            touched.services.push(ServiceKey(key));
        }
        touched
    }

    /// An EndpointSlice was created, changed or deleted. If it moved, it touches both Services.
    pub fn apply_slice(&mut self, scope: &Scope, event: Event<EndpointSlice>) -> Touched {
        let mut touched = Touched::default();
        let known = &self.known;
        for (key, change) in apply_part(&mut self.slices, scope, event, |slice| key_of(slice, known)) {
            let owner = |slice: &Arc<Slice>| {
                let service = &*slice.service;
                (!service.is_empty()).then(|| ServiceKey::new(known.shared(key.namespace()), service))
            };
            let before = change.before.as_ref().and_then(owner);
            let after = change.after.as_ref().and_then(owner);
            if let (Some(service), Some(slice)) = (&before, &change.before) {
                self.slices_by_service.remove(service, slice);
            }
            if let (Some(service), Some(slice)) = (&after, change.after) {
                self.slices_by_service.insert(service.clone(), slice);
            }
            touched.endpoints.extend(before.filter(|before| Some(before) != after.as_ref()));
            touched.endpoints.extend(after);
        }
        touched
    }

    /// A Secret was created, changed or deleted, with its data. `wanted` says whether an Ingress names it
    /// ([`DependencyIndex::secret_is_named`]); otherwise the data is dropped.
    ///
    /// [`DependencyIndex::secret_is_named`]: crate::index::DependencyIndex::secret_is_named
    pub fn apply_secret(
        &mut self,
        source: SecretSource,
        scope: &Scope,
        event: Event<Secret>,
        wanted: impl Fn(&SecretKey) -> bool,
    ) -> Touched {
        let (known, secrets) = (&self.known, &mut self.secrets);
        secret_event(known, secrets, source, scope, event, |secrets, key, secret| {
            let wanted = wanted(&key);
            secrets.put(source, key, secret, wanted)
        })
    }

    /// A Secret was created, changed or deleted, without its data. If its data is needed, it is in `fetch`.
    pub fn apply_secret_metadata(
        &mut self,
        source: SecretSource,
        scope: &Scope,
        event: Event<MetadataOf<Secret>>,
        wanted: impl Fn(&SecretKey) -> bool,
    ) -> Touched {
        let (known, secrets) = (&self.known, &mut self.secrets);
        secret_event(known, secrets, source, scope, event, |secrets, key, secret| {
            let wanted = wanted(&key);
            secrets.put_metadata(source, key, secret.meta(), wanted)
        })
    }

    /// The API server's answer to a GET of a Secret in [`Touched::fetch`]; `None` is 404.
    pub fn secret_fetched(&mut self, key: &SecretKey, asked: &Asked, secret: Option<&Secret>) -> Touched {
        let changed = self.secrets.fetched(key, asked, secret);
        Touched { secrets: changed.then(|| key.clone()).into_iter().collect(), ..Touched::default() }
    }

    /// A GET of a Secret failed, but not with 404.
    pub fn secret_fetch_failed(&mut self, key: &SecretKey, why: FetchFailure) -> Touched {
        let changed = self.secrets.fetch_failed(key, why);
        Touched { secrets: changed.then(|| key.clone()).into_iter().collect(), ..Touched::default() }
    }

    /// When the next deleted Secret leaves the routing ([`Self::expire_gone_secrets`]).
    pub fn gone_secrets_due(&self) -> Option<Instant> {
        self.secrets.gone_due()
    }

    /// Secrets that have been deleted for so long that their certificates are no longer used.
    pub fn expire_gone_secrets(&mut self, now: Instant) -> Touched {
        Touched { secrets: self.secrets.expire_gone(now), ..Touched::default() }
    }

    /// The last Ingress that named a Secret is gone: its data is dropped.
    pub fn release_secret(&mut self, key: &SecretKey) {
        self.secrets.release(key);
    }

    /// A Node was created, changed or deleted. A heartbeat touches nothing.
    pub fn apply_node(&mut self, event: Event<Node>) -> Touched {
        let nodes = &mut self.nodes.collection;
        let changed = match event {
            Event::Init => {
                nodes.begin_list(&Scope::All);
                false
            }
            Event::InitDone => !nodes.end_list(&Scope::All).is_empty(),
            Event::Delete(node) => nodes.remove(&cluster_key(&node)).is_some(),
            Event::Apply(node) | Event::InitApply(node) => {
                let key = cluster_key(&node);
                let keep = |addresses| Some(Arc::new(addresses));
                nodes.insert(key, NodeAddresses::from(node), |old, new| **old == *new, keep).is_some()
            }
        };
        if changed {
            self.nodes.invalidate();
        }
        Touched { nodes: changed, ..Touched::default() }
    }

    /// A Namespace was created, changed or deleted; only its labels are used.
    pub fn apply_namespace(&mut self, event: Event<Namespace>) -> Touched {
        let labels = apply_cluster_scoped::<Namespace, _>(&mut self.labels, event);
        Touched { labels, ..Touched::default() }
    }

    /// IngressClassParameters were created, changed or deleted. A changed status touches them too, since someone may
    /// have edited it.
    pub fn apply_parameters(&mut self, event: Event<DynamicObject>) -> Touched {
        let parameters = apply_cluster_scoped(&mut self.parameters, event);
        Touched { parameters, ..Touched::default() }
    }

    /// A ConfigMap with stored parameters was created, changed or deleted.
    pub fn apply_class_memory(&mut self, event: Event<ConfigMap>) -> Touched {
        let known = &self.known;
        let changes = apply_part(&mut self.class_memory, &Scope::All, event, |map| key_of(map, known));
        Touched { class_memory: !changes.is_empty(), ..Touched::default() }
    }

    /// The number of objects of a kind; `None` for kinds that are not stored here.
    pub fn count(&self, kind: WatchKind) -> Option<usize> {
        Some(match kind {
            WatchKind::Ingress => self.ingresses().len(),
            WatchKind::IngressClass => self.classes().len(),
            WatchKind::Service => self.services.len(),
            WatchKind::EndpointSlice => self.slices.len(),
            WatchKind::TlsSecret => self.secrets.count(SecretSource::Tls),
            WatchKind::SecretMetadata => self.secrets.count(SecretSource::Others),
            WatchKind::Node => self.nodes().collection.len(),
            WatchKind::Namespace => self.labels().len(),
            WatchKind::Parameters => self.parameters().len(),
            WatchKind::ClassMemory => self.class_memory().len(),
            WatchKind::OwnConfigMap | WatchKind::OwnSecret | WatchKind::Lease | WatchKind::AgentLease => {
                return None;
            }
        })
    }

    /// Whether the watches of Ingresses, Services, EndpointSlices and Secrets have all listed once.
    pub fn routing_synced(&self) -> bool {
        self.ingresses.synced()
            && self.services.synced()
            && self.slices.synced()
            && self.secrets.synced(SecretSource::Tls)
            && self.secrets.synced(SecretSource::Others)
    }

    /// A Service.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key).map(|service| &**service)
    }

    /// The EndpointSlices of a Service, oldest first, then by name.
    pub fn endpoint_slices(&self, key: &ServiceKey) -> &[Arc<Slice>] {
        self.slices_by_service.get(key)
    }

    /// The InternalIP addresses of all nodes, by node name; `None` if nodes are not read.
    pub fn node_internal_ips(&self) -> Option<Arc<[Box<str>]>> {
        self.watched.nodes.then(|| self.nodes.internal_ips())
    }

    /// The ExternalIP addresses of all nodes, by node name; `None` if nodes are not read.
    pub fn node_external_ips(&self) -> Option<Arc<[Box<str>]>> {
        self.watched.nodes.then(|| self.nodes.external_ips())
    }

    /// Whether a namespace contains an Ingress or a Service, as far as it is watched.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.known.contains(namespace)
    }
}

/// An event without the unused fields of its object.
fn stripped<K>(event: Event<K>, strip: impl Fn(&mut K)) -> Event<K> {
    match event {
        Event::Apply(mut object) => {
            strip(&mut object);
            Event::Apply(object)
        }
        Event::InitApply(mut object) => {
            strip(&mut object);
            Event::InitApply(object)
        }
        other => other,
    }
}

/// Whether two versions of an Ingress give the same routing.
fn same_routing(before: &Ingress, after: &Ingress) -> bool {
    before.spec == after.spec
        && before.metadata.annotations == after.metadata.annotations
        && before.metadata.creation_timestamp == after.metadata.creation_timestamp
        && before.metadata.uid == after.metadata.uid
}

#[cfg(test)]
mod tests;
