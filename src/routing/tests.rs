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

/// Classes that come, change and go decide at once about Ingresses that name none, and touch no other.
#[test]
fn the_classes_of_the_own_output_decide_who_may_name_none() {
    let mut routing =
        Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), Arc::default());
    let keys = ["blog", "shop"].map(|namespace| IngressKey::new(namespace, "web"));
    for key in &keys {
        let object =
            json!({"metadata": {"namespace": key.namespace(), "name": "web"}, "spec": {"rules": []}});
        let ingress = Event::Apply(serde_json::from_value(object).unwrap());
        routing.stores_mut().apply_ingress(&Scope::All, ingress);
        routing.reconcile(key).unwrap();
    }
    let class = |routing: &mut Routing, name: &str, there: bool| {
        let object = json!({
            "metadata": {"name": name},
            "spec": {
                "controller": "traefik.io/ingress-controller",
                "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": name},
            },
        });
        let object = serde_json::from_value(object).unwrap();
        routing.stores_mut().apply_class(if there { Event::Apply(object) } else { Event::Delete(object) });
    };
    let parameters = |routing: &mut Routing, name: &str, spec: serde_json::Value| {
        let object = json!({
            "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
            "metadata": {"name": name}, "spec": spec,
        });
        routing.stores_mut().apply_parameters(Event::Apply(serde_json::from_value(object).unwrap()));
    };
    // What is reconciled for a class, and which namespaces are published then.
    let resolved = |routing: &mut Routing, name: &str| -> (Vec<String>, Vec<&str>) {
        let (ingresses, _) = routing.resolve_class(name);
        let touched = ingresses.iter().map(|key| key.namespace().to_owned()).collect();
        ingresses.iter().for_each(|key| {
            routing.reconcile(key).unwrap();
        });
        let published = keys.iter().filter(|key| routing.table().fragment(key).is_some());
        (touched, published.map(|key| key.namespace()).collect())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    class(&mut routing, "edge", true);
    assert_eq!(resolved(&mut routing, "edge"), (names(&[]), vec!["blog", "shop"]), "without settings");
    parameters(&mut routing, "edge", json!({"namespaces": {"names": ["shop"]}}));
    assert_eq!(resolved(&mut routing, "edge"), (names(&["blog"]), vec!["shop"]));
    assert!(routing.has_problems(&keys[0]));
    parameters(&mut routing, "far", json!({"output": {"name": "far"}}));
    class(&mut routing, "far", true);
    assert_eq!(resolved(&mut routing, "far"), (names(&[]), vec!["shop"]), "it publishes elsewhere");
    parameters(&mut routing, "other", json!({"namespaces": {"names": ["blog"]}}));
    class(&mut routing, "other", true);
    assert_eq!(resolved(&mut routing, "other"), (names(&["blog"]), vec!["blog", "shop"]));
    assert!(!routing.has_problems(&keys[0]));
    class(&mut routing, "edge", false);
    assert_eq!(resolved(&mut routing, "edge"), (names(&["shop"]), vec!["blog"]));
    parameters(&mut routing, "other", json!({}));
    assert_eq!(resolved(&mut routing, "other"), (names(&["shop"]), vec!["blog", "shop"]));
}
