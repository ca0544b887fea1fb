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

/// What a leader has given up is not taken up again by the next one: another installation may publish there.
#[test]
fn a_follower_forgets_the_outputs_that_the_leader_has_given_up() {
    let mut routing =
        Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), Arc::default());
    let memory = |outputs: &[&str]| -> ConfigMap {
        let outputs = serde_json::to_string(outputs).unwrap();
        let metadata = json!({"name": "waybill.classes", "namespace": "waybill"});
        serde_json::from_value(json!({"metadata": metadata, "data": {"_outputs": outputs}})).unwrap()
    };
    let known = |routing: &Routing| -> Vec<String> {
        let known = routing.table().outputs().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
        assert_eq!(*routing.classes().memory().outputs(), known);
        known.into_iter().map(|key| key.name().to_owned()).collect()
    };
    let class = json!({
        "metadata": {"name": "public"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "public"},
        },
    });
    let parameters = json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": "public"}, "spec": {"output": {"name": "y", "namespace": "edge"}},
    });
    routing.adopt_class_memory(Some(&memory(&["edge/x", "edge/y"])));
    assert_eq!(known(&routing), ["x", "y"]);
    let stores = routing.stores_mut();
    stores.apply_class(Event::Apply(serde_json::from_value(class).unwrap()));
    stores.apply_parameters(Event::Apply(serde_json::from_value(parameters).unwrap()));
    routing.resolve_classes();
    // A class has `y`, whatever the leader knew when it wrote this.
    routing.adopt_class_memory(Some(&memory(&["edge/z"])));
    assert_eq!(known(&routing), ["y", "z"]);
    // Without a ConfigMap, nothing is known.
    routing.adopt_class_memory(None);
    assert_eq!(known(&routing), ["y", "z"]);
}
