//! A cluster in which every difference that is on purpose shows, whatever the seed.

use serde_json::{Value, json};

use super::secret::{base64, mark};

/// Middlewares that an annotation can hold and a published entry can't.
pub const MANY: usize = 70_000;

/// How a certificate begins that has its key in front of it.
pub const KEY_AND_CERTIFICATE: &str =
    "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----";

/// How a certificate begins.
pub const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// The ends of the namespaces that it needs.
pub const NAMESPACES: &[&str] = &["shop", "shop-eu"];

/// The objects of the cluster.
pub fn objects(cluster: &str) -> Vec<Value> {
    let (shop, shop_eu) = (format!("{cluster}-shop"), format!("{cluster}-shop-eu"));
    let make = Make { cluster };
    let mut objects = Vec::new();
    // The keys of routers, services and Secrets of these two are the same.
    for (namespace, name, address) in [(&shop, "eu-web", "10.3.0.1"), (&shop_eu, "web", "10.3.0.2")] {
        objects.push(make.service(namespace, name, json!({})));
        objects.push(make.slice(namespace, name, json!([{"addresses": [address]}])));
        objects.push(make.secret(namespace, &format!("{name}-tls"), CERTIFICATE));
        let tls = json!([{"secretName": format!("{name}-tls")}]);
        objects.push(make.ingress(namespace, name, json!({}), "/", name, tls));
    }
    let shop = shop.as_str();
    objects.push(make.service(shop, "web", json!({})));
    objects.push(make.slice(shop, "web", json!([{"addresses": ["10.3.0.3"]}])));
    objects.push(make.ingress(shop, "everything", json!({}), "", "web", json!([])));
    objects.push(make.service(shop, "leaving", json!({})));
    objects.push(make.slice(
        shop,
        "leaving",
        json!([{"addresses": ["10.3.0.4"]},
               {"addresses": ["10.3.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}}]),
    ));
    objects.push(make.ingress(shop, "leaving", json!({}), "/leaving", "leaving", json!([])));
    objects.push(make.secret(shop, "path", "/no/such/file"));
    objects.push(make.secret(shop, "last", CERTIFICATE));
    objects.push(make.secret(shop, "both", KEY_AND_CERTIFICATE));
    let tls = json!([{"secretName": "both"}, {"secretName": "path"}, {"secretName": "missing"}, {"secretName": "last"}]);
    objects.push(make.ingress(shop, "secrets", json!({}), "/secrets", "web", tls));
    let middlewares = |text: String| json!({format!("{PREFIX}router.middlewares"): text});
    let empty = middlewares("a@file,,b@file".to_owned());
    objects.push(make.ingress(shop, "empty-item", empty, "/empty-item", "web", json!([])));
    let large = middlewares("m,".repeat(MANY).trim_end_matches(',').to_owned());
    objects.push(make.ingress(shop, "large", large, "/large", "web", json!([])));
    let foreign = middlewares(format!("{shop_eu}-auth@kubernetescrd"));
    objects.push(make.ingress(shop, "borrows", foreign, "/borrows", "web", json!([])));
    objects.push(make.service(
        shop,
        "elsewhere",
        json!({"type": "ExternalName", "externalName": format!("web.{shop_eu}.svc.cluster.local")}),
    ));
    objects.push(make.ingress(shop, "elsewhere", json!({}), "/elsewhere", "elsewhere", json!([])));
    objects.push(make.service(shop, "unused", json!({})));
    objects.push(make.slice(shop, "unused", json!([{"addresses": ["10.3.0.6"]}])));
    let matcher = json!({format!("{PREFIX}router.pathmatcher"): "Regexp"});
    objects.push(make.ingress(shop, "matcher", matcher, "/matcher", "unused", json!([])));
    let mut nodes = make.service(shop, "nodes", json!({"type": "NodePort"}));
    nodes["metadata"]["annotations"] = json!({format!("{PREFIX}service.nodeportlb"): "true"});
    objects.push(nodes);
    objects.push(make.ingress(shop, "nodes", json!({}), "/nodes", "nodes", json!([])));
    for name in ["default-a", "default-b"] {
        let mut ingress = make.ingress(shop, name, json!({}), "", "web", json!([]));
        let service = if name == "default-a" { "web" } else { "leaving" };
        ingress["spec"] = json!({"defaultBackend": {"service": {"name": service, "port": {"number": 80}}}});
        objects.push(ingress);
    }
    objects
}

/// Makes objects of a cluster.
pub struct Make<'a> {
    pub cluster: &'a str,
}

impl Make<'_> {
    pub fn service(&self, namespace: &str, name: &str, mut spec: Value) -> Value {
        spec["ports"] = json!([{"name": "http", "port": 80}]);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec})
    }

    pub fn slice(&self, namespace: &str, service: &str, endpoints: Value) -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"namespace": namespace, "name": format!("{service}-1"),
                            "labels": {"kubernetes.io/service-name": service}},
               "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
    }

    pub fn secret(&self, namespace: &str, name: &str, begin: &str) -> Value {
        let end = if begin.ends_with(CERTIFICATE) { "-----END CERTIFICATE-----\n" } else { "" };
        let text = format!("{begin}\n{namespace}/{name}{}\n{end}", mark(self.cluster));
        let key = format!("-----BEGIN PRIVATE KEY-----\n{namespace}/{name}\n-----END PRIVATE KEY-----\n");
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
               "metadata": {"namespace": namespace, "name": name},
               "data": {"tls.crt": base64(text.as_bytes()), "tls.key": base64(key.as_bytes())}})
    }

    pub fn ingress(
        &self,
        namespace: &str,
        name: &str,
        annotations: Value,
        path: &str,
        service: &str,
        tls: Value,
    ) -> Value {
        let backend = json!({"service": {"name": service, "port": {"number": 80}}});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": {"namespace": namespace, "name": name, "annotations": annotations,
                            "labels": {"cluster": self.cluster}},
               "spec": {"tls": tls, "rules": [{"http": {"paths": [
                   {"path": path, "pathType": "ImplementationSpecific", "backend": backend}]}}]}})
    }
}
