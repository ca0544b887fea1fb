use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::key::OutputKey;
use crate::metrics::WatchKind;
use crate::parameters::status::Publication;
use crate::routing::Routing;
use crate::translate::settings::ClassOptions;
use crate::watch::{Scope, SecretSource, Watched};

/// A leader's view of a cluster whose watches have all listed, with the class `traefik` and nothing else.
struct Bench {
    live: Arc<Live>,
    problems: ProblemReports,
}

fn object<K: DeserializeOwned>(object: Value) -> Event<K> {
    Event::Apply(serde_json::from_value(object).unwrap())
}

fn class(live: &Live, uid: &str) {
    let class = json!({
        "metadata": {"name": "traefik", "uid": uid},
        "spec": {"controller": "traefik.io/ingress-controller"},
    });
    live.event(WatchKind::IngressClass, |routing| routing.stores_mut().apply_class(object(class)));
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// As [`Self::new`]; `between` happens when everything but Secrets is listed.
    fn with(between: impl Fn(&Live)) -> Self {
        let watched = Watched { namespaces: None, nodes: false };
        let metrics = Metrics::new("x").unwrap();
        let live = Arc::new(Live::new(
            Routing::new(watched, ClassOptions::default(), Arc::default()),
            metrics.clone(),
        ));
        live.set_leading(true);
        for done in [false, true] {
            macro_rules! list {
                ($kind:ident, $apply:expr) => {
                    live.event(WatchKind::$kind, |routing| {
                        let apply = $apply;
                        apply(routing, if done { Event::InitDone } else { Event::Init })
                    })
                };
            }
            list!(Ingress, |routing: &mut Routing, event| routing
                .stores_mut()
                .apply_ingress(&Scope::All, event));
            list!(Service, |routing: &mut Routing, event| routing
                .stores_mut()
                .apply_service(&Scope::All, event));
            list!(EndpointSlice, |routing: &mut Routing, event| routing
                .stores_mut()
                .apply_slice(&Scope::All, event));
            list!(IngressClass, |routing: &mut Routing, event| routing.stores_mut().apply_class(event));
            list!(Parameters, |routing: &mut Routing, event| routing.stores_mut().apply_parameters(event));
            list!(ClassMemory, |routing: &mut Routing, event| routing.stores_mut().apply_class_memory(event));
            if done {
                between(&live);
            }
            for source in [SecretSource::Tls, SecretSource::Others] {
                list!(TlsSecret, |routing: &mut Routing, event| routing.stores_mut().apply_secret(
                    source,
                    &Scope::All,
                    event,
                    |_| false
                ));
            }
        }
        let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
        let problems = ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics);
        let bench = Self { live, problems };
        bench.class("c-1");
        let slice = json!({
            "metadata": {
                "namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4", "ports": [{"port": 80, "name": "", "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.1.0.1"]}],
        });
        bench.live.event(WatchKind::EndpointSlice, |routing| {
            routing.stores_mut().apply_slice(&Scope::All, object(slice.clone()))
        });
        bench
    }

    fn class(&self, uid: &str) {
        class(&self.live, uid);
        self.work();
    }

    fn ingress(&self, uid: &str, priority: &str) {
        let ingress = json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": uid, "creationTimestamp": "2026-11-24T08:00:00Z",
                "annotations": {"traefik.ingress.kubernetes.io/router.priority": priority},
            },
            "spec": {"ingressClassName": "traefik", "rules": [{
                "host": "web.example.com",
                "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                }]},
            }]},
        });
        self.live.event(WatchKind::Ingress, |routing| {
            routing.stores_mut().apply_ingress(&Scope::All, object(ingress.clone()))
        });
        self.work();
    }

    fn service(&self, uid: &str, native: &str) {
        let service = json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": uid, "creationTimestamp": "2026-11-24T08:00:00Z",
                "annotations": {"traefik.ingress.kubernetes.io/service.nativelb": native},
            },
            "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"},
        });
        self.live.event(WatchKind::Service, |routing| {
            routing.stores_mut().apply_service(&Scope::All, object(service.clone()))
        });
        self.work();
    }

    /// Does what controllers and followers of problems do.
    fn work(&self) {
        while let Some((class, _)) = self.live.classes.try_next() {
            self.live.reconcile_class(class.name(), None);
        }
        while let Some((key, cause)) = self.live.ingresses.try_next() {
            self.live.reconcile(&IngressKey(key), cause).unwrap();
        }
        while let Some((key, ())) = self.live.problems.try_next() {
            self.problems.look(key);
        }
    }

    fn has_events(&self, kind: Kind, uid: &str) -> bool {
        let (namespace, name) = if kind == Kind::IngressClass { ("", "traefik") } else { ("shop", "web") };
        let subject = Subject { kind, namespace: namespace.into(), name: name.into() };
        self.problems.events.is_about(&subject, uid)
    }
}

