use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::translate::settings::ClassOptions;
use crate::watch::collection::Scope;
use crate::watch::secrets::SecretSource;
use crate::watch::stores::Watched;

/// The events of a first list.
fn list<K: DeserializeOwned>(objects: &[Value]) -> Vec<Event<K>> {
    let objects =
        objects.iter().map(|object| Event::InitApply(serde_json::from_value(object.clone()).unwrap()));
    std::iter::once(Event::Init).chain(objects).chain([Event::InitDone]).collect()
}

fn secrets(live: &Live, source: SecretSource, kind: WatchKind, names: &[&str]) {
    let of = |name: &&str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "web", "name": name, "resourceVersion": "1"},
        })
    };
    for event in list(&names.iter().map(of).collect::<Vec<_>>()) {
        live.event(kind, |routing| {
            let (stores, index) = routing.stores_and_index();
            stores.apply_secret_metadata(source, &Scope::All, event, |key| index.secret_is_named(key))
        });
    }
}

/// Secrets may be listed before it is known which of them anybody names: those are asked for then, the others never, and
/// nothing is translated before there is an answer.
#[test]
fn secrets_that_were_listed_before_they_were_named_are_asked_for() {
    let watched = Watched {
        namespaces: None,
        nodes: false,
        controller_name: ClassOptions::default().controller_name,
        settings: Arc::default(),
    };
    let options = ClassOptions { lookup_disabled: true, ..ClassOptions::default() };
    let live = Live::new(Routing::new(watched, options), Metrics::new("x").unwrap());
    secrets(&live, SecretSource::Others, WatchKind::SecretMetadata, &["named", "other"]);
    assert!(live.secrets.is_empty() && *live.phase().borrow() == Phase::Listing);

    let ingress = json!({
        "metadata": {"namespace": "web", "name": "shop"},
        "spec": {"tls": [{"secretName": "named"}, {"secretName": "missing"}]},
    });
    for event in list::<Ingress>(&[ingress]) {
        live.event(WatchKind::Ingress, |routing| routing.stores_mut().apply_ingress(&Scope::All, event));
    }
    assert_eq!(*live.phase().borrow(), Phase::SecretsNamed);
    let named = SecretKey::new("web", "named");
    assert_eq!(live.secrets.try_next(), Some((named.clone(), ())));
    assert!(live.secrets.is_empty());

    for event in list::<Service>(&[]) {
        live.event(WatchKind::Service, |routing| routing.stores_mut().apply_service(&Scope::All, event));
    }
    for event in list::<EndpointSlice>(&[]) {
        live.event(WatchKind::EndpointSlice, |routing| routing.stores_mut().apply_slice(&Scope::All, event));
    }
    secrets(&live, SecretSource::Tls, WatchKind::TlsSecret, &[]);
    assert_eq!(*live.phase().borrow(), Phase::SecretsNamed, "the data of one is still missing");

    let asked = live.routing().stores().ask_for_secret(&named).unwrap();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"namespace": "web", "name": "named", "resourceVersion": "1"},
        "data": {"tls.crt": "LS0tLS1CRUdJTg==", "tls.key": "LS0tLS1CRUdJTg=="},
    }))
    .unwrap();
    live.event(WatchKind::TlsSecret, |routing| {
        routing.stores_mut().secret_fetched(&named, &asked, Some(&secret))
    });
    assert_eq!(*live.phase().borrow(), Phase::Synced);
}
