//! Namespaces.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::metadata::metadata;

/// The used fields of a Namespace.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "v1::Namespace")]
pub struct Namespace {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

impl From<Namespace> for BTreeMap<String, String> {
    /// Its labels, the only part that is stored.
    fn from(namespace: Namespace) -> Self {
        namespace.metadata.labels.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metadata::tests::sent;
    use super::*;

    #[test]
    fn a_namespace_keeps_its_labels() {
        let namespace: Namespace = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": sent(), "spec": {"finalizers": ["kubernetes"]},
        }))
        .unwrap();
        assert_eq!(namespace.metadata.name.as_deref(), Some("shop"));
        assert_eq!(BTreeMap::from(namespace)["app"], "web");
    }
}
