//! Stores that hold the made-up cluster, filled as a watch would.

use std::sync::Arc;

use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use waybill::routing::Routing;
use waybill::translate::settings::ClassOptions;
use waybill::watch::{Scope, SecretSource, Watched};

use super::cluster;

/// An object of the made-up cluster in its type.
pub fn typed<K: DeserializeOwned>(object: serde_json::Value) -> K {
    serde_json::from_value(object).expect("the made-up cluster holds valid objects")
}

/// A routing whose stores hold the cluster and that has translated nothing.
pub fn routing(count: usize) -> Routing {
    let watched = Watched { namespaces: None, nodes: true };
    let mut routing = Routing::new(watched, ClassOptions::default(), Arc::default());
    let stores = routing.stores_mut();
    stores.apply_class(Event::Apply(typed(cluster::class())));
    for number in 0..count {
        stores.apply_ingress(&Scope::All, Event::Apply(typed(cluster::ingress(number))));
        stores.apply_service(&Scope::All, Event::Apply(typed(cluster::service(number))));
        stores.apply_slice(&Scope::All, Event::Apply(typed(cluster::endpoint_slice(number, 0))));
        if number.is_multiple_of(5) {
            let secret = typed(cluster::secret(number));
            stores.apply_secret(SecretSource::Tls, &Scope::All, Event::Apply(secret), |_| true);
        }
    }
    routing.resolve_classes();
    routing
}
