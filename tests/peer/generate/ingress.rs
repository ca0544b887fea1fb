//! Ingresses: hosts, paths, backends, classes and TLS.

use serde_json::{Value, json};

use super::{Maker, SECRETS, SERVICES};
use crate::object::{items, name, namespace as namespace_of};

const HOSTS: &[&str] = &[
    "shop.example.com",
    "*.example.com",
    "shop-example.com",
    "xn--bcher-kva.example",
    "a.b.c.example.com",
    "*.shop-eu.example.com",
    "eu",
];

/// The API server should refuse these; it is asked all the same.
const ODD_HOSTS: &[&str] =
    &["Upper.example.com", "192.0.2.1", "*", "a.*.example.com", "bücher.example", "{{x}}", "a\"b"];

const PATHS: &[&str] =
    &["/", "/api", "/api/", "/api/v1", "/shop", "/eu/web", "/eu-web", "/a.b", "/a-b", "/a_b", "/80"];

const ODD_PATHS: &[&str] = &[
    "",
    "/a b",
    "/ü",
    "/漢字",
    "/a\"b",
    "/a\\b",
    "/a`b",
    "/'",
    "/{{ .X }}",
    "/{name:[a-z]+}",
    "/%20",
    "/100%",
    "/%s%q",
    "/\u{a0}",
    "/\u{200b}",
    "/tab\there",
    "/line\nfeed",
    "/\u{1}\u{7f}",
    "/e\u{301}",
    "/😀",
    "/\u{e0001}\u{10ffff}",
    "/\u{e000}\u{fffd}",
    "/^/(a|b)$",
    "//",
    "///",
    "/a//b",
    "/a//",
    "/a/./b",
    "/$1",
    "/٣Ⅷ½",
    "/का",
    "/a) || Host(\"x",
];

impl Maker<'_> {
    /// An Ingress that leads to Services among `objects`, mostly.
    pub(super) fn ingress(&mut self, namespace: &str, name: &str, objects: &[Value]) -> Value {
        let services: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == "Service" && namespace_of(object) == namespace)
            .collect();
        let mut annotations = self.ingress_annotations(namespace);
        let mut spec = json!({});
        match self.random.below(20) {
            0..=5 => {}
            6..=8 => drop(annotations.insert(CLASS.to_owned(), "traefik".into())),
            9 => {
                drop(annotations.insert(CLASS.to_owned(), (*self.random.pick(&["public", "foreign"])).into()))
            }
            10 => drop(
                annotations.insert(CLASS.to_owned(), (*self.random.pick(&["", "nginx", "Traefik"])).into()),
            ),
            11..=15 => spec["ingressClassName"] = "public".into(),
            16 | 17 => spec["ingressClassName"] = "second".into(),
            18 => spec["ingressClassName"] = "foreign".into(),
            _ => spec["ingressClassName"] = (*self.random.pick(&["nobody", "nearly", "traefik"])).into(),
        }
        let rules = *self.random.pick(&[0, 1, 1, 1, 1, 2, 2, 3]);
        let rules: Vec<Value> = (0..rules).map(|_| self.rule(&services)).collect();
        if rules.is_empty() || self.random.chance(10) {
            spec["defaultBackend"] = self.backend(&services);
        }
        if !rules.is_empty() {
            spec["rules"] = Value::Array(rules);
        }
        let entries = *self.random.pick(&[0, 0, 0, 1, 1, 2, 3]);
        if entries > 0 {
            spec["tls"] = (0..entries).map(|_| self.tls(namespace, objects)).collect();
        }
        let mut labels = json!({"cluster": self.cluster});
        match self.random.below(3) {
            0 => labels["tier"] = "web".into(),
            1 => labels["tier"] = "api".into(),
            _ => {}
        }
        if self.random.chance(50) {
            labels["exposure"] = (*self.random.pick(&["public", "partner", "private"])).into();
        }
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": {"namespace": namespace, "name": name, "annotations": annotations, "labels": labels},
               "spec": spec})
    }

    fn rule(&mut self, services: &[&Value]) -> Value {
        let mut rule = json!({});
        if self.random.chance(1) {
            rule["host"] = (*self.random.pick(ODD_HOSTS)).into();
        } else if self.random.chance(80) {
            rule["host"] = (*self.random.pick(HOSTS)).into();
        }
        if self.random.chance(95) {
            let count = self.random.between(1, 3);
            let paths: Vec<Value> = (0..count).map(|_| self.path(services)).collect();
            rule["http"] = json!({"paths": paths});
        }
        rule
    }

    fn path(&mut self, services: &[&Value]) -> Value {
        let kind = *self.random.pick(&[
            "Prefix",
            "Prefix",
            "Exact",
            "ImplementationSpecific",
            "ImplementationSpecific",
        ]);
        let odd = self.random.chance(if kind == "ImplementationSpecific" { 45 } else { 20 });
        let mut path = *self.random.pick(if odd { ODD_PATHS } else { PATHS });
        if kind != "ImplementationSpecific"
            && (path.is_empty() || path.contains("//") || path.contains("/./"))
        {
            path = "/";
        }
        json!({"path": path, "pathType": kind, "backend": self.backend(services)})
    }

    pub(super) fn backend(&mut self, services: &[&Value]) -> Value {
        if self.random.chance(3) {
            return json!({"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "static"}});
        }
        if self.random.chance(4) || services.is_empty() {
            return json!({"service": {"name": *self.random.pick(SERVICES), "port": {"number": 80}}});
        }
        let service = *self.random.pick(services);
        let ports = items(service, "/spec/ports");
        let port = if ports.is_empty() || self.random.chance(5) {
            match self.random.below(2) {
                0 => json!({"number": 9999}),
                _ => json!({"name": "nothing"}),
            }
        } else {
            let port = self.random.pick(ports);
            match port["name"].as_str() {
                Some(name) if self.random.chance(40) => json!({"name": name}),
                _ => json!({"number": port["port"]}),
            }
        };
        json!({"service": {"name": name(service), "port": port}})
    }

    fn tls(&mut self, namespace: &str, objects: &[Value]) -> Value {
        let there: Vec<&str> = objects
            .iter()
            .filter(|object| object["kind"] == "Secret" && namespace_of(object) == namespace)
            .map(name)
            .collect();
        let mut entry = json!({});
        if !there.is_empty() && self.random.chance(80) {
            entry["secretName"] = (*self.random.pick(&there)).into();
        } else if self.random.chance(80) {
            entry["secretName"] = (*self.random.pick(SECRETS)).into();
        }
        if self.random.chance(50) {
            entry["hosts"] = json!([*self.random.pick(HOSTS)]);
        }
        entry
    }
}

const CLASS: &str = "kubernetes.io/ingress.class";
