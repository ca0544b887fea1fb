//! Nodes.

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::metadata::{metadata, or_default};

/// A Node as it is decoded. Only its [`NodeAddresses`] are stored.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "v1::Node")]
pub struct Node {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeStatus {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    address: Box<str>,
}

/// The addresses of one Node, in the order of its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Those of type InternalIP.
    pub internal: Box<[Box<str>]>,
    /// Those of type ExternalIP.
    pub external: Box<[Box<str>]>,
}

impl From<Node> for NodeAddresses {
    fn from(node: Node) -> Self {
        let of_kind = |kind: &str| {
            let addresses = node.status.addresses.iter().filter(|entry| &*entry.kind == kind);
            addresses.map(|entry| entry.address.clone()).collect()
        };
        Self { internal: of_kind("InternalIP"), external: of_kind("ExternalIP") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metadata::tests::sent;
    use super::*;

    #[test]
    fn a_node_keeps_its_addresses() {
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": sent(), "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": [{"type": "Hostname", "address": "n"},
                                     {"type": "InternalIP", "address": "10.0.0.1"},
                                     {"type": "ExternalIP", "address": "192.0.2.1"},
                                     {"type": "InternalIP", "address": "fd00::1"}],
                       "images": [{"names": ["a"], "sizeBytes": 1}]},
        }))
        .unwrap();
        assert_eq!(node.metadata.name.as_deref(), Some("shop"));
        let expected = NodeAddresses {
            internal: ["10.0.0.1".into(), "fd00::1".into()].into(),
            external: ["192.0.2.1".into()].into(),
        };
        assert_eq!(NodeAddresses::from(node), expected);
        let empty: Node = serde_json::from_value(json!({"status": {"addresses": null}})).unwrap();
        assert_eq!(NodeAddresses::from(empty), NodeAddresses::default());
    }
}
