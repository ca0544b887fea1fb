//! Services and EndpointSlices, cut down to what is read of them.
//!
//! Memory is proportional to the cluster, and the types of the API are several times as wide as what the translation
//! asks for. Everything that comes in, from a watch or from a manifest, is turned into these at the door of the
//! stores; an update that leaves them as they were is no update.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IngressLoadBalancerIngress, IngressPortStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::well_known::TRAEFIK_PREFIX;

/// The label by which an EndpointSlice says whose it is.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// When an object was created, in whole seconds since 1970 as Kubernetes keeps it. An object that is not there
/// (or a manifest without a date) is younger than every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Created(pub i64);

impl Created {
    /// For what has no date.
    pub const UNKNOWN: Self = Self(i64::MAX);

    /// The age that an object's metadata tells.
    pub fn of(timestamp: Option<&Time>) -> Self {
        timestamp.map_or(Self::UNKNOWN, |time| Self(time.0.as_second()))
    }
}

/// The type of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// The API server's default, also where a manifest names none.
    #[default]
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
    /// `ExternalName`
    ExternalName,
    /// What no API server lets through, from a manifest.
    Other(Box<str>),
}

impl ServiceType {
    fn of(text: Option<String>) -> Self {
        match text.as_deref() {
            None | Some("ClusterIP") => Self::ClusterIp,
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            Some(_) => Self::Other(text.unwrap_or_default().into()),
        }
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where it has none.
    pub name: Box<str>,
    /// Its number.
    pub port: i32,
    /// The port on every node; 0 where there is none.
    pub node_port: i32,
    /// `TCP` unless it says otherwise.
    pub protocol: Cow<'static, str>,
}

/// A Service. Its namespace and name are in its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// For Events.
    pub uid: Option<Box<str>>,
    /// When it was created.
    pub created: Created,
    /// Annotations that begin with [`TRAEFIK_PREFIX`].
    pub annotations: BTreeMap<String, String>,
    /// Its type.
    pub kind: ServiceType,
    /// Its ports, in the order of its spec.
    pub ports: Box<[ServicePort]>,
    /// `spec.clusterIP`; empty where it has none.
    pub cluster_ip: Box<str>,
    /// `spec.externalName`
    pub external_name: Option<Box<str>>,
    /// `spec.externalIPs`
    pub external_ips: Box<[Box<str>]>,
    /// `status.loadBalancer.ingress`, as an Ingress says it.
    pub balancer: Box<[IngressLoadBalancerIngress]>,
}

impl Service {
    /// What is read of a Service.
    pub fn of(service: v1::Service) -> Self {
        let v1::ServiceSpec { ports, type_, cluster_ip, external_name, external_ips, .. } =
            service.spec.unwrap_or_default();
        let balancer = service.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
        let mut annotations = service.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key.starts_with(TRAEFIK_PREFIX));
        Self {
            uid: service.metadata.uid.map(Into::into),
            created: Created::of(service.metadata.creation_timestamp.as_ref()),
            annotations,
            kind: ServiceType::of(type_),
            ports: ports.unwrap_or_default().into_iter().map(port).collect(),
            cluster_ip: cluster_ip.unwrap_or_default().into(),
            external_name: external_name.map(Into::into),
            external_ips: external_ips.unwrap_or_default().into_iter().map(Into::into).collect(),
            balancer: balancer.into_iter().map(balanced).collect(),
        }
    }
}

fn port(port: v1::ServicePort) -> ServicePort {
    ServicePort {
        name: port.name.unwrap_or_default().into(),
        port: port.port,
        node_port: port.node_port.unwrap_or_default(),
        protocol: match port.protocol {
            Some(protocol) if protocol != "TCP" => Cow::Owned(protocol),
            _ => Cow::Borrowed("TCP"),
        },
    }
}

fn balanced(entry: v1::LoadBalancerIngress) -> IngressLoadBalancerIngress {
    let port = |port: v1::PortStatus| IngressPortStatus {
        port: port.port,
        protocol: port.protocol,
        error: port.error,
    };
    IngressLoadBalancerIngress {
        ip: entry.ip,
        hostname: entry.hostname,
        ports: entry.ports.map(|ports| ports.into_iter().map(port).collect()),
    }
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name, often empty.
    pub name: Box<str>,
    /// Its number; 0 where it says none.
    pub number: i32,
}

/// An address of an endpoint that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// An IP address, or a name in a slice of type FQDN.
    pub host: Box<str>,
    /// The endpoint is about to end.
    pub terminating: bool,
}

/// An EndpointSlice. Its namespace is in its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name: what sorts slices of one age.
    pub name: Box<str>,
    /// When it was created.
    pub created: Created,
    /// The Service that it belongs to; empty where it says none.
    pub service: Box<str>,
    /// Its ports. One without a name belongs to no port of a Service and is left out.
    pub ports: Box<[SlicePort]>,
    /// The addresses of its endpoints, without those that don't serve.
    pub addresses: Box<[Address]>,
}

