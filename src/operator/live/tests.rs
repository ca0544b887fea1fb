use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::manifests::Manifests;
use crate::kubernetes::{EndpointSlice, Ingress};
use crate::parameters::classes::NamespaceSource;
use crate::translate::settings::ClassOptions;
use crate::watch::{Scope, SecretSource, Watched};
use crate::{offline, options};

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
    list(std::slice::from_ref(&ingress)).into_iter().for_each(apply_ingress);
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

/// The proxies' own pods come and go, and no address depends on them.
#[test]
fn statuses_are_looked_at_only_where_an_address_may_change() {
    let cluster = "
apiVersion: v1
kind: Service
metadata: {name: traefik, namespace: edge}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
";
    let source = "providers: {kubernetesIngress: {ingressEndpoint: {publishedService: edge/traefik}}}";
    let options = options::from_yaml_str(source).unwrap().options;
    let mut manifests = Manifests::default();
    manifests.add(&"cluster.yaml".into(), cluster.as_bytes());
    let live = Live::new(offline::routing(manifests, &options), Metrics::new("x").unwrap());
    live.set_leading(true);
    live.phase.send_replace(Phase::Synced);
    let touches = |kind, apply: &dyn Fn(&mut Routing) -> Touched| {
        live.event(kind, apply);
        live.take_pending().all_statuses
    };
    let slice = |address: &str| -> Event<EndpointSlice> {
        Event::Apply(object(json!({
            "metadata": {"name": "traefik", "namespace": "edge", "labels": {"kubernetes.io/service-name": "traefik"}},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}],
        })))
    };
    for address in ["10.0.0.1", "10.0.0.2"] {
        let apply = |routing: &mut Routing| {
            let touched = routing.stores_mut().apply_slice(&Scope::All, slice(address));
            assert!(!touched.is_empty());
            touched
        };
        assert!(!touches(WatchKind::EndpointSlice, &apply), "{address}");
    }
    let nodes = |_: &mut Routing| Touched { nodes: true, ..Touched::default() };
    assert!(!touches(WatchKind::Node, &nodes), "a balancer has the addresses");
    let service = |kind: &'static str| {
        move |routing: &mut Routing| {
            let service = object(json!({
                "metadata": {"name": "traefik", "namespace": "edge"},
                "spec": {"type": kind, "ports": [{"port": 80, "nodePort": 30080}]},
            }));
            let touched = routing.stores_mut().apply_service(&Scope::All, Event::Apply(service));
            assert!(touched.services.contains(&ServiceKey::new("edge", "traefik")));
            touched
        }
    };
    assert!(touches(WatchKind::Service, &service("NodePort")));
    assert!(touches(WatchKind::Node, &nodes));
    assert!(touches(WatchKind::Service, &service("ClusterIP")));
    assert!(!touches(WatchKind::Node, &nodes));
}
