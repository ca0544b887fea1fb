//! Classes with settings of their own, from end to end: the started operator with the shipped rights and the shipped
//! example of two classes.

mod busy;
mod gone;
mod held;
mod memory;
mod moves;
mod namespaces;
mod paused;
mod rights;
mod side_by_side;
mod unusable;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use waybill::parameters::{IngressClassParameters, IngressClassParametersStatus};

use crate::harness::operator::{Operator, SOON, render, sort_certificates};
use crate::harness::{AuditEvent, ControlPlane, eventually};

/// Short times, so that a change of leaders is not waited for.
const QUICK: &[&str] = &[
    "--operator.leaderelection.leaseduration=3s",
    "--operator.leaderelection.renewdeadline=2s",
    "--operator.leaderelection.retryperiod=500ms",
    "--providers.providersthrottleduration=200ms",
];

const PUBLIC: &str = "edge-public/public";
const INTERNAL: &str = "edge-internal/internal";
const OWN: &str = "waybill/waybill";

/// What `manifests/examples/two-classes` is an example for: proxies with addresses, a class without parameters,
/// and two namespaces with a Service `app`.
const SURROUNDINGS: &str = "
apiVersion: v1
kind: Service
metadata: {name: traefik, namespace: edge-public}
spec: {type: LoadBalancer, ports: [{port: 443}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.10}]}}
---
apiVersion: v1
kind: Service
metadata: {name: traefik, namespace: edge-internal}
spec: {type: LoadBalancer, ports: [{port: 443}]}
status: {loadBalancer: {ingress: [{hostname: internal.example.com}]}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
";

/// A control plane with the CRD, the shipped manifests and the example.
async fn plane() -> ControlPlane {
    let plane = ControlPlane::start().await;
    plane.install("crds");
    without_definition(&plane).await;
    let parameters: Api<IngressClassParameters> = Api::all(plane.admin());
    eventually("the kind is served", SOON, async || parameters.list(&ListParams::default()).await).await;
    plane.install("manifests/examples/two-classes");
    plane.apply(SURROUNDINGS).await;
    plane
}

/// What a control plane needs beside the CRD and the example.
async fn without_definition(plane: &ControlPlane) {
    plane.install("manifests");
    for namespace in ["shop", "team-a"] {
        plane.apply(&namespace_with_app(namespace)).await;
    }
}

fn namespace_with_app(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: Service
metadata: {{name: app, namespace: {namespace}}}
spec: {{ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: app}}}}
addressType: IPv4
ports: [{{port: 8080, name: ''}}]
endpoints: [{{addresses: [10.1.0.1]}}]
"
    )
}

/// An Ingress for `{name}.example.com/app` that leads to Service `app`.
fn ingress(namespace: &str, name: &str, class: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  ingressClassName: {class}
  rules:
  - host: {name}.example.com
    http:
      paths:
      - {{path: /app, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}
"
    )
}

/// The key of its router.
fn router_key(namespace: &str, name: &str) -> String {
    format!("{namespace}-{name}-{name}-example-com-app")
}

fn has_router(document: &Value, namespace: &str, name: &str) -> bool {
    document.pointer(&format!("/http/routers/{}", router_key(namespace, name))).is_some()
}

/// Waits until an output has the router of an Ingress.
async fn published(plane: &ControlPlane, output: &str, namespace: &str, name: &str) -> Value {
    let what = format!("{namespace}/{name} is in {output}");
    plane.eventually_published(output, &what, |document| has_router(document, namespace, name)).await.1
}

