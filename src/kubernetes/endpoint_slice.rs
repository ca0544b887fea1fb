//! EndpointSlices.

use k8s_openapi::api::discovery::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::metadata::{Created, metadata, or_default};

/// The label with the Service of an EndpointSlice.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// An EndpointSlice as it is decoded. It is stored as a [`Slice`].
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "v1::EndpointSlice")]
pub struct EndpointSlice {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[SlicePort]>,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Conditions {
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SlicePort {
    /// Often empty.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// 0 if there is none.
    #[serde(default, rename = "port", deserialize_with = "or_default")]
    pub number: i32,
}

/// An address of a serving endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// An IP address, or a name in a slice of type FQDN.
    pub host: Box<str>,
    /// The endpoint is terminating.
    pub terminating: bool,
}

/// The stored part of an EndpointSlice. Its namespace is in its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub name: Box<str>,
    pub created: Created,
    /// Its Service; empty if there is none.
    pub service: Box<str>,
    pub ports: Box<[SlicePort]>,
    /// The addresses of its serving endpoints.
    pub addresses: Box<[Address]>,
}

impl EndpointSlice {
    /// Its Service.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL).map(String::as_str)
    }

    /// The addresses of its endpoints that are not serving.
    pub fn not_serving(&self) -> impl Iterator<Item = &str> {
        let endpoints = self.endpoints.iter().filter(|endpoint| endpoint.conditions.serving == Some(false));
        endpoints.flat_map(|endpoint| endpoint.addresses.iter().map(|address| &**address))
    }
}

impl From<EndpointSlice> for Slice {
    fn from(EndpointSlice { metadata, ports, endpoints }: EndpointSlice) -> Self {
        let serving = endpoints.into_iter().filter(|endpoint| endpoint.conditions.serving.unwrap_or(true));
        let addresses = serving.flat_map(|Endpoint { addresses, conditions }| {
            let terminating = conditions.terminating.unwrap_or(false);
            addresses.into_iter().map(move |host| Address { host, terminating })
        });
        let created = Created::from(&metadata);
        let service = metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME_LABEL));
        Self {
            name: metadata.name.unwrap_or_default().into(),
            created,
            service: service.unwrap_or_default().into(),
            ports,
            addresses: addresses.collect(),
        }
    }
}

impl Slice {
    /// The order of the slices of a Service: oldest first, then by name.
    pub fn order(&self) -> (Created, &str) {
        (self.created, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metadata::tests::sent;
    use super::*;

    #[test]
    fn a_slice_keeps_addresses_that_serve_and_its_ports() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": sent(), "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"port": 1},
                      {"name": ""}, {"name": null, "port": null}],
            "endpoints": [{
                "addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n", "zone": "z", "hostname": "h",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hints": {"forZones": [{"name": "z"}]}, "targetRef": {"kind": "Pod", "name": "p"},
            }, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
               {"addresses": ["10.0.0.3"], "conditions": {"serving": false}},
               {"addresses": ["10.0.0.4"], "conditions": {"terminating": true}},
               {"addresses": ["10.0.0.5"], "conditions": null}, {"addresses": null}],
        }))
        .unwrap();
        let address = |host: &str, terminating| Address { host: host.into(), terminating };
        let port = |name: &str, number| SlicePort { name: name.into(), number };
        let expected = Slice {
            name: "shop".into(),
            created: Created(1_704_164_645),
            service: "web".into(),
            ports: [port("http", 8080), port("", 1), port("", 0), port("", 0)].into(),
            addresses: [
                address("10.0.0.1", false),
                address("10.0.0.9", false),
                address("10.0.0.2", false),
                address("10.0.0.4", true),
                address("10.0.0.5", false),
            ]
            .into(),
        };
        assert_eq!(Slice::from(slice), expected);
        let empty: EndpointSlice = serde_json::from_value(json!({"endpoints": null, "ports": null})).unwrap();
        assert_eq!((Slice::from(empty.clone()).addresses, empty.ports), (Box::default(), Box::default()));
    }
}
