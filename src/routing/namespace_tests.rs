//! Namespaces that come and go, as those who refer to what could be theirs see it.

use std::collections::{BTreeMap, HashSet};

use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::translate::problem::Category;
use crate::translate::settings::Settings;
use crate::watch::Scope;

const MIDDLEWARES: &str = "traefik.ingress.kubernetes.io/router.middlewares";

/// Takes an event in.
type Change = Box<dyn Fn(&mut Routing) -> Touched>;

/// Whether an object comes (or is there already), or goes.
fn event<K: DeserializeOwned>(there: bool, object: Value) -> Event<K> {
    let object = serde_json::from_value(object).unwrap();
    if there { Event::Apply(object) } else { Event::Delete(object) }
}

fn service(there: bool, namespace: &str, name: &str) -> Change {
    let object =
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"ports": [{"port": 80}]}});
    Box::new(move |routing| routing.stores.apply_service(&Scope::All, event(there, object.clone())))
}

fn ingress(there: bool, namespace: &str, name: &str, middlewares: &str) -> Change {
    let object = json!({
        "metadata": {"namespace": namespace, "name": name, "annotations": {MIDDLEWARES: middlewares}},
        "spec": {
            "ingressClassName": "traefik",
            "rules": [{"host": "x", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}],
        },
    });
    Box::new(move |routing| routing.stores.apply_ingress(&Scope::All, event(there, object.clone())))
}

/// The endpoints of Service `web`: host names.
fn slice(namespace: &str, hosts: &[String]) -> Change {
    let object = json!({
        "metadata": {
            "namespace": namespace, "name": "web-1", "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "FQDN", "ports": [{"name": "", "port": 80}],
        "endpoints": hosts.iter().map(|host| json!({"addresses": [host]})).collect::<Vec<_>>(),
    });
    Box::new(move |routing| routing.stores.apply_slice(&Scope::All, event(true, object.clone())))
}

/// With the class `traefik`.
fn routing() -> Routing {
    let settings = Arc::new(Settings::default());
    let mut routing =
        Routing::new(Watched { namespaces: None, nodes: false }, ClassOptions::default(), settings);
    let class =
        json!({"metadata": {"name": "traefik"}, "spec": {"controller": "traefik.io/ingress-controller"}});
    routing.stores.apply_class(event(true, class));
    routing.resolve_classes();
    routing
}

/// Takes something in, and gives the Ingresses that were translated for it.
fn take(routing: &mut Routing, apply: &Change) -> BTreeSet<IngressKey> {
    let touched = apply(routing);
    let affected = routing.affected(&touched);
    for key in &affected {
        routing.reconcile(key).unwrap();
    }
    affected
}

fn keys(names: &[&str]) -> BTreeSet<IngressKey> {
    names.iter().map(|name| IngressKey::new("a", *name)).collect()
}

#[test]
fn a_namespace_concerns_those_alone_whose_references_could_be_of_it() {
    let mut routing = routing();
    for at in 0..1_000 {
        let ingress = ingress(true, "a", &format!("plain-{at}"), "a-m@kubernetescrd");
        take(&mut routing, &ingress);
    }
    take(&mut routing, &ingress(true, "a", "of-b", "a-b-m@kubernetescrd,a-x@kubernetescrd"));
    take(&mut routing, &ingress(true, "a", "of-b-c", "a-x@kubernetescrd,a-b-c-m@kubernetescrd"));
    let refused = |routing: &Routing| {
        let problems = routing.problems(&IngressKey::new("a", "of-b-c"));
        problems.iter().any(|problem| problem.category == Category::CrossNamespaceNotAllowed)
    };
    for (there, namespace, concerned, is_refused) in [
        (true, "zz", vec![], false),
        (true, "a-m", vec![], false),
        (true, "a-x", vec![], false),
        (true, "a-b-c-m", vec![], false),
        (true, "a-b-c", vec!["of-b-c"], true),
        (true, "a-b", vec!["of-b", "of-b-c"], true),
        // It is refused all the same.
        (false, "a-b-c", vec![], true),
        (false, "a-b", vec!["of-b", "of-b-c"], false),
        (false, "zz", vec![], false),
    ] {
        let affected = take(&mut routing, &service(there, namespace, "s"));
        assert_eq!(affected, keys(&concerned), "{namespace}");
        assert_eq!(refused(&routing), is_refused, "{namespace}");
    }
}

#[test]
fn a_namespace_concerns_those_alone_whose_endpoints_could_be_of_it() {
    let mut routing = routing();
    take(&mut routing, &service(true, "a", "web"));
    take(&mut routing, &slice("a", &["x.y.com".to_owned(), "10.0.0.1".to_owned()]));
    take(&mut routing, &ingress(true, "a", "web", ""));
    for there in [true, false] {
        assert_eq!(take(&mut routing, &service(there, "zz", "s")), keys(&[]));
        assert_eq!(take(&mut routing, &service(there, "com", "s")), keys(&["web"]));
    }
}

/// What an Ingress depends on is bounded. Beyond that it is concerned by all that come and go.
#[test]
fn very_many_references_depend_on_any_namespace() {
    let mut routing = routing();
    let references = |count: usize| -> String {
        let references = (0..count).map(|at| format!("a-n{at}-m@kubernetescrd"));
        references.collect::<Vec<_>>().join(",")
    };
    take(&mut routing, &ingress(true, "a", "few", &references(64)));
    take(&mut routing, &ingress(true, "a", "many", &references(4_000)));
    let kept = |name: &str| routing.index.dependencies(&IngressKey::new("a", name)).unwrap().namespaces.len();
    assert_eq!((kept("few"), kept("many")), (64, 1));
    assert_eq!(take(&mut routing, &service(true, "zz", "s")), keys(&["many"]));
    assert_eq!(take(&mut routing, &service(true, "a-n63", "s")), keys(&["few", "many"]));
}

/// Objects that come, change and go, in namespaces whose names begin with each other.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, usize),
    Ingress(usize, usize, Vec<usize>),
    Slice(Vec<usize>),
    Gone(usize),
}

