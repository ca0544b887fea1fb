//! Feeds manifests instead of watch events into the same stores and the same reconciliation.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;

use crate::index::Dependencies;
use crate::kubernetes::key::SecretKey;
use crate::kubernetes::manifests::Manifests;
use crate::options::Options;
use crate::parameters::classes::{NamespaceSource, Sources};
use crate::parameters::memory;
use crate::routing::Routing;
use crate::watch::{Scope, SecretSource, Watched};

/// The parts of the options that decide what is watched.
pub fn watched(options: &Options) -> Watched {
    let namespaces: Vec<Arc<str>> = options.namespaces.iter().map(|name| name.as_str().into()).collect();
    Watched {
        namespaces: (!namespaces.is_empty()).then_some(namespaces),
        nodes: !options.settings.disable_cluster_scope_resources,
    }
}

/// The last accepted settings of classes: the ConfigMap with the Lease's name; of several, the one in the operator's
/// namespace.
fn class_memory(maps: Vec<ConfigMap>, options: &Options) -> Option<ConfigMap> {
    let name = memory::name(&options.leader_election.lease_name);
    maps.into_iter()
        .filter(|map| map.metadata.name.as_deref() == Some(name.as_str()))
        .min_by_key(|map| map.metadata.namespace.as_deref() != Some(options.namespace.as_str()))
}

/// The routing of a set of manifests. Objects that the options exclude from watches are excluded here too.
pub fn routing(manifests: Manifests, options: &Options) -> Routing {
    let mut routing =
        Routing::new(watched(options), options.class.clone(), Arc::new(options.settings.clone()));
    let scope = |namespace: Option<&String>| -> Option<Scope> {
        if options.namespaces.is_empty() {
            return Some(Scope::All);
        }
        let namespace = namespace.filter(|namespace| options.namespaces.contains(*namespace))?;
        Some(Scope::Namespace(namespace.as_str().into()))
    };
    let selected = |labels: Option<&std::collections::BTreeMap<String, String>>| {
        let none = std::collections::BTreeMap::new();
        options.label_selector.matches(labels.unwrap_or(&none))
    };
    let namespaces = !manifests.namespaces.is_empty();
    let mut named: Vec<SecretKey> = Vec::new();
    let stores = routing.stores_mut();
    if !options.class.lookup_disabled {
        for class in manifests.classes {
            stores.apply_class(Event::Apply(class));
        }
        for parameters in manifests.parameters {
            stores.apply_parameters(Event::Apply(parameters));
        }
        if let Some(memory) = class_memory(manifests.class_memory, options) {
            stores.apply_class_memory(Event::Apply(memory));
        }
        for namespace in manifests.namespaces {
            stores.apply_namespace(Event::Apply(namespace));
        }
    }
    for ingress in manifests.ingresses {
        if let Some(scope) = scope(ingress.metadata.namespace.as_ref())
            && selected(ingress.metadata.labels.as_ref())
        {
            let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default().into();
            named.extend(Dependencies::new(&ingress, namespace).secrets);
            stores.apply_ingress(&scope, Event::Apply(ingress));
        }
    }
    for service in manifests.services {
        if let Some(scope) = scope(service.metadata.namespace.as_ref()) {
            stores.apply_service(&scope, Event::Apply(service));
        }
    }
    for slice in manifests.slices {
        if let Some(scope) = scope(slice.metadata.namespace.as_ref()) {
            stores.apply_slice(&scope, Event::Apply(slice));
        }
    }
    named.sort_unstable();
    for secret in manifests.secrets {
        if let Some(scope) = scope(secret.metadata.namespace.as_ref()) {
            let wanted = |key: &SecretKey| named.binary_search(key).is_ok();
            stores.apply_secret(SecretSource::Tls, &scope, Event::Apply(secret), wanted);
        }
    }
    for node in manifests.nodes {
        stores.apply_node(Event::Apply(node));
    }
    routing.table_mut().declare(&options.settings.output);
    if !options.class.lookup_disabled {
        let namespaces = if namespaces { NamespaceSource::Listed } else { NamespaceSource::Unavailable };
        routing.set_sources(|sources| *sources = Sources { parameters: true, namespaces });
        routing.adopt_stored_class_memory();
        routing.resolve_classes();
    }
    routing.reconcile_all();
    routing
}
