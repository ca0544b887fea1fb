//! The cluster: what stays as it is, what changes and stays there, and what comes and goes.
//!
//! | namespace | |
//! | --- | --- |
//! | `stable` | never touched: its routing has to be in everything that was ever published |
//! | `kept` | changed all the time, but never without a route |
//! | `loose-a`, `loose-b` | anything goes |
//! | `team-*` | the same, in numbers; see `large.rs` |
//! | `edge` | the Services whose addresses become statuses |

use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::api::Admin;
use super::harness::{ControlPlane, eventually};

pub const STABLE: &str = "stable";
pub const KEPT: &str = "kept";
pub const LOOSE: [&str; 2] = ["loose-a", "loose-b"];
/// What keys of routers and services begin with that never change.
pub const UNTOUCHED: [&str; 2] = ["stable-", "team-"];
/// Ingresses in `stable`, each with a certificate of its own.
pub const STABLE_COUNT: usize = 8;
/// Paths of each: enough for several shards.
pub const STABLE_PATHS: usize = 80;
/// Ingresses in `kept`; every fourth is of class `edge`.
pub const KEPT_COUNT: usize = 12;
/// Ingresses that there may be in each of the loose namespaces.
pub const LOOSE_COUNT: usize = 12;
/// Services that there may be in each of the loose namespaces.
pub const LOOSE_SERVICES: usize = 6;

/// The operator's own output, and that of class `edge`.
pub const OUTPUTS: [&str; 2] = ["waybill/waybill", "waybill/edge"];

const PRIORITY: &str = "traefik.ingress.kubernetes.io/router.priority";

/// What all private keys here are made of, so that it is found wherever one goes.
pub const CANARY: &[u8] = b"\x30\x82canary of waybill's chaos test: this is no key, but nobody may see it";

pub fn base64(bytes: &[u8]) -> String {
    match serde_json::to_value(ByteString(bytes.to_vec())) {
        Ok(Value::String(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn pem(kind: &str, bytes: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", base64(bytes))
}

/// The text of a certificate that is told from others by `name`, of the size that those have with their issuers.
pub fn certificate(name: &str) -> String {
    let filler = format!("certificate of {name} ").repeat(400);
    pem("CERTIFICATE", filler.as_bytes())
}

/// The text of the private key that all Secrets here have.
pub fn private_key() -> String {
    pem("PRIVATE KEY", CANARY)
}

pub fn tls_secret(namespace: &str, name: &str, version: u64) -> Value {
    let certificate = certificate(&format!("{namespace}/{name} {version}"));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"namespace": namespace, "name": name},
        "data": {
            "tls.crt": base64(certificate.as_bytes()),
            "tls.key": base64(private_key().as_bytes()),
        },
    })
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": "in"}}})
}

pub fn class(name: &str, parameters: Option<&str>) -> Value {
    let mut spec = json!({"controller": "traefik.io/ingress-controller"});
    if let Some(parameters) = parameters {
        spec["parameters"] =
            json!({"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": parameters});
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name}, "spec": spec,
    })
}

pub fn parameters(name: &str) -> Value {
    let spec = match name {
        "edge" => json!({"output": {"name": "edge"}, "ingressEndpoint": {"publishedService": "edge/edge"}}),
        "picky" => json!({
            "namespaces": {"selector": {"matchLabels": {"team": "in"}}}, "reportNodeInternalIPs": true,
        }),
        _ => json!({"output": {"name": "edge"}, "ingressEndpoint": {"ip": "192.0.2.99"}}),
    };
    json!({
        "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
        "metadata": {"name": name}, "spec": spec,
    })
}

pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// A Service whose addresses become statuses.
pub fn published_service(name: &str, address: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "edge", "name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": format!("192.0.2.{address}")}]}},
    })
}

pub fn slice(namespace: &str, service: &str, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace, "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"port": 8080, "name": "", "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

pub fn node(name: &str, address: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.9.0.{address}")}]},
    })
}

/// An Ingress that sends all of `NAME.NAMESPACE.example` to a Service.
pub fn ingress(namespace: &str, name: &str, class: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ingressClassName": class, "rules": [{
            "host": format!("{name}.{namespace}.example"),
            "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"number": 80}}},
            }]},
        }]},
    })
}

pub fn with_tls(mut ingress: Value, secret: &str) -> Value {
    ingress["spec"]["tls"] = json!([{"secretName": secret}]);
    ingress
}

pub fn kept_class(at: usize) -> &'static str {
    if at.is_multiple_of(4) { "edge" } else { "traefik" }
}

/// The patch that gives a kept Ingress another version, which its router shows.
pub fn version_patch(version: i64) -> Value {
    json!({"metadata": {"annotations": {PRIORITY: version.to_string()}}})
}

/// The key of the router of `ingress`, without a path.
pub fn router_key(namespace: &str, name: &str) -> String {
    format!("{namespace}-{name}-{name}-{namespace}-example")
}

fn stable(at: usize) -> [Value; 2] {
    let (name, secret) = (format!("s-{at}"), format!("s-{at}"));
    let mut ingress = with_tls(ingress(STABLE, &name, "traefik", "web"), &secret);
    let path = ingress["spec"]["rules"][0]["http"]["paths"][0].clone();
    let paths = (0..STABLE_PATHS).map(|at| {
        let mut path = path.clone();
        path["path"] = format!("/{}/{at}", "stable".repeat(12)).into();
        path
    });
    ingress["spec"]["rules"][0]["http"]["paths"] = paths.collect();
    [tls_secret(STABLE, &secret, 0), ingress]
}

fn kept(at: usize) -> [Value; 4] {
    let name = format!("k-{at}");
    let mut ingress = with_tls(ingress(KEPT, &name, kept_class(at), &name), &name);
    ingress["metadata"]["annotations"] = json!({PRIORITY: "1"});
    [service(KEPT, &name), slice(KEPT, &name, &[format!("10.2.{at}.1")]), tls_secret(KEPT, &name, 0), ingress]
}

/// An Ingress whose Secret has its key where the certificate belongs: people do that.
fn swapped() -> [Value; 2] {
    let mut secret = tls_secret(STABLE, "swapped", 0);
    let data = &mut secret["data"];
    let key = data["tls.key"].take();
    data["tls.key"] = std::mem::replace(&mut data["tls.crt"], key);
    [secret, with_tls(ingress(STABLE, "swapped", "traefik", "web"), "swapped")]
}

/// All objects of the beginning, in an order in which they can be created.
pub fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = [STABLE, KEPT, LOOSE[0], LOOSE[1], "edge"].map(namespace).into();
    objects.extend([
        class("traefik", None),
        class("flip", None),
        parameters("edge"),
        class("edge", Some("edge")),
        parameters("picky"),
        class("picky", Some("picky")),
        parameters("mover"),
        class("mover", Some("mover")),
        published_service("traefik", 1),
        published_service("edge", 101),
        node("node-0", 1),
        service(STABLE, "web"),
        slice(STABLE, "web", &["10.1.0.1".to_owned(), "10.1.0.2".to_owned()]),
    ]);
    objects.extend((0..STABLE_COUNT).flat_map(stable));
    objects.extend(swapped());
    objects.extend((0..KEPT_COUNT).flat_map(kept));
    objects
}

/// Installs waybill and puts the cluster of the beginning there.
pub async fn fill(plane: &ControlPlane, admin: &Admin) {
    plane.install("crds");
    plane.install("tests/chaos/install");
    for object in objects() {
        // The CRD is not served at once.
        eventually("it is created", Duration::from_secs(10), async || admin.ensure(&object).await).await;
    }
}