const NAMESPACES: [&str; 6] = ["a", "a-b", "a-b-c", "b", "com", "org"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever came before, the routing is that of the objects that are there now.
    #[test]
    fn the_routing_is_a_function_of_the_namespaces_that_there_are(steps in prop::collection::vec(prop_oneof![
        (0..6usize, 0..2usize).prop_map(|(namespace, name)| Step::Service(namespace, name)),
        (0..3usize, 0..2usize, prop::collection::vec(0..7usize, 0..3))
            .prop_map(|(namespace, name, references)| Step::Ingress(namespace, name, references)),
        prop::collection::vec(0..4usize, 1..3).prop_map(Step::Slice),
        (0..20usize).prop_map(Step::Gone),
    ], 1..40)) {
        let mut live = routing();
        let mut there: BTreeMap<String, (Change, Change)> = BTreeMap::new();
        for step in steps {
            let (name, comes, goes) = match step {
                    Step::Service(namespace, name) => {
                        let (namespace, name) = (NAMESPACES[namespace], ["web", "s"][name]);
                        let of = |there| service(there, namespace, name);
                        (format!("service {namespace} {name}"), of(true), of(false))
                    }
                    Step::Ingress(namespace, name, references) => {
                        let (namespace, name) = (NAMESPACES[namespace], ["x", "y"][name]);
                        let all = ["a-m", "a-b-m", "a-b-c-m", "a-b-c-d-m", "b-m", "a_b-m", "a-b_m"];
                        let references: Vec<_> =
                            references.iter().map(|at| format!("{}@kubernetescrd", all[*at])).collect();
                        let of = |there| ingress(there, namespace, name, &references.join(","));
                        (format!("ingress {namespace} {name}"), of(true), of(false))
                    }
                    Step::Slice(hosts) => {
                        let all = ["x.y.com", "x.y.org", "x.y.net", "10.0.0.1"];
                        let hosts: Vec<_> = hosts.iter().map(|at| all[*at].to_owned()).collect();
                        ("slice".to_owned(), slice("a", &hosts), slice("a", &[]))
                    }
                    Step::Gone(at) => {
                        let Some(name) = there.keys().nth(at).cloned() else { continue };
                        let (_, goes) = there.remove(&name).unwrap();
                        take(&mut live, &goes);
                        if name == "slice" {
                            there.insert(name, (slice("a", &[]), goes));
                        }
                        continue;
                    }
                };
            take(&mut live, &comes);
            there.insert(name, (comes, goes));
            let mut anew = routing();
            for (comes, _) in there.values() {
                comes(&mut anew);
            }
            anew.reconcile_all();
            prop_assert_eq!(live.all_problems(), anew.all_problems());
            let routers = |routing: &Routing| -> HashSet<String> {
                routing.table.fragments().map(|fragment| format!("{:?}", fragment.routers)).collect()
            };
            prop_assert_eq!(routers(&live), routers(&anew));
        }
    }
}
