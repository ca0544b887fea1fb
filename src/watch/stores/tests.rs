use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::watch::SecretState;

fn stores() -> Stores {
    Stores::new(watched(None))
}

fn watched(namespaces: Option<Vec<Arc<str>>>) -> Watched {
    Watched { namespaces, nodes: true }
}

fn parse<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn service(namespace: &str, name: &str, version: u32, port: u32) -> WireService {
    parse(json!({
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": version.to_string()},
        "spec": {"ports": [{"port": port}]},
    }))
}

fn slice(name: &str, owner: &str, created: Option<&str>, address: &str) -> EndpointSlice {
    parse(json!({
        "metadata": {"namespace": "web", "name": name, "creationTimestamp": created,
                     "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
    }))
}

fn ingress(class: &str, status: Option<&str>) -> Ingress {
    parse(json!({
        "metadata": {"namespace": "web", "name": "shop"},
        "spec": {"ingressClassName": class},
        "status": {"loadBalancer": {"ingress": status.map(|ip| vec![json!({"ip": ip})])}},
    }))
}

fn node(name: &str, internal: &str, heartbeat: &str) -> Node {
    parse(json!({
        "metadata": {"name": name, "resourceVersion": heartbeat},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}],
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": internal},
                          {"type": "ExternalIP", "address": "192.0.2.7"}],
        },
    }))
}

fn web(name: &str) -> ServiceKey {
    ServiceKey::new("web", name)
}

fn names(stores: &Stores, service: &str) -> Vec<String> {
    let slices = stores.endpoint_slices(&web(service));
    slices.iter().map(|slice| slice.name.to_string()).collect()
}

#[test]
fn a_service_that_changed_nowhere_that_is_read_touches_nothing() {
    let mut stores = stores();
    let touched = stores.apply_service(&Scope::All, Event::Apply(service("web", "a", 1, 80)));
    assert_eq!(
        touched,
        Touched { services: vec![web("a")], namespaces: vec!["web".into()], ..Touched::default() }
    );
    let mut update = service("web", "a", 2, 80);
    update.metadata.labels = Some([("app".to_owned(), "a".to_owned())].into());
    assert!(stores.apply_service(&Scope::All, Event::Apply(update)).is_empty());
    let touched = stores.apply_service(&Scope::All, Event::Apply(service("web", "a", 3, 81)));
    assert_eq!(touched, Touched { services: vec![web("a")], ..Touched::default() });
    let ports = &stores.service(&web("a")).unwrap().ports;
    assert_eq!(ports[0].port, 81);
}

#[test]
fn what_a_relist_no_longer_names_is_touched_and_gone() {
    let mut stores = stores();
    for name in ["a", "b"] {
        stores.apply_service(&Scope::All, Event::Apply(service("web", name, 1, 80)));
    }
    assert!(stores.apply_service(&Scope::All, Event::Init).is_empty());
    assert!(stores.apply_service(&Scope::All, Event::InitApply(service("web", "b", 1, 80))).is_empty());
    let touched = stores.apply_service(&Scope::All, Event::InitDone);
    assert_eq!(touched, Touched { services: vec![web("a")], ..Touched::default() });
    assert_eq!(stores.service(&web("a")), None);
    let touched = stores.apply_service(&Scope::All, Event::Delete(service("web", "b", 1, 80)));
    assert_eq!(
        touched,
        Touched { services: vec![web("b")], namespaces: vec!["web".into()], ..Touched::default() }
    );
}

#[test]
fn slices_are_ordered_by_age_then_name_and_follow_their_label() {
    let mut stores = stores();
    let (old, new) = (Some("2024-01-01T00:00:00Z"), Some("2024-01-01T00:00:01Z"));
    for (name, created) in [("d", None), ("c", new), ("b", old), ("a", new)] {
        let touched = stores.apply_slice(&Scope::All, Event::Apply(slice(name, "x", created, "10.0.0.1")));
        assert_eq!(touched.endpoints, [web("x")]);
    }
    assert_eq!(names(&stores, "x"), ["b", "a", "c", "d"]);
    let touched = stores.apply_slice(&Scope::All, Event::Apply(slice("b", "y", old, "10.0.0.1")));
    assert_eq!(touched.endpoints, [web("x"), web("y")]);
    assert_eq!(names(&stores, "x"), ["a", "c", "d"]);
    assert_eq!(names(&stores, "y"), ["b"]);
    assert!(stores.apply_slice(&Scope::All, Event::Apply(slice("b", "y", old, "10.0.0.1"))).is_empty());
    let touched = stores.apply_slice(&Scope::All, Event::Apply(slice("b", "y", old, "10.0.0.2")));
    assert_eq!(touched.endpoints, [web("y")]);
    let addresses = &stores.endpoint_slices(&web("y"))[0].addresses;
    assert_eq!((addresses.len(), &*addresses[0].host), (1, "10.0.0.2"));
    stores.apply_slice(&Scope::All, Event::Delete(slice("b", "y", old, "10.0.0.2")));
    assert_eq!(names(&stores, "y"), Vec::<String>::new());
}

