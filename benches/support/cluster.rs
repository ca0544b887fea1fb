//! A made-up cluster of any size: what the benches measure and the load tests apply.
//!
//! Each Ingress has one path to a Service of its own, each Service one EndpointSlice of three addresses. Every fifth
//! Ingress names a TLS Secret, every third carries annotations. 100 Ingresses share a namespace.

use serde_json::{Value, json};

/// Namespace of the Ingress with this number.
pub fn namespace(number: usize) -> String {
    format!("team-{}", number / 100)
}

#[allow(dead_code, reason = "not every user of this file fills an API server")]
/// The number of the Service that an Ingress has.
pub fn backend(number: usize) -> usize {
    number
}

/// The IngressClass that all of them use.
pub fn class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    })
}

fn metadata(number: usize, name: String) -> Value {
    let second = number % 60;
    let minute = number / 60 % 60;
    let hour = number / 3600 % 24;
    json!({
        "namespace": namespace(number), "name": name,
        "creationTimestamp": format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z"),
        "labels": {"app.kubernetes.io/name": format!("app-{number}"), "app.kubernetes.io/managed-by": "Helm"},
    })
}

/// The Ingress with this number.
pub fn ingress(number: usize) -> Value {
    let host = format!("app-{number}.team-{}.example.com", number / 100);
    let mut metadata = metadata(number, format!("app-{number}"));
    if number.is_multiple_of(3) {
        metadata["annotations"] = json!({
            "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
            "traefik.ingress.kubernetes.io/router.tls": "true",
        });
    }
    let mut ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
        "spec": {
            "ingressClassName": "traefik",
            "rules": [{"host": host, "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": format!("app-{number}"), "port": {"number": 80}}},
            }]}}],
        },
    });
    if number.is_multiple_of(5) {
        ingress["spec"]["tls"] = json!([{"hosts": [host], "secretName": format!("app-{number}-tls")}]);
    }
    ingress
}

/// The Service with this number.
pub fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(number, format!("app-{number}")),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app.kubernetes.io/name": format!("app-{number}")},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    })
}

/// The EndpointSlice with this number; `generation` changes the last octet of its first address.
pub fn endpoint_slice(number: usize, generation: u8) -> Value {
    let mut metadata = metadata(number, format!("app-{number}-x7k2p"));
    metadata["labels"]["kubernetes.io/service-name"] = json!(format!("app-{number}"));
    let endpoint = |index: usize| {
        let last = if index == 0 { usize::from(generation) } else { index };
        json!({
            "addresses": [format!("10.{}.{}.{}", number / 250 % 250, number % 250, last + 10)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", (number + index) % 100),
            "targetRef": {"kind": "Pod", "namespace": namespace(number), "name": format!("app-{number}-{index}")},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [endpoint(0), endpoint(1), endpoint(2)],
    })
}

/// The TLS Secret with this number, of about the size that a certificate and its key have.
pub fn secret(number: usize) -> Value {
    let block = |kind: &str| {
        let lines = "MIIBshop0123456789abcdef\n".repeat(59);
        format!("-----BEGIN {kind}-----\nMIIBteam{number:016}\n{lines}-----END {kind}-----\n")
    };
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": metadata(number, format!("app-{number}-tls")),
        "stringData": {"tls.crt": block("CERTIFICATE"), "tls.key": block("PRIVATE KEY")},
    })
}

#[allow(dead_code, reason = "not every user of this file prints the whole cluster")]
/// All objects that belong to the Ingresses with numbers below `count`.
pub fn objects(count: usize) -> impl Iterator<Item = Value> {
    std::iter::once(class()).chain((0..count).flat_map(|number| {
        let secret = (number.is_multiple_of(5)).then(|| secret(number));
        [ingress(number), service(number), endpoint_slice(number, 0)].into_iter().chain(secret)
    }))
}
