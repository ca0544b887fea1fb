use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::key::IngressKey;
use crate::kubernetes::manifests::Manifests;
use crate::metrics::Metrics;
use crate::parameters::memory::Memory;
use crate::parameters::status::Publication;
use crate::publish::lease::LeaseGuard;
use crate::publish::problems::Events;
use crate::translate::problem::{Kind, Subject};
use crate::{offline, options};

/// Two classes with outputs of their own.
fn classes() -> String {
    let class = |name| {
        format!(
            "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec:
  controller: traefik.io/ingress-controller
  parameters: {{apiGroup: waybill.dev, kind: IngressClassParameters, name: {name}}}
---
apiVersion: waybill.dev/v1alpha1
kind: IngressClassParameters
metadata: {{name: {name}}}
spec: {{output: {{name: {name}, namespace: edge}}}}
"
        )
    };
    ["a", "b"].map(class).join("---")
}

/// What the API server answers: an error's code, an object, or `None` for the object that was sent.
type Answer = Result<Option<Value>, u16>;

/// What it answers where the memory is concerned.
type OfMemory = fn(&Method) -> Answer;

struct Bench {
    publisher: ClassPublisher,
    metrics: Metrics,
    /// The paths that were patched.
    patched: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new(manifest: &str, answer: impl Fn(&Method, &str) -> Answer + Clone + Send + 'static) -> Self {
        let patched: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&patched);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let (code, answer) = match answer(&parts.method, &path) {
                    Ok(Some(object)) => (200, object),
                    Ok(None) => (201, serde_json::from_slice(&body.collect_bytes().await?)?),
                    Err(code) => (code, json!({"kind": "Status", "status": "Failure", "code": code})),
                };
                if parts.method == Method::PATCH {
                    seen.lock().push(path);
                }
                let answer = Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer)?));
                Ok::<_, tower::BoxError>(answer?)
            }
        });
        let options = options::from_yaml_str("").unwrap().options;
        let mut manifests = Manifests::default();
        manifests.add(&"classes.yaml".into(), manifest.as_bytes());
        let metrics = Metrics::new("x").unwrap();
        let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics.clone()));
        let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
        let problems =
            Arc::new(ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics.clone()));
        let client = Client::new(service, "default");
        let requests = Requests::new(client, LeaseGuard::without_lease(), metrics.clone());
        let writer = ClassWriter::new(requests.clone(), "waybill", "waybill");
        let publisher = ClassPublisher::new(writer, live, problems, requests, AgentTotals::default());
        Self { publisher, metrics, patched }
    }
}

#[tokio::test]
async fn a_status_that_is_refused_keeps_no_other_from_being_written() {
    let mut bench = Bench::new(&classes(), |method, path| match *method {
        Method::GET => Err(404),
        Method::PATCH if path.ends_with("/a/status") => Err(403),
        Method::PATCH => Ok(Some(json!({"metadata": {}}))),
        _ => Ok(None),
    });
    let error = bench.publisher.write().await.unwrap_err();
    assert!(error.to_string().contains("IngressClassParameters a"), "{error}");
    let patched = bench.patched.lock();
    assert!(patched.last().is_some_and(|path| path.ends_with("/b/status")), "{patched:?}");
}

/// Counting takes a look at every Ingress of a class, and the statuses are looked at every few seconds.
#[tokio::test]
async fn what_has_not_changed_is_not_counted_again() {
    let ingress = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {ingressClassName: a, tls: [{hosts: [a.example.com]}]}
";
    let mut bench = Bench::new(&(classes() + ingress), |method, _| match *method {
        Method::GET => Err(404),
        Method::PATCH => Ok(Some(json!({"metadata": {}}))),
        _ => Ok(None),
    });
    bench.publisher.write().await.unwrap();
    let object: Arc<str> = "a".into();
    let ingresses = |bench: &Bench| bench.publisher.counted[&object].counts.ingresses;
    assert_eq!(ingresses(&bench), 1);

    // Where it is counted again, this does not stay.
    bench.publisher.counted.get_mut(&object).unwrap().counts.ingresses = 7;
    let live = Arc::clone(&bench.publisher.live);
    bench.publisher.ledger.forget(&object);
    assert!(bench.publisher.due(&live.routing(), &object).is_some());
    assert_eq!(ingresses(&bench), 7, "nothing changed");
    live.routing().reconcile(&IngressKey::new("shop", "web")).unwrap();
    assert!(bench.publisher.due(&live.routing(), &object).is_some());
    assert_eq!(ingresses(&bench), 1);
}