#[test]
fn a_status_of_an_ingress_is_told_from_its_routing() {
    let mut stores = stores();
    let key = IngressKey::new("web", "shop");
    let first = stores.apply_ingress(&Scope::All, Event::Apply(ingress("a", None)));
    assert_eq!(first.ingresses, std::slice::from_ref(&key));
    let status = stores.apply_ingress(&Scope::All, Event::Apply(ingress("a", Some("192.0.2.1"))));
    assert_eq!(status, Touched { statuses: vec![key.clone()], ..Touched::default() });
    let routing = stores.apply_ingress(&Scope::All, Event::Apply(ingress("b", Some("192.0.2.1"))));
    assert_eq!(routing, Touched { ingresses: vec![key], ..Touched::default() });
}

#[test]
fn a_heartbeat_touches_nothing_and_addresses_come_by_name() {
    let mut stores = stores();
    let (early, late) = ("2024-01-01T00:00:00Z", "2024-01-01T00:00:10Z");
    assert!(stores.apply_node(Event::Apply(node("b", "10.0.0.2", early))).nodes);
    assert!(stores.apply_node(Event::Apply(node("a", "10.0.0.9", early))).nodes);
    assert!(stores.apply_node(Event::Apply(node("a", "10.0.0.9", late))).is_empty());
    assert_eq!(&*stores.node_internal_ips().unwrap(), ["10.0.0.9".into(), "10.0.0.2".into()]);
    assert!(stores.apply_node(Event::Delete(node("a", "10.0.0.9", late))).nodes);
    assert_eq!(&*stores.node_internal_ips().unwrap(), ["10.0.0.2".into()]);
    assert_eq!(&*stores.node_external_ips().unwrap(), ["192.0.2.7".into()]);
    let blind = Stores::new(Watched { nodes: false, ..watched(None) });
    assert_eq!(blind.node_internal_ips(), None);
}

#[test]
fn a_secret_is_fetched_when_it_is_wanted() {
    let mut stores = stores();
    let key = SecretKey::new("web", "tls");
    let secret: Secret =
        parse(json!({"metadata": {"namespace": "web", "name": "tls", "resourceVersion": "1"}}));
    let meta = MetadataOf::from(secret.metadata.clone());
    let event = Event::Apply(meta.clone());
    assert!(
        stores.apply_secret_metadata(SecretSource::Others, &Scope::All, event, |_| false).fetch.is_empty()
    );
    assert!(stores.secrets().needs_fetch(&key));
    let touched =
        stores.apply_secret_metadata(SecretSource::Others, &Scope::All, Event::Apply(meta), |_| true);
    assert_eq!(touched, Touched { fetch: vec![key.clone()], ..Touched::default() });
    let asked = stores.secrets().ask(&key).unwrap();
    assert_eq!(stores.secret_fetched(&key, &asked, Some(&secret)).secrets, std::slice::from_ref(&key));
    assert!(matches!(stores.secrets().state(&key), SecretState::Invalid { .. }));
    let touched = stores.apply_secret(SecretSource::Others, &Scope::All, Event::Delete(secret), |_| true);
    assert_eq!(touched.secrets, [key]);
}

/// The two watches of Secrets know nothing of each other: that of the new type may be ahead.
#[test]
fn a_secret_that_was_made_again_as_another_type_is_fetched() {
    let key = SecretKey::new("web", "tls");
    let of = |version: &str| -> Secret {
        parse(json!({"metadata": {"namespace": "web", "name": "tls", "resourceVersion": version}}))
    };
    for relisted in [false, true] {
        let mut stores = stores();
        stores.apply_secret(SecretSource::Tls, &Scope::All, Event::Apply(of("1")), |_| true);
        let again = Event::Apply(MetadataOf::from(of("2").metadata));
        stores.apply_secret_metadata(SecretSource::Others, &Scope::All, again, |_| true);
        assert!(stores.secrets().ask(&key).is_none(), "what is known of the old one is fresh");
        let touched = if relisted {
            stores.apply_secret(SecretSource::Tls, &Scope::All, Event::Init, |_| true);
            stores.apply_secret(SecretSource::Tls, &Scope::All, Event::InitDone, |_| true)
        } else {
            stores.apply_secret(SecretSource::Tls, &Scope::All, Event::Delete(of("1")), |_| true)
        };
        assert_eq!(touched.fetch, std::slice::from_ref(&key), "relisted: {relisted}");
        assert!(stores.secrets().ask(&key).is_some());
    }
}