/// What `waybill render` makes of one output of everything that the API server holds.
fn rendered(plane: &ControlPlane, output: &str, kinds: &str) -> Value {
    let objects = plane.kubectl_ok(&["get", kinds, "-A", "-o", "json"]);
    let path = plane.folder().join("objects.json");
    std::fs::write(&path, objects).unwrap();
    let rendered = render(&path, &["--output-name", output]);
    let said = String::from_utf8_lossy(&rendered.stderr);
    let mut document =
        serde_json::from_slice(&rendered.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    sort_certificates(&mut document);
    document
}

/// All kinds that steer the routing, where the CRD is installed.
const KINDS: &str =
    "ingressclasses,icp,configmaps,ingresses,services,endpointslices,secrets,nodes,namespaces";

async fn patch_parameters(plane: &ControlPlane, name: &str, spec: Value) {
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    let patch = Patch::Merge(json!({"spec": spec}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn status_of(plane: &ControlPlane, name: &str) -> IngressClassParametersStatus {
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    api.get(name).await.unwrap().status.unwrap_or_default()
}

/// Waits until a condition of a parameters object has this status and reason.
async fn condition(plane: &ControlPlane, name: &str, type_: &str, status: &str, reason: &str) -> String {
    eventually(&format!("{name} is {type_}={status}, {reason}"), SOON, async || {
        let all = status_of(plane, name).await;
        let found = all.conditions.iter().find(|condition| condition.type_ == type_);
        match found {
            Some(found) if found.status == status && found.reason == reason => Ok(found.message.clone()),
            _ => Err(format!("{all:?}")),
        }
    })
    .await
}

/// Waits for an Event of this reason about an object whose note holds all of some words.
async fn event(plane: &ControlPlane, namespace: &str, object: &str, reason: &str, words: &[&str]) {
    let api: Api<Event> = Api::namespaced(plane.admin(), namespace);
    eventually(&format!("an Event {reason} on {object}"), SOON, async || {
        let events = api.list(&ListParams::default()).await.unwrap().items;
        let of = |event: &Event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(object)
                && event.reason.as_deref() == Some(reason)
                && words.iter().all(|word| note.contains(word))
        };
        if events.iter().any(of) {
            return Ok(());
        }
        let told: Vec<_> = events.iter().map(|event| (&event.reason, &event.note)).collect();
        Err(format!("{told:?}"))
    })
    .await;
}

/// Waits until a metric has a value.
async fn metric(operator: &Operator, series: &str, value: f64) {
    eventually(&format!("{series} is {value}"), SOON, async || match operator.metric(series).await {
        Some(found) if (found - value).abs() < 0.5 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits for the entries of an Ingress's status, as JSON.
async fn address(plane: &ControlPlane, namespace: &str, name: &str, wanted: &Value) {
    let api: Api<Ingress> = Api::namespaced(plane.admin(), namespace);
    eventually(&format!("{namespace}/{name} has {wanted}"), SOON, async || {
        let found = serde_json::to_value(api.get(name).await.unwrap().status).unwrap();
        let entries = found.pointer("/loadBalancer/ingress").cloned().unwrap_or(Value::Null);
        if entries == *wanted { Ok(()) } else { Err(entries.to_string()) }
    })
    .await;
}

/// Waits until the operator has seen what was done before: a marker that is sent after it is published. (Watches of
/// different kinds have no order between them; a Service that the marker leads to came after.)
async fn seen(plane: &ControlPlane, name: &str) {
    plane.apply(&ingress("shop", name, "traefik")).await;
    published(plane, OWN, "shop", name).await;
}

async fn delete_class(plane: &ControlPlane, name: &str) {
    Api::<IngressClass>::all(plane.admin()).delete(name, &DeleteParams::default()).await.unwrap();
}

async fn delete_parameters(plane: &ControlPlane, name: &str) {
    let api: Api<IngressClassParameters> = Api::all(plane.admin());
    api.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&format!("{name} is gone"), SOON, async || match api.get_opt(name).await.unwrap() {
        None => Ok(()),
        Some(object) => Err(object.name_any()),
    })
    .await;
}

/// What the operator was refused.
fn refused(plane: &ControlPlane) -> Vec<AuditEvent> {
    ours(plane).into_iter().filter(|event| event.code() == 403).collect()
}

/// What the operator asked.
fn ours(plane: &ControlPlane) -> Vec<AuditEvent> {
    let all = plane.audit().into_iter();
    all.filter(|event| event.user.username == "system:serviceaccount:waybill:waybill").collect()
}
