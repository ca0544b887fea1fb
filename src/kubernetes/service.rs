//! Services.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::metadata::{Created, metadata, or_default};
use super::well_known::TRAEFIK_PREFIX;

/// A Service as it is decoded. It is stored as a [`Service`].
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "v1::Service")]
pub struct WireService {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    spec: ServiceSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: ServiceType,
    #[serde(deserialize_with = "or_default")]
    ports: Box<[ServicePort]>,
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: Box<str>,
    external_name: Option<Box<str>>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    external_ips: Box<[Box<str>]>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    load_balancer: Balancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Balancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Box<[IngressLoadBalancerIngress]>,
}

/// The type of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// The API server's default, also for manifests without a type.
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
    /// A value from a manifest that no API server accepts.
    Other(Box<str>),
}

impl<'de> Deserialize<'de> for ServiceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(|text| match &*text {
            "" | "ClusterIP" => Self::ClusterIp,
            "NodePort" => Self::NodePort,
            "LoadBalancer" => Self::LoadBalancer,
            "ExternalName" => Self::ExternalName,
            _ => Self::Other(text),
        })
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty if there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    pub port: i32,
    /// The port on every node; 0 if there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub node_port: i32,
    /// `TCP` by default.
    #[serde(default = "tcp", deserialize_with = "protocol")]
    pub protocol: Cow<'static, str>,
}

fn tcp() -> Cow<'static, str> {
    Cow::Borrowed("TCP")
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    let protocol = Option::<String>::deserialize(deserializer)?;
    Ok(protocol.filter(|protocol| protocol != "TCP").map_or_else(tcp, Cow::Owned))
}

/// The stored part of a Service. Its namespace and name are in its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// For Events.
    pub uid: Option<Box<str>>,
    pub created: Created,
    /// Annotations that begin with [`TRAEFIK_PREFIX`].
    pub annotations: BTreeMap<String, String>,
    pub kind: ServiceType,
    /// In the order of its spec.
    pub ports: Box<[ServicePort]>,
    /// Empty if there is none.
    pub cluster_ip: Box<str>,
    pub external_name: Option<Box<str>>,
    pub external_ips: Box<[Box<str>]>,
    /// `status.loadBalancer.ingress`, in the same form as an Ingress's.
    pub balancer: Box<[IngressLoadBalancerIngress]>,
}

impl From<WireService> for Service {
    fn from(WireService { metadata, spec, status }: WireService) -> Self {
        let created = Created::from(&metadata);
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key.starts_with(TRAEFIK_PREFIX));
        Self {
            uid: metadata.uid.map(Into::into),
            created,
            annotations,
            kind: spec.kind,
            ports: spec.ports,
            cluster_ip: spec.cluster_ip,
            external_name: spec.external_name,
            external_ips: spec.external_ips,
            balancer: status.load_balancer.ingress,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::IngressPortStatus;
    use serde_json::{Value, json};

    use super::super::metadata::tests::sent;
    use super::*;

    fn read(value: Value) -> Service {
        serde_json::from_value::<WireService>(value).unwrap().into()
    }

    #[test]
    fn a_service_keeps_what_is_read() {
        let service = read(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": sent(),
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "externalIPs": ["192.0.2.9"], "externalName": "x", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080, "protocol": "TCP",
                           "appProtocol": "http"}, {"port": 53, "protocol": "UDP"}],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example", "ipMode": "VIP",
                                                     "ports": [{"port": 80, "protocol": "TCP"}]}]},
                       "conditions": [{"type": "x"}]},
        }));
        let port = |name: &str, port, node_port, protocol: &'static str| ServicePort {
            name: name.into(),
            port,
            node_port,
            protocol: protocol.into(),
        };
        let expected = Service {
            uid: Some("u-1".into()),
            created: Created(1_704_164_645),
            annotations: [("traefik.ingress.kubernetes.io/with \"escapes\"".into(), "\u{e9}\n".into())]
                .into(),
            kind: ServiceType::LoadBalancer,
            ports: [port("http", 80, 30080, "TCP"), port("", 53, 0, "UDP")].into(),
            cluster_ip: "10.0.0.1".into(),
            external_name: Some("x".into()),
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
    fn what_is_left_out_is_as_an_api_server_fills_it_in() {
        let empty =
            read(json!({"spec": {"ports": [{"port": 80, "protocol": null, "name": null}], "type": null}}));
        assert_eq!((&empty.kind, &*empty.ports[0].protocol), (&ServiceType::ClusterIp, "TCP"));
        assert_eq!(read(json!({"spec": null, "status": {"loadBalancer": null}})), read(json!({})));
    }

    #[test]
    fn types_of_services() {
        let kind = |text: &str| read(json!({"spec": {"type": text}})).kind;
        assert_eq!(kind(""), ServiceType::ClusterIp);
        assert_eq!(kind("ClusterIP"), ServiceType::ClusterIp);
        assert_eq!(kind("NodePort"), ServiceType::NodePort);
        assert_eq!(kind("LoadBalancer"), ServiceType::LoadBalancer);
        assert_eq!(kind("ExternalName"), ServiceType::ExternalName);
        assert_eq!(kind("clusterip"), ServiceType::Other("clusterip".into()));
    }
}