#[test]
fn namespaces_are_known_by_their_ingresses_and_services() {
    let mut stores = Stores::new(watched(Some(vec!["web".into(), "web-shop".into()])));
    for namespace in ["web", "web-shop", "elsewhere"] {
        let scope = Scope::Namespace(namespace.into());
        stores.apply_service(&scope, Event::Init);
        stores.apply_service(&scope, Event::InitApply(service(namespace, "a", 1, 80)));
        stores.apply_service(&scope, Event::InitDone);
    }
    assert_eq!(stores.services().len(), 2);
    assert!(stores.services().synced());
    assert!(!stores.routing_synced());
    let has = ["web", "web-shop", "elsewhere"].map(|namespace| stores.has_namespace(namespace));
    assert_eq!(has, [true, true, false]);
}

/// A step of any history: a list or a single event, of a Service or a slice.
#[derive(Clone, Debug)]
enum Step {
    Service(u8, Option<u8>),
    Slice(u8, Option<(u8, u8)>),
    ListServices(Vec<(u8, u8)>),
    ListSlices(Vec<(u8, u8, u8)>),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, prop::option::of(0..3u8)).prop_map(|(name, port)| Step::Service(name, port)),
        (0..4u8, prop::option::of((0..3u8, 0..3u8))).prop_map(|(name, slice)| Step::Slice(name, slice)),
        prop::collection::vec((0..3u8, 0..3u8), 0..4).prop_map(Step::ListServices),
        prop::collection::vec((0..4u8, 0..3u8, 0..3u8), 0..4).prop_map(Step::ListSlices),
    ]
}

fn run(stores: &mut Stores, step: &Step) -> Touched {
    let service = |name: u8, port: u8| service("web", &name.to_string(), 1, port.into());
    let slice = |name: u8, owner: u8, address: u8| {
        slice(&name.to_string(), &owner.to_string(), None, &format!("10.0.0.{address}"))
    };
    let all = &Scope::All;
    match step {
        Step::Service(name, Some(port)) => stores.apply_service(all, Event::Apply(service(*name, *port))),
        Step::Service(name, None) => stores.apply_service(all, Event::Delete(service(*name, 0))),
        Step::Slice(name, Some((owner, at))) => {
            stores.apply_slice(all, Event::Apply(slice(*name, *owner, *at)))
        }
        Step::Slice(name, None) => stores.apply_slice(all, Event::Delete(slice(*name, 0, 0))),
        Step::ListServices(services) => {
            let mut touched = stores.apply_service(all, Event::Init);
            for (name, port) in services {
                let listed = Event::InitApply(service(*name, *port));
                touched.services.extend(stores.apply_service(all, listed).services);
            }
            touched.services.extend(stores.apply_service(all, Event::InitDone).services);
            touched
        }
        Step::ListSlices(slices) => {
            let mut touched = stores.apply_slice(all, Event::Init);
            for (name, owner, at) in slices {
                let listed = Event::InitApply(slice(*name, *owner, *at));
                touched.endpoints.extend(stores.apply_slice(all, listed).endpoints);
            }
            touched.endpoints.extend(stores.apply_slice(all, Event::InitDone).endpoints);
            touched
        }
    }
}

proptest! {
    /// Whatever happens, a Service whose look-ups answer differently than before has been touched, and one
    /// that was not touched answers as before.
    #[test]
    fn what_changes_is_touched(steps in prop::collection::vec(any_step(), 0..30)) {
        let mut stores = stores();
        for step in steps {
            let look = |stores: &Stores, n: u8| {
                let key = web(&n.to_string());
                (stores.service(&key).cloned(), stores.endpoint_slices(&key).to_vec())
            };
            let before: Vec<_> = (0..3).map(|n| look(&stores, n)).collect();
            let touched = run(&mut stores, &step);
            for n in 0..3u8 {
                let (before, after, key) = (&before[usize::from(n)], look(&stores, n), web(&n.to_string()));
                prop_assert!(before.0 == after.0 || touched.services.contains(&key), "{:?}", step);
                prop_assert!(before.1 == after.1 || touched.endpoints.contains(&key), "{:?}", step);
            }
            let held = stores.slices.len();
            let indexed: usize = (0..3u8).map(|n| stores.endpoint_slices(&web(&n.to_string())).len()).sum();
            prop_assert_eq!(held, indexed);
        }
    }
}
