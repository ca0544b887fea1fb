//! Clusters at the limits of what the API server takes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Maker;

/// How many kinds of it there are.
const KINDS: usize = 5;

impl Maker<'_> {
    pub(super) fn extreme(&mut self, objects: &mut Vec<Value>, number: usize) {
        let (cluster, namespaces) = (self.cluster, self.namespaces);
        let namespace = namespaces[0].as_str();
        let long = "a".repeat(63);
        let service = |name: &str| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
                   "spec": {"ports": [{"name": "http", "port": 80}]}})
        };
        let slice = |service: &str, number: usize, endpoints: Vec<Value>| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                   "metadata": {"namespace": namespace, "name": format!("{service}-{number}"),
                                "labels": {"kubernetes.io/service-name": service}},
                   "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
        };
        let endpoint = |a: usize, b: usize| json!({"addresses": [format!("10.2.{a}.{b}")]});
        let ingress = |name: &str, annotations: Value, rules: Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                   "metadata": {"namespace": namespace, "name": name, "annotations": annotations,
                                "labels": {"cluster": cluster}},
                   "spec": {"rules": rules}})
        };
        let path = |path: &str| {
            json!({"path": path, "pathType": "ImplementationSpecific",
                   "backend": {"service": {"name": long, "port": {"name": "http"}}}})
        };
        objects.push(service(&long));
        objects.push(slice(&long, 0, vec![endpoint(0, 1)]));
        match number % KINDS {
            0 => {
                let name = [long.as_str(), &long, &long, &"b".repeat(61)].join(".");
                let host =
                    format!("{}.{}.{}.{}", "h".repeat(63), "i".repeat(63), "j".repeat(63), "k".repeat(61));
                let paths = json!([
                    path(&format!("/{}", "p/".repeat(2000))),
                    path(&format!("/{}q", "p/".repeat(2000)))
                ]);
                objects.push(ingress(&name, json!({}), json!([{"host": host, "http": {"paths": paths}}])));
            }
            1 => {
                let mut middlewares = String::new();
                for number in 0..9000 {
                    let _ = write!(middlewares, "middleware-{number}@file,");
                }
                middlewares.push_str("last@file");
                let annotations = json!({"traefik.ingress.kubernetes.io/router.middlewares": middlewares});
                objects.push(ingress("wide", annotations, json!([{"http": {"paths": [path("/")]}}])));
            }
            2 => {
                let paths: Vec<Value> = (0..1000).map(|number| path(&format!("/p{number}"))).collect();
                objects.push(ingress("many", json!({}), json!([{"http": {"paths": paths}}])));
            }
            3 => {
                for number in 1..=10 {
                    let endpoints = (0..100).map(|end| endpoint(number, end)).collect();
                    objects.push(slice(&long, number, endpoints));
                }
                objects.push(ingress("spread", json!({}), json!([{"http": {"paths": [path("/")]}}])));
            }
            _ => {
                let controls: String = ('\u{1}'..='\u{a0}').collect();
                let annotations = json!({
                    "traefik.ingress.kubernetes.io/router.entrypoints": controls,
                    "traefik.ingress.kubernetes.io/router.tls.certresolver": controls,
                });
                let paths = json!([path(&format!("/{controls}"))]);
                objects.push(ingress("controls", annotations, json!([{"http": {"paths": paths}}])));
            }
        }
    }
}
