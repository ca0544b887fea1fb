//! When refusals make a retired output one to give up, and when they are over.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use kube::client::Body;
use kube::core::Status;
use serde_json::json;

use super::*;
use crate::kubernetes::manifests::Manifests;
use crate::options::Options;
use crate::publish::lease::LeaseGuard;
use crate::publish::outputs::{Collected, GIVE_UP};
use crate::publish::problems::Events;
use crate::translate::problem::{Kind, Subject};
use crate::{offline, options};

fn refused() -> PublishError {
    let status = Status { code: 403, ..Status::default() };
    let source = Box::new(kube::Error::Api(Box::new(status)));
    PublishError::Api { object: "ConfigMap edge/out".to_owned(), failure: WriteFailure::Forbidden, source }
}

/// An API server that has the namespace of every output and takes everything.
async fn answer(request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let (code, answer) = match (parts.method, parts.uri.path()) {
        (http::Method::GET, "/api/v1/namespaces") => (200, json!({"metadata": {}, "items": [{}]})),
        (http::Method::GET, path) if path.ends_with('s') => (200, json!({"metadata": {}, "items": []})),
        (http::Method::GET, _) => (404, json!({"kind": "Status", "status": "Failure", "code": 404})),
        _ => (201, serde_json::from_slice(&body.collect_bytes().await?)?),
    };
    Ok(Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer)?))?)
}

/// A publisher with one output.
fn publisher(key: &OutputKey) -> Publisher {
    publisher_of(key, Client::new(tower::service_fn(answer), "default"), Manifests::default())
}

fn publisher_of(key: &OutputKey, client: Client, manifests: Manifests) -> Publisher {
    let metrics = Metrics::new("x").unwrap();
    let options = options::from_yaml_str("").unwrap().options;
    let live = Arc::new(Live::new(offline::routing(manifests, &options), metrics.clone()));
    let operator = Subject { kind: Kind::ConfigMap, namespace: "w".into(), name: "w".into() };
    let problems = Arc::new(ProblemReports::new(Events::new(operator), Arc::clone(&live), metrics.clone()));
    let off = Options { status: false, status_delay: Duration::ZERO, ..options };
    let statuses = Arc::new(Statuses::new(Arc::clone(&live), Arc::clone(&problems), String::new(), &off));
    let requests = Requests::new(client.clone(), LeaseGuard::without_lease(), metrics);
    let pace = Pace { distance: Duration::ZERO, bytes_per_second: 0, max_withdrawal: 0 };
    let mut publisher =
        Publisher::new(client, live, requests.clone(), problems, statuses, AgentTotals::default(), pace);
    publisher.outputs.insert(key.clone(), OutputState::new(key.clone(), requests, pace));
    publisher
}

fn output<'a>(publisher: &'a mut Publisher, key: &OutputKey) -> &'a mut OutputState {
    publisher.outputs.get_mut(key).unwrap()
}

#[tokio::test]
async fn a_commit_after_a_refusal_ends_it() {
    let key = OutputKey::new("edge", "out");
    let mut publisher = publisher(&key);
    // Two commits: the first one writes, the second finds everything there.
    for _ in 0..2 {
        publisher.failed(&key, &refused());
        output(&mut publisher, &key).refusals.note(&refused(), Instant::now(), || true);
        publisher.commit(&key).await;
        let output = output(&mut publisher, &key);
        assert_eq!(output.failed, None);
        assert!(!output.refusals.has_begun());
    }
    // Without a failed attempt in between, an unchanged commit asks nothing and says nothing about rights.
    output(&mut publisher, &key).refusals.note(&refused(), Instant::now(), || true);
    publisher.commit(&key).await;
    assert!(output(&mut publisher, &key).refusals.has_begun());
    // A pause and a withdrawal that is held are answers too.
    publisher.failed(&key, &refused());
    output(&mut publisher, &key).refusals.note(&refused(), Instant::now(), || true);
    publisher.paused(&key, Category::Paused, Vec::new());
    assert!(!output(&mut publisher, &key).refusals.has_begun());
}

