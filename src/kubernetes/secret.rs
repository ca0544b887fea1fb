//! Secrets with their data. Most are watched by their metadata alone ([`MetadataOf`]).
//!
//! [`MetadataOf`]: super::MetadataOf

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::metadata::metadata;

/// The used fields of a Secret.
#[derive(Clone, Default, Deserialize, Resource)]
#[resource(inherit = "v1::Secret")]
#[serde(from = "WireSecret")]
pub struct Secret {
    pub metadata: ObjectMeta,
    pub data: Option<BTreeMap<String, ByteString>>,
}

impl fmt::Debug for Secret {
    /// Without the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSecret {
    #[serde(default, deserialize_with = "metadata")]
    metadata: ObjectMeta,
    data: Option<BTreeMap<String, ByteString>>,
    /// Another way to write `data`, in manifests; it has precedence.
    string_data: Option<BTreeMap<String, String>>,
}

impl From<WireSecret> for Secret {
    fn from(WireSecret { metadata, mut data, string_data }: WireSecret) -> Self {
        if let Some(texts) = string_data {
            let texts = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
            data.get_or_insert_default().extend(texts);
        }
        Self { metadata, data }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metadata::tests::sent;
    use super::*;

    #[test]
    fn a_secret_keeps_what_is_read_and_does_not_show_it() {
        let secret: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": sent(), "type": "kubernetes.io/tls",
            "data": {"tls.crt": "YQ==", "tls.key": "Yg=="}, "stringData": {"tls.key": "c"},
        }))
        .unwrap();
        let data: Vec<_> = secret.data.iter().flatten().map(|(key, value)| (&**key, &*value.0)).collect();
        assert_eq!(data, [("tls.crt", &b"a"[..]), ("tls.key", b"c")]);
        assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(secret.metadata.labels.as_ref().unwrap()["app"], "web");
        assert!(!format!("{secret:?}").contains("tls.key"));
    }
}
