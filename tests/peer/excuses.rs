//! A difference on purpose excuses what it explains and nothing else. Each test begins with an answer that is excused
//! and then changes what only a fault of waybill's would change.

use serde_json::{Value, json};

use super::cause::Case;
use super::compare::{Outcome, compare};
use super::difference::Difference;
use super::meaning::Answer;
use super::object::Cluster;

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

fn ingress(namespace: &str, name: &str, annotations: &Value, paths: &[(&str, &str)]) -> Value {
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, service)| {
            json!({"path": path, "backend": {"service": {"name": service, "port": {"number": 80}}}})
        })
        .collect();
    json!({"kind": "Ingress", "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
           "spec": {"rules": [{"host": "h", "http": {"paths": paths}}]}})
}

fn backend(namespace: &str, name: &str, address: &str) -> [Value; 2] {
    [
        json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": {"ports": [{"port": 80}]}}),
        json!({"kind": "EndpointSlice", "metadata": {"namespace": namespace, "name": name,
               "labels": {"kubernetes.io/service-name": name}}, "endpoints": [{"addresses": [address]}]}),
    ]
}

fn router(rule: &str, service: &str, from: Option<(&str, &str, &str)>) -> Value {
    let mut router = json!({"rule": rule, "service": service});
    if let Some((namespace, ingress, service)) = from {
        router["observability"]["metadata"]["ingress"] =
            json!({"namespace": namespace, "ingressName": ingress, "serviceName": service});
    }
    router
}

fn service(address: &str) -> Value {
    json!({"loadBalancer": {"servers": [{"url": format!("http://{address}:80")}]}})
}

fn answer(routers: Value, services: Value) -> Value {
    json!({"http": {"routers": routers, "services": services}})
}

fn compared(objects: Vec<Value>, theirs: &Value, ours: &Value) -> Outcome {
    let cluster = Cluster { name: "c1".to_owned(), namespaces: Vec::new(), objects };
    let view = |answer: &Value| Answer::new(answer).clusters.remove("c1").unwrap_or_default();
    compare(&Case::new(&cluster, &json!({})), &view(theirs), &view(ours))
}

fn assert_excused(outcome: &Outcome, difference: Difference) {
    assert!(outcome.unexplained.is_empty(), "{:?}", outcome.unexplained);
    assert!(outcome.tally.noted().contains(&difference), "{:?}", outcome.tally.noted());
}

fn with(answer: &Value, pointer: &str, value: Value) -> Value {
    let mut answer = answer.clone();
    *answer.pointer_mut(pointer).expect("it is there") = value;
    answer
}

const RULE: &str = "Host(\"h\") && PathPrefix(\"/p\")";

#[test]
fn a_refused_router_excuses_only_another_path_of_its_ingress() {
    let foreign = json!({format!("{PREFIX}service.middlewares"): "c1-b-auth@kubernetescrd"});
    let objects = |other: &str| {
        let mut closed = backend("c1-a", "closed", "10.0.0.1").to_vec();
        closed[0]["metadata"]["annotations"] = foreign.clone();
        closed.extend(backend("c1-a", "open", "10.0.0.2"));
        closed.push(ingress("c1-a", "web", &json!({}), &[("/p", "open"), ("/p", "closed")]));
        closed.push(ingress("c1-a", other, &json!({}), &[("/p", "open")]));
        closed
    };
    let mut refused = service("10.0.0.1");
    refused["middlewares"] = json!(["c1-b-auth@kubernetescrd"]);
    let theirs = answer(
        json!({"c1-a-web-h-p": router(RULE, "c1-a-closed-80", Some(("c1-a", "web", "closed")))}),
        json!({"c1-a-closed-80": refused}),
    );
    let ours = answer(
        json!({"c1-a-web-h-p": router(RULE, "c1-a-open-80", None)}),
        json!({"c1-a-open-80": service("10.0.0.2")}),
    );
    assert_excused(&compared(objects("x"), &theirs, &ours), Difference::CrossNamespaceReference);

    let elsewhere = answer(
        json!({"c1-a-other-h-p": router(RULE, "c1-a-open-80", None)}),
        json!({"c1-a-open-80": service("10.0.0.2")}),
    );
    let outcome = compared(objects("other"), &theirs, &elsewhere);
    assert!(!outcome.unexplained.is_empty(), "a router of another Ingress is excused");
    let served = answer(
        json!({"c1-a-web-h-p": router(RULE, "c1-a-closed-80", None)}),
        json!({"c1-a-closed-80": refused}),
    );
    let outcome = compared(objects("x"), &theirs, &served);
    assert!(!outcome.unexplained.is_empty(), "the very router that is to be refused is excused");
}