#[tokio::test]
async fn refusals_from_before_a_class_had_the_output_again_decide_nothing() {
    let options = options::from_yaml_str("").unwrap().options;
    // The operator's own output always has a class.
    let key = options.settings.output.clone();
    let mut publisher = publisher(&key);
    let now = Instant::now();
    let refusals = &mut output(&mut publisher, &key).refusals;
    refusals.note(&refused(), now, || true);
    refusals.note(&refused(), now + GIVE_UP, || true);
    assert!(refusals.are_final());
    publisher.forget_retired(now + GIVE_UP);
    assert!(!output(&mut publisher, &key).refusals.has_begun());
}

#[tokio::test]
async fn garbage_that_was_deleted_ends_a_refusal() {
    let key = OutputKey::new("edge", "out");
    let mut publisher = publisher(&key);
    output(&mut publisher, &key).refusals.note(&refused(), Instant::now(), || true);
    let collected = |deleted| Upkeep::Garbage(Collected { deleted, ..Collected::default() });
    publisher.upkept(Some((key.clone(), collected(0))));
    assert!(output(&mut publisher, &key).refusals.has_begun(), "nothing was asked");
    publisher.upkept(Some((key.clone(), collected(1))));
    assert!(!output(&mut publisher, &key).refusals.has_begun());
}

#[tokio::test]
async fn a_failure_that_passes_by_itself_takes_nothing_back() {
    let key = OutputKey::new("edge", "out");
    let mut publisher = publisher(&key);
    let passing = || PublishError::Conflict { object: "ConfigMap edge/out".to_owned() };
    let text = |error| Some((key.clone(), Upkeep::Text(Err(error))));
    publisher.failed(&key, &refused());
    publisher.upkept(text(refused()));
    let problems = |publisher: &mut Publisher| {
        let output = output(publisher, &key);
        [output.commit_problems.clone(), output.text_problems.clone()]
    };
    let standing = problems(&mut publisher);
    assert!(standing.iter().all(|problems| problems.len() == 1), "{standing:?}");
    publisher.failed(&key, &passing());
    publisher.upkept(text(passing()));
    assert_eq!(problems(&mut publisher), standing);

    publisher.commit(&key).await;
    assert!(output(&mut publisher, &key).commit_problems.is_empty());
    publisher.failed(&key, &passing());
    assert!(publisher.live.is_committed(&key), "a single one");
    publisher.failed(&key, &passing());
    assert!(!publisher.live.is_committed(&key));
}

/// An admission webhook that hangs, say: each request takes 10 s, and other outputs wait for all of them.
#[tokio::test]
async fn an_output_whose_writes_fail_costs_the_others_little_time() {
    let key = options::from_yaml_str("").unwrap().options.settings.output;
    let mut manifests = Manifests::default();
    let mut cluster = "\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
"
    .to_owned();
    for at in 0..1_000 {
        cluster.push_str(&format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: s{at}, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{at}, namespace: shop, labels: {{kubernetes.io/service-name: s{at}}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: s{at}, namespace: shop}}
spec:
  ingressClassName: traefik
  defaultBackend: {{service: {{name: s{at}, port: {{number: 80}}}}}}
  rules: [{{host: s{at}.example.com, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s{at}, port: {{number: 80}}}}}}}}]}}}}]
"
        ));
    }
    manifests.add(&"cluster.yaml".into(), cluster.as_bytes());
    let posts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posts);
    let service = tower::service_fn(move |request: Request<Body>| {
        let creates = request.method() == http::Method::POST;
        count.fetch_add(usize::from(creates), Ordering::Relaxed);
        async move {
            if !creates {
                return answer(request).await;
            }
            let status = json!({"kind": "Status", "status": "Failure", "code": 504});
            Ok(Response::builder().status(504).body(Body::from(serde_json::to_vec(&status)?))?)
        }
    });
    let mut publisher = publisher_of(&key, Client::new(service, "default"), manifests);
    // So many at once, each tried four times; while it goes on to fail, once.
    for most in [8 * 4, 8, 8] {
        posts.store(0, Ordering::Relaxed);
        publisher.commit(&key).await;
        let asked = posts.load(Ordering::Relaxed);
        assert!((1..=most).contains(&asked), "{asked}, and not {most}");
    }
}