/// From the first moment of a term, and whatever keeps the ConfigMap from being read or written.
#[tokio::test]
async fn without_its_memory_the_problems_and_statuses_of_classes_are_written_all_the_same() {
    let manifest = classes().replace("{output: {name: b,", "{output: {name: NO,");
    let strangers =
        || Ok(Some(json!({"metadata": {"name": "waybill.classes", "namespace": "waybill", "uid": "u"}})));
    let cases: [(OfMemory, f64, f64); 4] = [
        (|_| Err(403), 0.0, 1.0),
        (|method| Err(if *method == Method::GET { 404 } else { 413 }), 0.0, 1.0),
        (|method| Err(if *method == Method::GET { 404 } else { 503 }), 0.0, 0.0),
        (|_| Err(409), 1.0, 0.0),
    ];
    for (memory, taken, refused) in cases {
        let bench = Bench::new(&manifest, move |method, path| match *method {
            Method::PATCH => Ok(Some(json!({"metadata": {}}))),
            _ if path.contains("configmaps") && taken > 0.0 => strangers(),
            _ => memory(method),
        });
        let all_there = async {
            loop {
                let text = bench.metrics.render().unwrap();
                let shows = |line: &str| text.lines().any(|other| other == line);
                let statuses = bench.patched.lock().len();
                if shows("waybill_problems{category=\"InvalidParameters\"} 2")
                    && shows(&format!("waybill_problems{{category=\"OutputNameTaken\"}} {taken}"))
                    && shows(&format!("waybill_problems{{category=\"PublishRefused\"}} {refused}"))
                    && shows("waybill_ingressclasses{settings=\"current\"} 1")
                    && shows("waybill_ingressclasses{settings=\"not_accepted\"} 1")
                    && statuses >= 2
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = bench.publisher.run() => unreachable!("the guard has no end"),
            written = tokio::time::timeout(Duration::from_secs(10), all_there) => {
                let text = bench.metrics.render().unwrap();
                assert!(written.is_ok(), "{:?} {text}", bench.patched.lock());
            }
        }
    }
}

/// Somebody made it immutable, and its labels and annotations are not all ours.
#[tokio::test]
async fn a_memory_that_is_immutable_is_made_anew() {
    let (created, deleted) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<Vec<Value>>>::default());
    let (creates, deletes) = (Arc::clone(&created), Arc::clone(&deleted));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (creates, deletes) = (Arc::clone(&creates), Arc::clone(&deletes));
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let sent = || serde_json::from_slice::<Value>(&bytes);
            let (code, answer) = match parts.method {
                Method::GET => {
                    let labels = json!({
                        "app.kubernetes.io/managed-by": "waybill", "waybill.dev/part": "classes", "team": "edge",
                    });
                    let metadata = json!({
                        "name": "waybill.classes", "namespace": "waybill", "labels": labels,
                        "uid": "u", "resourceVersion": "7", "creationTimestamp": "2024-01-01T00:00:00Z",
                    });
                    (200, json!({"metadata": metadata, "immutable": true, "data": {"gone": "{}"}}))
                }
                Method::DELETE => {
                    deletes.lock().push(sent()?);
                    (200, json!({"kind": "Status", "status": "Success"}))
                }
                Method::POST => {
                    creates.lock().push(sent()?);
                    (201, sent()?)
                }
                // As an API server refuses to change it.
                _ => (422, json!({"kind": "Status", "status": "Failure", "code": 422})),
            };
            let answer = Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer)?));
            Ok::<_, tower::BoxError>(answer?)
        }
    });
    let client = Client::new(service, "default");
    let requests = Requests::new(client, LeaseGuard::without_lease(), Metrics::new("x").unwrap());
    let writer = ClassWriter::new(requests, "waybill", "waybill");
    assert_eq!(writer.write_memory(&Memory::default()).await.unwrap(), Written::Done);
    let preconditions = json!({"uid": "u", "resourceVersion": "7"});
    let deleted = deleted.lock();
    assert_eq!(deleted.iter().map(|sent| &sent["preconditions"]).collect::<Vec<_>>(), [&preconditions]);
    let created = created.lock();
    let [object] = &created[..] else { panic!("{created:?}") };
    assert_eq!((&object["metadata"]["labels"]["team"], &object["immutable"]), (&json!("edge"), &Value::Null));
    assert_eq!(
        (&object["metadata"]["uid"], &object["metadata"]["resourceVersion"]),
        (&Value::Null, &Value::Null)
    );
}

/// Whoever waits for them goes on when they are ready.
#[tokio::test]
async fn parameters_are_not_ready_before_a_commit_contains_their_new_settings() {
    let ingress = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {ingressClassName: a, rules: [{host: a.example.com}]}
";
    for (manifest, ingresses) in [(classes() + ingress, 1), (classes(), 0)] {
        let mut bench = Bench::new(&manifest, |_, _| Err(404));
        let (object, output): (Arc<str>, _) = ("a".into(), OutputKey::new("edge", "a"));
        let live = Arc::clone(&bench.publisher.live);
        live.set_leading(true);
        live.set_publication(&output, Publication::Committed);
        let mut ready = || {
            let status = bench.publisher.due(&live.routing(), &object).unwrap();
            let ready = status.conditions.into_iter().find(|one| one.type_ == "Ready").unwrap();
            (ready.observed_generation, ready.reason)
        };
        assert_eq!(ready(), (None, "Ready".to_owned()));
        let pending = (Some(2), "Pending".to_owned());
        let parameters = json!({
            "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
            "metadata": {"name": "a", "generation": 2},
            "spec": {"output": {"name": "a", "namespace": "edge"}, "defaultMiddlewares": ["auth@file"]},
        });
        let event = Event::Apply(serde_json::from_value(parameters).unwrap());
        live.routing().stores_mut().apply_parameters(event);
        live.reconcile_class("a", None);
        assert_eq!(ready(), pending);
        if ingresses > 0 {
            // A commit that was due anyway.
            live.commit_begins(&output);
            live.set_publication(&output, Publication::Committed);
            assert_eq!(ready(), pending, "it has the old settings");
            assert!(!live.take_pending().outputs.contains_key(&output));
        }
        for _ in 0..ingresses {
            let (key, cause) = live.ingresses.try_next().unwrap();
            live.reconcile(&IngressKey(key), cause).unwrap();
        }
        assert!(live.take_pending().outputs.contains_key(&output), "a commit follows");
        live.commit_begins(&output);
        assert_eq!(ready(), pending, "it may fail");
        assert!(live.is_committed(&output), "statuses do not wait for it");
        live.set_publication(&output, Publication::Committed);
        assert_eq!(ready(), (Some(2), "Ready".to_owned()));
    }
}
