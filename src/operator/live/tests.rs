use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::Ingress;
use crate::parameters::classes::NamespaceSource;
use crate::translate::settings::ClassOptions;
use crate::watch::{Scope, SecretSource, Watched};

fn object<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn list<T: Clone>(objects: &[T]) -> Vec<Event<T>> {
    let all = objects.iter().cloned().map(Event::InitApply);
    std::iter::once(Event::Init).chain(all).chain([Event::InitDone]).collect()
}

/// Reconciles what is queued.
fn reconcile_queued(live: &Live) {
    while let Some((key, cause)) = live.ingresses.try_next() {
        live.reconcile(&IngressKey(key), cause).unwrap();
    }
}

/// Secrets may take minutes, and Namespaces are listed before them.
#[test]
fn what_goes_during_the_first_lists_leaves_nothing_behind() {
    let watched = Watched { namespaces: None, nodes: false };
    let routing = Routing::new(watched, ClassOptions::default(), Arc::default());
    let live = Live::new(routing, Metrics::new("x").unwrap());
    let ingress: Ingress = object(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "public", "rules": [{"host": "web.example.com"}]},
    }));
    let class = object(json!({
        "metadata": {"name": "public", "uid": "u"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "public"},
        },
    }));
    let parameters = object(json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": "public"},
        "spec": {"namespaces": {"selector": {"matchLabels": {"team": "edge"}}}},
    }));
    let apply_ingress = |event| {
        live.event(WatchKind::Ingress, |routing| routing.stores_mut().apply_ingress(&Scope::All, event));
    };
    list(&[ingress.clone()]).into_iter().for_each(apply_ingress);
    for event in list(&[class]) {
        live.event(WatchKind::IngressClass, |routing| routing.stores_mut().apply_class(event));
    }
    for event in list(&[parameters]) {
        live.event(WatchKind::Parameters, |routing| routing.stores_mut().apply_parameters(event));
    }
    for event in list(&[]) {
        live.event(WatchKind::ClassMemory, |routing| routing.stores_mut().apply_class_memory(event));
    }
    for event in list(&[]) {
        live.event(WatchKind::Service, |routing| routing.stores_mut().apply_service(&Scope::All, event));
    }
    for event in list(&[]) {
        live.event(WatchKind::EndpointSlice, |routing| routing.stores_mut().apply_slice(&Scope::All, event));
    }
    let shop = object(json!({"metadata": {"name": "shop", "labels": {"team": "edge"}}}));
    for event in list(&[shop]) {
        live.event(WatchKind::Namespace, |routing| routing.stores_mut().apply_namespace(event));
    }
    live.set_sources(|sources| sources.namespaces = NamespaceSource::Listed);
    assert!(live.routing().classes().state("public").is_some());
    reconcile_queued(&live);
    apply_ingress(Event::Delete(ingress));
    for event in list(&[]) {
        live.event(WatchKind::TlsSecret, |routing| {
            routing.stores_mut().apply_secret(SecretSource::Tls, &Scope::All, event, |_| false)
        });
    }
    for event in list(&[]) {
        live.event(WatchKind::SecretMetadata, |routing| {
            routing.stores_mut().apply_secret_metadata(SecretSource::Others, &Scope::All, event, |_| false)
        });
    }
    assert_eq!(*live.phase().borrow(), Phase::Synced);
    reconcile_queued(&live);
    let routing = live.routing();
    assert!(routing.own_ingresses().is_empty());
    assert!(routing.table().outputs().all(|(_, output)| output.is_empty()));
}
