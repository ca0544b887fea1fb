//! What is there once for all clusters: classes, nodes, and Services whose addresses may be published.

use serde_json::{Value, json};

/// Objects without a namespace, and `edge` with the Services to publish. A `status` is written as well.
pub fn fixed() -> Vec<Value> {
    let class = |name: &str, controller: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
               "spec": {"controller": controller}})
    };
    let node = |name: &str, addresses: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}});
    let mut objects = vec![
        class("public", "traefik.io/ingress-controller"),
        class("second", "traefik.io/ingress-controller"),
        class("foreign", "example.com/other"),
        class("nearly", "traefik.io/Ingress-controller"),
        node(
            "worker-b",
            json!([{"type": "InternalIP", "address": "192.0.2.11"}, {"type": "ExternalIP", "address": "198.51.100.11"},
                   {"type": "Hostname", "address": "worker-b"}]),
        ),
        node(
            "worker-a",
            json!([{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "InternalIP", "address": "2001:db8::10"},
                   {"type": "ExternalIP", "address": "198.51.100.10"}]),
        ),
        node("worker-c", json!([{"type": "Hostname", "address": "worker-c"}])),
        node("worker-d", json!([{"type": "InternalIP", "address": "192.0.2.13"}])),
        node("worker-e", json!([{"type": "InternalIP", "address": "192.0.2.14"}])),
        node("worker-f", json!([{"type": "InternalIP", "address": "192.0.2.15"}])),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "edge"}}),
    ];
    objects.extend(published());
    objects
}

/// The Services of namespace `edge`.
fn published() -> Vec<Value> {
    let service = |name: &str, spec: Value, status: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "edge", "name": name},
               "spec": spec, "status": status})
    };
    let ports = json!([{"name": "web", "port": 80}, {"name": "quic", "port": 443, "protocol": "UDP"}]);
    let one =
        |name: &str| service(name, json!({"type": "LoadBalancer", "ports": ports.clone()}), Value::Null);
    let mut balanced = one("balanced");
    balanced["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.1", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]},
        {"hostname": "lb.example.com"}, {"ip": "2001:db8::1", "ipMode": "Proxy"}]}});
    vec![
        balanced,
        one("pending"),
        service(
            "external-ips",
            json!({"ports": ports.clone(), "externalIPs": ["203.0.113.7", "203.0.113.8"]}),
            Value::Null,
        ),
        service("internal", json!({"ports": ports.clone()}), Value::Null),
        service("on-nodes", json!({"type": "NodePort", "ports": ports.clone()}), Value::Null),
        service(
            "elsewhere",
            json!({"type": "ExternalName", "externalName": "edge.example.com", "ports": ports}),
            Value::Null,
        ),
    ]
}