#[test]
fn a_colliding_router_has_to_be_right() {
    let mut objects = backend("c1-a", "web", "10.0.0.1").to_vec();
    objects.extend(backend("c1-a-b", "web", "10.0.0.2"));
    objects.push(ingress("c1-a", "b-x", &json!({}), &[("/p", "web")]));
    objects.push(ingress("c1-a-b", "x", &json!({}), &[("/p", "web")]));
    let theirs = answer(
        json!({"c1-a-b-x-h-p": router(RULE, "c1-a-web-80", Some(("c1-a", "b-x", "web")))}),
        json!({"c1-a-web-80": service("10.0.0.1"), "c1-a-b-web-80": service("10.0.0.2")}),
    );
    let ours = answer(
        json!({"c1-a-b-x-h-p": router(RULE, "c1-a-web-80", None),
               "c1-a-b-x-h-p-00000000000000000000": router(RULE, "c1-a-b-web-80", None)}),
        json!({"c1-a-web-80": service("10.0.0.1"), "c1-a-b-web-80": service("10.0.0.2")}),
    );
    assert_excused(&compared(objects.clone(), &theirs, &ours), Difference::RouterNameCollision);

    let other = "/http/routers/c1-a-b-x-h-p-00000000000000000000";
    for wrong in [
        router("Host(\"i\") && PathPrefix(\"/p\")", "c1-a-b-web-80", None),
        router("Host(\"h\") && PathPrefix(\"/q\")", "c1-a-b-web-80", None),
        router(RULE, "c1-a-other-80", None),
        json!({"rule": RULE, "service": "c1-a-b-web-80", "middlewares": ["auth@file"]}),
    ] {
        let outcome = compared(objects.clone(), &theirs, &with(&ours, other, wrong.clone()));
        assert!(!outcome.unexplained.is_empty(), "{wrong} is excused");
    }
    let wrong = with(&ours, "/http/services/c1-a-b-web-80", service("10.0.0.9"));
    let outcome = compared(objects.clone(), &theirs, &wrong);
    assert!(!outcome.unexplained.is_empty(), "servers of nobody are excused");
    let mut twice = ours.clone();
    twice["http"]["routers"]["c1-a-b-x-h-p-11111111111111111111"] = router(RULE, "c1-a-b-web-80", None);
    let outcome = compared(objects, &theirs, &twice);
    assert!(!outcome.unexplained.is_empty(), "one path excuses two routers");
}

#[test]
fn a_colliding_service_has_to_be_its_own() {
    let mut objects = backend("c1-a", "b-web", "10.0.0.1").to_vec();
    objects.extend(backend("c1-a-b", "web", "10.0.0.2"));
    objects.push(ingress("c1-a", "one", &json!({}), &[("/p", "b-web")]));
    objects.push(ingress("c1-a-b", "two", &json!({}), &[("/q", "web")]));
    let theirs = answer(
        json!({"c1-a-one-h-p": router(RULE, "c1-a-b-web-80", Some(("c1-a", "one", "b-web"))),
               "c1-a-b-two-h-q": router("Q", "c1-a-b-web-80", Some(("c1-a-b", "two", "web")))}),
        json!({"c1-a-b-web-80": service("10.0.0.1")}),
    );
    let ours = answer(
        json!({"c1-a-one-h-p": router(RULE, "c1-a-b-web-80", None),
               "c1-a-b-two-h-q": router("Q", "c1-a-b-web-80-00000000000000000000", None)}),
        json!({"c1-a-b-web-80": service("10.0.0.1"),
               "c1-a-b-web-80-00000000000000000000": service("10.0.0.2")}),
    );
    assert_excused(&compared(objects.clone(), &theirs, &ours), Difference::ServiceNameCollision);
    let wrong = with(&ours, "/http/services/c1-a-b-web-80-00000000000000000000", service("10.0.0.9"));
    let outcome = compared(objects, &theirs, &wrong);
    assert!(!outcome.unexplained.is_empty(), "servers of nobody are excused");
}

#[test]
fn a_service_is_left_behind_for_a_reason() {
    let matcher = |text: &str| {
        let mut objects = backend("c1-a", "web", "10.0.0.1").to_vec();
        let annotations = json!({format!("{PREFIX}router.pathmatcher"): text});
        objects.push(ingress("c1-a", "one", &annotations, &[("/p", "web")]));
        objects
    };
    let theirs = answer(json!({}), json!({"c1-a-web-80": service("10.0.0.1")}));
    let nothing = answer(json!({}), json!({}));
    assert_excused(&compared(matcher("Regexp"), &theirs, &nothing), Difference::UnusedService);
    let outcome = compared(matcher("Path"), &theirs, &nothing);
    assert!(!outcome.unexplained.is_empty(), "a service is left behind without a reason");
}
