//! Objects that the tests of the operator are made of.

use serde_json::{Value, json};

/// As short a throttle as there is a use for.
pub const FAST: &str = "--providers.providersthrottleduration=50ms";

/// Where statuses get their address from in most tests.
pub const ADDRESS: &str = "--providers.kubernetesingress.ingressendpoint.ip=192.0.2.1";

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The IngressClass `traefik`, which is ours.
pub fn class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    })
}

/// The namespace `shop` with a Service that works, the class, and what else a test begins with.
pub fn shop_with(rest: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut objects =
        vec![namespace("shop"), class(), service("shop", "web"), slice("shop", "web", "10.1.0.1")];
    objects.extend(rest);
    objects
}

/// An Ingress with so many long paths in the place of its one.
pub fn with_paths(mut ingress: Value, count: usize) -> Value {
    let path = ingress["spec"]["rules"][0]["http"]["paths"][0].clone();
    let paths = (0..count).map(|at| {
        let mut path = path.clone();
        path["path"] = format!("/{}/{at}", "p".repeat(60)).into();
        path
    });
    ingress["spec"]["rules"][0]["http"]["paths"] = paths.collect();
    ingress
}

/// A Service with port 80.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// An EndpointSlice of a Service, which need not be there.
pub fn slice(namespace: &str, service: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"port": 8080, "name": "", "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]}],
    })
}

/// An Ingress that sends all of `NAME.example.com` to a Service.
pub fn ingress(namespace: &str, name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "ingressClassName": "traefik",
            "rules": [{
                "host": format!("{name}.example.com"),
                "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": service, "port": {"number": 80}}},
                }]},
            }],
        },
    })
}

/// An Ingress as `ingress`, with TLS from these Secrets.
pub fn tls_ingress(namespace: &str, name: &str, service: &str, secrets: &[&str]) -> Value {
    let mut ingress = ingress(namespace, name, service);
    ingress["spec"]["tls"] =
        secrets.iter().map(|secret| json!({"secretName": secret})).collect::<Vec<_>>().into();
    ingress
}

/// A Secret with a certificate that says `text` in place of one, and a key that holds `canary`.
pub fn secret(namespace: &str, name: &str, kind: &str, text: &str, canary: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {
            "tls.crt": format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
            "tls.key": format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----\n"),
        },
    })
}

/// A node with an address of a kind.
pub fn node(name: &str, kind: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": kind, "address": address}]},
    })
}

/// The key of the router of an `ingress`.
pub fn router(namespace: &str, name: &str) -> String {
    format!("{namespace}-{name}-{name}-example-com")
}

/// Whether a document has the router of an `ingress`.
pub fn has_router(document: &Value, namespace: &str, name: &str) -> bool {
    document["http"]["routers"][router(namespace, name)].is_object()
}

/// The URLs of the servers of a Service on port 80.
pub fn urls(document: &Value, namespace: &str, service: &str) -> Vec<String> {
    let servers =
        &document["http"]["services"][format!("{namespace}-{service}-80")]["loadBalancer"]["servers"];
    let urls = servers.as_array().into_iter().flatten();
    urls.map(|server| server["url"].as_str().unwrap().to_owned()).collect()
}

/// An Ingress with the annotation for its class, as where classes are not read.
pub fn annotated(namespace: &str, name: &str, service: &str) -> Value {
    let mut ingress = ingress(namespace, name, service);
    ingress["spec"].as_object_mut().unwrap().remove("ingressClassName");
    ingress["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "traefik"});
    ingress
}