#[test]
fn an_ingress_that_is_made_again_with_the_same_fault_has_events_of_by_its_own_uid() {
    let bench = Bench::new();
    bench.service("s", "false");
    bench.ingress("i-1", "many");
    assert!(bench.has_events(Kind::Ingress, "i-1"));
    // All of it within what one event of the watch tells, and within a second.
    bench.ingress("i-2", "many");
    assert!(bench.has_events(Kind::Ingress, "i-2") && !bench.has_events(Kind::Ingress, "i-1"));
    // Without the fault there is nothing to tell, and nothing is kept.
    bench.ingress("i-3", "7");
    assert!(!bench.has_events(Kind::Ingress, "i-1") && !bench.has_events(Kind::Ingress, "i-2"));
    assert!(Category::ALL.iter().all(|category| bench.problems.state.lock().registry.count(*category) == 0));
    bench.ingress("i-4", "7");
    assert!(!bench.has_events(Kind::Ingress, "i-4"));
}

#[test]
fn a_service_that_is_made_again_has_events_of_though_its_ingresses_did_not_change() {
    let bench = Bench::new();
    bench.service("s-1", "perhaps");
    bench.ingress("i", "7");
    assert!(bench.has_events(Kind::Service, "s-1") && bench.has_events(Kind::Ingress, "i"));
    bench.service("s-2", "perhaps");
    assert!(bench.has_events(Kind::Service, "s-2") && !bench.has_events(Kind::Service, "s-1"));
    assert!(bench.has_events(Kind::Ingress, "i"));
}

#[test]
fn an_ingress_that_its_class_refuses_has_events_of_by_its_own_uid() {
    let bench = Bench::new();
    let refusing = json!({
        "metadata": {"name": "traefik", "uid": "c-2"},
        "spec": {
            "controller": "traefik.io/ingress-controller",
            "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "nowhere"},
        },
    });
    bench.live.event(WatchKind::IngressClass, |routing| routing.stores_mut().apply_class(object(refusing)));
    bench.work();
    for uid in ["i-1", "i-2"] {
        bench.ingress(uid, "7");
        assert!(bench.has_events(Kind::Ingress, uid), "{uid}");
    }
}

#[test]
fn what_has_events_again_of_a_class_or_an_index_is_about_the_one_that_is_there() {
    let bench = Bench::new();
    let fault = |kind, namespace: &str, name: &str| Problem {
        category: Category::Paused,
        subject: Subject { kind, namespace: namespace.into(), name: name.into() },
        field: "f".into(),
        value: "v".into(),
        remedy: "r".into(),
    };
    let class = fault(Kind::IngressClass, "", "traefik");
    let tell = || bench.problems.set(ReportedBy::Class("traefik".into()), vec![class.clone()]);
    tell();
    assert!(bench.has_events(Kind::IngressClass, "c-1"));
    bench.class("c-2");
    tell();
    assert!(bench.has_events(Kind::IngressClass, "c-2"));
    let index = fault(Kind::ConfigMap, "shop", "web");
    // Not there yet, there, and made again.
    for uid in ["", "m-1", "m-2"] {
        bench.problems.set_uid(&index.subject, uid);
        bench.problems.set(ReportedBy::ClassMemory, vec![index.clone()]);
        assert!(bench.has_events(Kind::ConfigMap, uid), "{uid:?}");
    }
    bench.problems.set(ReportedBy::ClassMemory, Vec::new());
    assert!(bench.problems.state.lock().uids.is_empty());
}

/// Nobody takes what a follower collects, and names that come and go would add up for ever.
#[test]
fn a_follower_collects_nothing() {
    let bench = Bench::new();
    bench.service("s-1", "false");
    bench.ingress("i-1", "many");
    assert!(!bench.live.take_pending().statuses.is_empty());
    bench.ingress("i-2", "many");
    let output = OutputKey::new("edge", "public");
    bench.live.set_publication(&output, Publication::Committed);
    bench.live.set_leading(false);
    assert_eq!(bench.live.publication(&[output].into()), Publication::Pending, "another replica commits now");
    let pending = bench.live.take_pending();
    assert!(pending.statuses.is_empty() && pending.outputs.is_empty(), "{pending:?}");
    bench.ingress("i-3", "many");
    let pending = bench.live.take_pending();
    assert!(pending.statuses.is_empty() && pending.outputs.is_empty(), "{pending:?}");
    assert!(bench.live.problems.is_empty() && !bench.has_events(Kind::Ingress, "i-3"));
    // A new leader looks at everything.
    bench.live.set_leading(true);
    bench.live.everything_pending();
    bench.live.all_problems_pending();
    bench.work();
    assert!(bench.live.take_pending().all_statuses && bench.has_events(Kind::Ingress, "i-3"));
}

#[test]
fn a_class_that_comes_before_all_is_listed_counts() {
    let bench = Bench::with(|live| class(live, "c-1"));
    // The event that followed changed nothing.
    assert!(bench.live.routing().classes().state("traefik").is_some());
    bench.service("s", "false");
    bench.ingress("i", "7");
    assert!(bench.live.routing().table().fragment(&IngressKey::new("shop", "web")).is_some());
}
