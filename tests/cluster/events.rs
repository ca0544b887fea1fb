//! Events in a real API server, written with the shipped rights.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use waybill::metrics::EventResult;
use waybill::publish::problems::Events;
use waybill::translate::problem::{Category, Kind, Problem, Subject};

use crate::harness::{self, ControlPlane, eventually};
use crate::term::{Term, grant};

const SOON: Duration = Duration::from_secs(20);

fn operator(namespace: &str) -> Subject {
    Subject { kind: Kind::ConfigMap, namespace: namespace.into(), name: "waybill".into() }
}

fn problem(subject: &Subject, category: Category, value: &str) -> Problem {
    Problem {
        category,
        subject: subject.clone(),
        field: "spec.tls[0].secretName".into(),
        value: value.into(),
        remedy: "create a Secret of that name with tls.crt and tls.key".into(),
    }
}

async fn bench() -> (&'static ControlPlane, String, Term) {
    let plane = harness::shared().await;
    let namespace = plane.namespace("events").await;
    grant(plane, &namespace).await;
    let term = Term::begin(plane, &namespace, "leader-1").await;
    (plane, namespace, term)
}

fn start(term: &Term, namespace: &str) -> Events {
    let events = Events::new(operator(namespace));
    let (running, requests) = (events.clone(), term.requests.clone());
    tokio::spawn(async move { running.run(requests, "leader-1").await });
    events
}

async fn ingress(plane: &ControlPlane, namespace: &str, name: &str) -> (Subject, String) {
    let ingress = serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}},
    }))
    .unwrap();
    let api: Api<Ingress> = Api::namespaced(plane.admin(), namespace);
    let created = api.create(&PostParams::default(), &ingress).await.unwrap();
    (Subject::new(Kind::Ingress, &created.metadata), created.uid().unwrap())
}

async fn wait_for(
    plane: &ControlPlane,
    namespace: &str,
    what: &str,
    right: impl Fn(&[Event]) -> bool,
) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(plane.admin(), namespace);
    eventually(what, SOON, async || {
        let events = api.list(&ListParams::default()).await.unwrap().items;
        if right(&events) { Ok(events) } else { Err(format!("{events:?}")) }
    })
    .await
}

#[tokio::test]
async fn describe_tells_a_tenant_what_is_wrong_and_when_it_is_over() {
    let (plane, namespace, term) = bench().await;
    let events = start(&term, &namespace);
    let (web, uid) = ingress(plane, &namespace, "web").await;
    events.report(&web, &uid, &[problem(&web, Category::SecretNotFound, "cert")]);
    wait_for(plane, &namespace, "it is told", |events| events.len() == 1).await;
    let describe = || plane.kubectl_ok(&["describe", "ingress", "-n", &namespace, "web"]);
    let text = describe();
    let line = text.lines().find(|line| line.contains("SecretNotFound")).unwrap_or_else(|| panic!("{text}"));
    for part in ["Warning", "waybill", "spec.tls[0].secretName: \"cert\": create a Secret of that name"] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    events.report(&web, &uid, &[]);
    wait_for(plane, &namespace, "its end is told", |events| events.len() == 2).await;
    let text = describe();
    let line = text.lines().find(|line| line.contains("SecretNotFoundResolved"));
    assert!(line.is_some_and(|line| line.contains("Normal")), "{text}");
    let metrics = term.requests.metrics();
    assert_eq!((metrics.events.get(EventResult::Created), metrics.events.get(EventResult::Failed)), (2, 0));
}

#[tokio::test]
async fn a_new_leader_repeats_nothing() {
    let (plane, namespace, term) = bench().await;
    let (web, uid) = ingress(plane, &namespace, "web").await;
    // The longest names, notes and values that there can be.
    let (long, long_uid) = ingress(plane, &namespace, &format!("{}.x", "a".repeat(251))).await;
    let all = [problem(&web, Category::SecretNotFound, "cert")];
    let huge =
        Problem { remedy: "é".repeat(2_000), ..problem(&long, Category::InvalidAnnotation, "\u{1}\n\"é") };
    for leader in 1..=2 {
        let events = start(&term, &namespace);
        events.report(&web, &uid, &all);
        events.report(&long, &long_uid, std::slice::from_ref(&huge));
        let found = wait_for(plane, &namespace, "both are told", |events| {
            let again = |event: &Event| event.series.as_ref().is_some_and(|series| series.count == 2);
            events.len() == 2 && events.iter().all(|event| (leader == 2) == again(event))
        })
        .await;
        assert!(found.iter().all(|event| event.note.as_ref().is_some_and(|note| note.len() <= 1_000)));
    }
    let metrics = term.requests.metrics();
    assert_eq!(
        (metrics.events.get(EventResult::Created), metrics.events.get(EventResult::Refreshed)),
        (2, 2)
    );
}

#[tokio::test]
async fn cluster_scoped_objects_are_told_in_default() {
    let (plane, namespace, term) = bench().await;
    let events = start(&term, &namespace);
    let class: IngressClass = serde_json::from_value(serde_json::json!({
        "metadata": {"name": format!("{namespace}-public")}, "spec": {"controller": "example.com/x"},
    }))
    .unwrap();
    let class = Api::<IngressClass>::all(plane.admin()).create(&PostParams::default(), &class).await.unwrap();
    let subject = Subject::new(Kind::IngressClass, &class.metadata);
    let uid = class.uid().unwrap();
    events.report(&subject, &uid, &[problem(&subject, Category::InvalidParameters, "x")]);
    let name = class.name_any();
    let text = eventually("it is described", SOON, async || {
        let text = plane.kubectl_ok(&["describe", "ingressclass", &name]);
        if text.contains("InvalidParameters") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(text.contains("Warning"), "{text}");
}
