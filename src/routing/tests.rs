use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::kubernetes::{Ingress, MetadataOf, Secret};
use crate::watch::{Scope, SecretSource};

/// An Ingress whose class refuses it asks for no key, and asks when it is admitted: by the class, or by being of another.
#[test]
fn the_secrets_of_a_refused_ingress_are_asked_for_when_it_is_admitted() {
    let key = IngressKey::new("web", "shop");
    let secret = SecretKey::new("web", "tls");
    let ingress = |class: &str| -> Event<Ingress> {
        let object = json!({
            "metadata": {"namespace": "web", "name": "shop"},
            "spec": {"ingressClassName": class, "tls": [{"secretName": "tls"}]},
        });
        Event::Apply(serde_json::from_value(object).unwrap())
    };
    let meta: MetadataOf<Secret> = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"namespace": "web", "name": "tls", "resourceVersion": "1"},
    }))
    .unwrap();
    for later in ["picky", "open"] {
        let mut routing =
            Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), Arc::default());
        let stores = routing.stores_mut();
        for class in ["picky", "open"] {
            let object = json!({
                "metadata": {"name": class},
                "spec": {
                    "controller": "traefik.io/ingress-controller",
                    "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": class},
                },
            });
            stores.apply_class(Event::Apply(serde_json::from_value(object).unwrap()));
        }
        let parameters = |name: &str| {
            let object = json!({
                "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
                "metadata": {"name": name}, "spec": {},
            });
            Event::Apply(serde_json::from_value(object).unwrap())
        };
        // Those of the other one are not there yet.
        stores.apply_parameters(parameters("open"));
        stores
            .apply_secret_metadata(SecretSource::Others, &Scope::All, Event::Apply(meta.clone()), |_| false);
        stores.apply_ingress(&Scope::All, ingress("picky"));
        routing.resolve_classes();
        let refused = routing.reconcile(&key).unwrap();
        assert!(!refused.translated);
        assert_eq!((refused.fetch, refused.problems), (Vec::new(), vec![key.clone()]));
        assert!(routing.index.dependents_of_secret(&secret).next().is_none());

        routing.stores_mut().apply_parameters(parameters("picky"));
        routing.resolve_class("picky");
        routing.stores_mut().apply_ingress(&Scope::All, ingress(later));
        assert_eq!(routing.reconcile(&key).unwrap().fetch, std::slice::from_ref(&secret), "{later}");
    }
}

#[test]
fn a_translation_that_panics_costs_its_own_ingress() {
    let key = IngressKey::new("web", "shop");
    assert_eq!(caught(&key, || 7).unwrap(), 7);
    let error = caught(&key, || -> u8 { unreachable!("a bug") }).unwrap_err().to_string();
    assert!(error.contains("web/shop") && error.contains("a bug"), "{error}");
}

/// Nobody reconciled it after it had gone.
#[test]
fn what_is_not_there_any_more_is_left_out_when_everything_is_translated() {
    let options = ClassOptions { lookup_disabled: true, ..ClassOptions::default() };
    let mut routing = Routing::new(Watched { namespaces: None, nodes: false }, options, Arc::default());
    let ingress: Ingress = serde_json::from_value(json!({
        "metadata": {"namespace": "web", "name": "shop", "annotations": {"kubernetes.io/ingress.class": "traefik"}},
        "spec": {"rules": [{"host": "shop.example.com"}]},
    }))
    .unwrap();
    let key = IngressKey::new("web", "shop");
    routing.stores_mut().apply_ingress(&Scope::All, Event::Apply(ingress.clone()));
    assert!(routing.reconcile(&key).unwrap().translated);
    routing.stores_mut().apply_ingress(&Scope::All, Event::Delete(ingress));
    routing.note_dependencies([key.clone()].into());
    assert_eq!(routing.reconcile_all(), (0, Vec::new()));
    assert_eq!((routing.table().fragment(&key), routing.own_ingresses()), (None, Vec::new()));
}

/// The ConfigMap of a leader that knows these outputs.
fn memory(outputs: &[&str]) -> ConfigMap {
    let outputs = serde_json::to_string(outputs).unwrap();
    let metadata = json!({"name": "waybill.classes", "namespace": "waybill"});
    serde_json::from_value(json!({"metadata": metadata, "data": {"_outputs": outputs}})).unwrap()
}

fn known(routing: &Routing) -> Vec<String> {
    let known = routing.table().outputs().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
    assert_eq!(*routing.classes().memory().outputs(), known);
    known.into_iter().map(|key| key.name().to_owned()).collect()
}

/// Class `public` publishes to this output.
fn publish_to(routing: &mut Routing, output: &str) {
    let class = json!({
        "metadata": {"name": "public"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "public"},
        },
    });
    let parameters = json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": "public"}, "spec": {"output": {"name": output, "namespace": "edge"}},
    });
    let stores = routing.stores_mut();
    stores.apply_class(Event::Apply(serde_json::from_value(class).unwrap()));
    stores.apply_parameters(Event::Apply(serde_json::from_value(parameters).unwrap()));
    routing.resolve_classes();
}

/// What a leader has given up is not taken up again by the next one: another installation may publish there.
#[test]
fn a_follower_forgets_the_outputs_that_the_leader_has_given_up() {
    let mut routing =
        Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), Arc::default());
    routing.adopt_class_memory(Some(&memory(&["edge/x", "edge/y"])));
    assert_eq!(known(&routing), ["x", "y"]);
    publish_to(&mut routing, "y");
    // A class has `y`, whatever the leader knew when it wrote this.
    routing.adopt_class_memory(Some(&memory(&["edge/z"])));
    assert_eq!(known(&routing), ["y", "z"]);
    // Without a ConfigMap, nothing is known.
    routing.adopt_class_memory(None);
    assert_eq!(known(&routing), ["y", "z"]);
}

/// A follower may learn of it while Ingresses of its own have not left the output yet.
#[test]
fn an_output_that_was_given_up_is_forgotten_once_it_is_empty() {
    let mut routing =
        Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), Arc::default());
    let key = IngressKey::new("web", "shop");
    let ingress = json!({
        "metadata": {"namespace": "web", "name": "shop"},
        "spec": {"ingressClassName": "public", "defaultBackend": {
            "service": {"name": "shop", "port": {"number": 80}},
        }},
    });
    let service = json!({
        "metadata": {"namespace": "web", "name": "shop", "annotations": {
            "traefik.ingress.kubernetes.io/service.nativelb": "true",
        }},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
    });
    let stores = routing.stores_mut();
    stores.apply_service(&Scope::All, Event::Apply(serde_json::from_value(service).unwrap()));
    stores.apply_ingress(&Scope::All, Event::Apply(serde_json::from_value(ingress).unwrap()));
    publish_to(&mut routing, "x");
    routing.adopt_class_memory(Some(&memory(&["edge/x"])));
    routing.reconcile(&key).unwrap();
    publish_to(&mut routing, "y");
    routing.reconcile(&key).unwrap();
    assert!(routing.table().outputs().all(|(_, output)| !output.is_empty()), "it is in both");
    routing.adopt_class_memory(Some(&memory(&["edge/y"])));
    assert_eq!(known(&routing), ["x", "y"]);
    routing.settle(&key);
    routing.forget_given_up();
    assert_eq!(known(&routing), ["y"]);
}