impl Slice {
    /// What is read of an EndpointSlice.
    pub fn of(slice: EndpointSlice) -> Self {
        let serving = slice.endpoints.into_iter().filter_map(|endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            let terminating = conditions.terminating.unwrap_or(false);
            let addresses = endpoint.addresses.into_iter();
            let address = move |host: String| Address { host: host.into(), terminating };
            conditions.serving.unwrap_or(true).then(|| addresses.map(address))
        });
        let port = |port: k8s_openapi::api::discovery::v1::EndpointPort| {
            Some(SlicePort { name: port.name?.into(), number: port.port.unwrap_or(0) })
        };
        Self {
            created: Created::of(slice.metadata.creation_timestamp.as_ref()),
            name: slice.metadata.name.unwrap_or_default().into(),
            service: slice
                .metadata
                .labels
                .and_then(|mut labels| labels.remove(SERVICE_NAME_LABEL))
                .unwrap_or_default()
                .into(),
            ports: slice.ports.unwrap_or_default().into_iter().filter_map(port).collect(),
            addresses: serving.flatten().collect(),
        }
    }

    /// What sorts the slices of a Service: the oldest first, then by name.
    pub fn order(&self) -> (Created, &str) {
        (self.created, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_service_keeps_ports_type_addresses_and_the_balancers_status() {
        let service = Service::of(parse(json!({
            "metadata": {
                "name": "web", "namespace": "web", "resourceVersion": "9", "labels": {"app": "web"}, "uid": "u",
                "creationTimestamp": "2024-01-02T03:04:05Z",
                "annotations": {"prometheus.io/scrape": "true",
                                "traefik.ingress.kubernetes.io/service.nativelb": "true"},
            },
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "externalIPs": ["192.0.2.9"], "selector": {"app": "web"}, "sessionAffinity": "None",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080,
                           "protocol": "TCP", "appProtocol": "http"}, {"port": 53, "protocol": "UDP"}],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example", "ipMode": "VIP",
                                                     "ports": [{"port": 80, "protocol": "TCP"}]}]},
                       "conditions": [{"type": "x", "status": "True", "reason": "r", "message": "m",
                                       "lastTransitionTime": "2024-01-02T03:04:05Z"}]},
        })));
        let port = |name: &str, port, node_port, protocol: &'static str| ServicePort {
            name: name.into(),
            port,
            node_port,
            protocol: protocol.into(),
        };
        let expected = Service {
            uid: Some("u".into()),
            created: Created(1_704_164_645),
            annotations: [("traefik.ingress.kubernetes.io/service.nativelb".into(), "true".into())].into(),
            kind: ServiceType::LoadBalancer,
            ports: [port("http", 80, 30080, "TCP"), port("", 53, 0, "UDP")].into(),
            cluster_ip: "10.0.0.1".into(),
            external_name: None,
            external_ips: ["192.0.2.9".into()].into(),
            balancer: [IngressLoadBalancerIngress {
                hostname: Some("lb.example".into()),
                ip: None,
                ports: Some(vec![IngressPortStatus { port: 80, protocol: "TCP".into(), error: None }]),
            }]
            .into(),
        };
        assert_eq!(service, expected);
    }

    #[test]
    fn types_of_services() {
        let kind = |text: Option<&str>| ServiceType::of(text.map(str::to_owned));
        assert_eq!(kind(None), ServiceType::ClusterIp);
        assert_eq!(kind(Some("ClusterIP")), ServiceType::ClusterIp);
        assert_eq!(kind(Some("NodePort")), ServiceType::NodePort);
        assert_eq!(kind(Some("LoadBalancer")), ServiceType::LoadBalancer);
        assert_eq!(kind(Some("ExternalName")), ServiceType::ExternalName);
        assert_eq!(kind(Some("clusterip")), ServiceType::Other("clusterip".into()));
    }

    #[test]
    fn a_slice_keeps_addresses_that_serve_and_named_ports() {
        let slice = Slice::of(parse(json!({
            "metadata": {"name": "web-1", "namespace": "web", "uid": "u", "resourceVersion": "1",
                         "labels": {"kubernetes.io/service-name": "web", "app": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"port": 1},
                      {"name": ""}],
            "endpoints": [{
                "addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n", "zone": "z", "hostname": "h",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hints": {"forZones": [{"name": "z"}]}, "targetRef": {"kind": "Pod", "name": "p"},
            }, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
               {"addresses": ["10.0.0.3"], "conditions": {"serving": false}},
               {"addresses": ["10.0.0.4"], "conditions": {"terminating": true}}],
        })));
        let address = |host: &str, terminating| Address { host: host.into(), terminating };
        let expected = Slice {
            name: "web-1".into(),
            created: Created::UNKNOWN,
            service: "web".into(),
            ports: [
                SlicePort { name: "http".into(), number: 8080 },
                SlicePort { name: "".into(), number: 0 },
            ]
            .into(),
            addresses: [
                address("10.0.0.1", false),
                address("10.0.0.9", false),
                address("10.0.0.2", false),
                address("10.0.0.4", true),
            ]
            .into(),
        };
        assert_eq!(slice, expected);
    }
}
