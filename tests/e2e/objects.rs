//! Objects that the scenarios are made of, all in namespace `shop` and class `traefik`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::ControlPlane;

pub const SHOP: &str = "shop";

pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}})
}

/// A Service with port 80.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": SHOP},
        "spec": {"ports": [{"name": "web", "port": 80}]},
    })
}

/// The endpoints of a Service, on port 8080.
pub fn slice(service: &str, addresses: &[&str]) -> Value {
    let family = if addresses.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": SHOP,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family, "ports": [{"port": 8080, "name": "web", "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

pub fn annotated(mut object: Value, annotations: Value) -> Value {
    object["metadata"]["annotations"] = annotations;
    object
}

/// A path of an Ingress.
pub fn path(kind: &str, path: &str, service: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"name": "web"}}}})
}

/// An Ingress of one host, or of none where it is empty.
pub fn ingress(name: &str, host: &str, paths: &[Value]) -> Value {
    let mut rule = json!({"http": {"paths": paths}});
    if !host.is_empty() {
        rule["host"] = host.into();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": SHOP},
        "spec": {"ingressClassName": "traefik", "rules": [rule]},
    })
}

/// All of a host to a service.
pub fn simple(name: &str, service: &str) -> Value {
    ingress(name, &format!("{name}.example"), &[path("Prefix", "/", service)])
}

/// A new certificate for a host with its key, as a Secret, and the certificate's file.
pub fn certificate(plane: &ControlPlane, name: &str, host: &str) -> (Value, PathBuf) {
    let file = |ending: &str| plane.folder().join(format!("{name}.{ending}"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args([
            "-days",
            "2",
            "-subj",
            &format!("/CN={host}"),
            "-addext",
            &format!("subjectAltName=DNS:{host}"),
        ])
        .arg("-keyout")
        .arg(file("key"))
        .arg("-out")
        .arg(file("crt"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |ending| std::fs::read_to_string(file(ending)).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": SHOP},
        "stringData": {"tls.crt": read("crt"), "tls.key": read("key")},
    });
    (secret, file("crt"))
}
