//! Services of every type and EndpointSlices of every shape.

use serde_json::{Map, Value, json};

use super::{Maker, NAMESPACES};
use crate::object::items;

/// Name and number of a Service's ports.
const PORTS: &[(&str, u16)] = &[
    ("http", 80),
    ("https", 443),
    ("https-alt", 8443),
    ("web", 8080),
    ("grpc", 9000),
    ("a-b", 3000),
    ("four", 4430),
    ("80", 8081),
];

/// Few, so that some come twice.
const ADDRESSES: &[&str] = &["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"];
const ADDRESSES_V6: &[&str] = &["fd00::1", "fd00::2", "fd00::3"];
const NAMES: &[&str] = &["a.example.com", "b.example.com"];

impl Maker<'_> {
    pub(super) fn service(&mut self, namespace: &str, name: &str) -> Value {
        let mut spec = json!({"ports": self.ports(), "selector": {"app": name}});
        match self.random.below(20) {
            0..=8 => {}
            9 | 10 => spec["clusterIP"] = "None".into(),
            11 => spec["ipFamilyPolicy"] = "PreferDualStack".into(),
            12 => {
                spec["ipFamilyPolicy"] = "RequireDualStack".into();
                spec["ipFamilies"] = json!(["IPv6", "IPv4"]);
            }
            13 => {
                spec["type"] = "LoadBalancer".into();
                spec["allocateLoadBalancerNodePorts"] = false.into();
            }
            14..=16 => spec["type"] = "NodePort".into(),
            _ => {
                spec["type"] = "ExternalName".into();
                spec["externalName"] = self.external_name(namespace).into();
                spec["selector"] = json!({});
                if self.random.chance(15) {
                    spec["ports"] = json!([]);
                }
            }
        }
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"namespace": namespace, "name": name, "annotations": self.service_annotations(namespace)},
               "spec": spec})
    }

    fn external_name(&mut self, namespace: &str) -> String {
        let other = self.random.pick(self.namespaces).clone();
        let foreign = format!("{}-{}", self.cluster, self.random.pick(NAMESPACES));
        match self.random.below(6) {
            0 => format!("web.{namespace}.svc.cluster.local"),
            1 => format!("web.{other}.svc"),
            2 => format!("web.{foreign}.svc.cluster.local."),
            3 => "Upper.Example.com".to_owned(),
            4 => "192.0.2.99".to_owned(),
            _ => "backend.example.com".to_owned(),
        }
    }

    fn ports(&mut self) -> Value {
        if self.random.chance(20) {
            // One port may have no name.
            return json!([{"port": *self.random.pick(&[80, 443, 8080])}]);
        }
        let count = self.random.between(1, 3);
        let mut ports: Vec<Value> = self
            .random
            .some(PORTS, count)
            .into_iter()
            .map(|(name, port)| {
                let name = if name == "80" { "p-80" } else { name };
                json!({"name": name, "port": port, "targetPort": *self.random.pick(&[8080, 80])})
            })
            .collect();
        if self.random.chance(8) {
            let mut udp = ports[0].clone();
            udp["name"] = "udp".into();
            udp["protocol"] = "UDP".into();
            ports.insert(0, udp);
        }
        if self.random.chance(10) {
            ports[0]["appProtocol"] = "https".into();
        }
        Value::Array(ports)
    }

    /// The EndpointSlices of a Service.
    pub(super) fn slices(&mut self, namespace: &str, service: &Value) -> Vec<Value> {
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let names: Vec<String> = items(service, "/spec/ports")
            .iter()
            .map(|port| port["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let count = *self.random.pick(&[0, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
        (0..count)
            .map(|number| {
                let (family, pool) = match self.random.below(10) {
                    0 | 1 => ("IPv6", ADDRESSES_V6),
                    2 => ("FQDN", NAMES),
                    _ => ("IPv4", ADDRESSES),
                };
                let count = *self.random.pick(&[0, 1, 2, 2, 3, 3, 4]);
                let endpoints: Vec<Value> = (0..count).map(|_| self.endpoint(pool)).collect();
                let mut labels = json!({"kubernetes.io/service-name": name});
                if self.random.chance(4) {
                    labels = json!({"app": name});
                }
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                       "metadata": {"namespace": namespace, "name": format!("{name}-{number}"), "labels": labels},
                       "addressType": family, "ports": self.slice_ports(&names), "endpoints": endpoints})
            })
            .collect()
    }

    fn slice_ports(&mut self, names: &[String]) -> Value {
        let mut ports = Vec::new();
        for name in names {
            if self.random.chance(95) {
                let mut port = Map::new();
                if !name.is_empty() || self.random.chance(50) {
                    port.insert("name".to_owned(), name.as_str().into());
                }
                if self.random.chance(96) {
                    port.insert("port".to_owned(), (*self.random.pick(&[8080, 80, 8443])).into());
                }
                ports.push(Value::Object(port));
            }
        }
        if self.random.chance(10) {
            ports.push(json!({"name": "metrics", "port": 9100}));
        }
        Value::Array(ports)
    }

    fn endpoint(&mut self, pool: &[&str]) -> Value {
        let count = if self.random.chance(10) { 2 } else { 1 };
        let addresses = self.random.some(pool, count);
        let conditions = match self.random.below(12) {
            0 => json!({"ready": false, "serving": false}),
            1 => json!({"ready": false, "serving": true, "terminating": true}),
            2 => json!({"ready": false, "serving": false, "terminating": true}),
            3 => json!({"ready": false}),
            4 => json!({"serving": true}),
            5 => json!({"terminating": true}),
            6 => json!({}),
            _ => json!({"ready": true, "serving": true, "terminating": false}),
        };
        json!({"addresses": addresses, "conditions": conditions})
    }
}
