use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::kubernetes::{Ingress, MetadataOf, Secret};
use crate::translate::settings::ClassState;
use crate::watch::collection::Scope;
use crate::watch::secrets::SecretSource;

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
        let mut routing = Routing::new(
            Watched {
                namespaces: None,
                nodes: false,
                controller_name: "traefik.io/ingress-controller".to_owned(),
                settings: Arc::default(),
            },
            ClassOptions::default(),
        );
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
        stores.resolve_class("picky", Some(ClassState::NotAccepted));
        stores.resolve_class("open", Some(ClassState::Accepted(Arc::default())));
        stores
            .apply_secret_metadata(SecretSource::Others, &Scope::All, Event::Apply(meta.clone()), |_| false);
        stores.apply_ingress(&Scope::All, ingress("picky"));
        let refused = routing.reconcile(&key);
        assert!(!refused.translated);
        assert_eq!((refused.fetch, refused.problems), (Vec::new(), vec![key.clone()]));
        assert!(routing.index.dependents_of_secret(&secret).next().is_none());

        routing.stores_mut().resolve_class("picky", Some(ClassState::Accepted(Arc::default())));
        routing.stores_mut().apply_ingress(&Scope::All, ingress(later));
        assert_eq!(routing.reconcile(&key).fetch, std::slice::from_ref(&secret), "{later}");
    }
}
