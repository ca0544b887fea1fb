//! The fields of any object's metadata that are used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use kube::Resource;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::well_known;

/// When an object was created, in whole seconds since 1970 as in Kubernetes. An object that does not exist (or a
/// manifest without a date) is younger than every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Created(pub i64);

impl Created {
    /// For objects without a date.
    pub const UNKNOWN: Self = Self(i64::MAX);
}

impl From<&ObjectMeta> for Created {
    fn from(metadata: &ObjectMeta) -> Self {
        metadata.creation_timestamp.as_ref().map_or(Self::UNKNOWN, |Time(at)| Self(at.as_second()))
    }
}

/// Distinguishes an object from others with the same name: a hash of `metadata.uid`, which takes less memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uid(u64);

impl From<&ObjectMeta> for Uid {
    fn from(metadata: &ObjectMeta) -> Self {
        let mut hasher = DefaultHasher::new();
        metadata.uid.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Decodes metadata without unused parts. As JSON trees, `managedFields` alone would take several times the memory of
/// the rest of an object.
pub(super) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let read = Option::<Metadata>::deserialize(deserializer)?.unwrap_or_default();
    Ok(ObjectMeta {
        name: read.name,
        generate_name: read.generate_name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        creation_timestamp: read.creation_timestamp,
        labels: read.labels,
        annotations: read.annotations.map(|annotations| annotations.0),
        managed_fields: status_owners(read.managed_fields),
        ..ObjectMeta::default()
    })
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    managed_fields: Option<Vec<Manager>>,
}

#[derive(serde::Deserialize)]
struct Manager {
    manager: Option<String>,
    operation: Option<String>,
    subresource: Option<String>,
}

/// The managers that own a part of an object's status, by name and operation. Only an owner may withdraw a status.
fn status_owners(managers: Option<Vec<Manager>>) -> Option<Vec<ManagedFieldsEntry>> {
    let of_status = |manager: &Manager| manager.subresource.as_deref() == Some("status");
    let entry = |Manager { manager, operation, subresource }| ManagedFieldsEntry {
        manager,
        operation,
        subresource,
        ..ManagedFieldsEntry::default()
    };
    let owners: Box<[_]> = managers?.into_iter().filter(of_status).map(entry).collect();
    (!owners.is_empty()).then(|| owners.into_vec())
}

/// Annotations that somebody reads, and the keys of foreign ones. All values are checked to be texts.
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut read = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if well_known::is_read(&key) {
                        read.insert(key, map.next_value()?);
                        continue;
                    }
                    map.next_value::<UnreadText>()?;
                    if well_known::is_foreign(&key) {
                        read.insert(key, String::new());
                    }
                }
                Ok(Annotations(read))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

/// A text that is checked but not stored.
struct UnreadText;

impl<'de> Deserialize<'de> for UnreadText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ignore;

        impl Visitor<'_> for Ignore {
            type Value = UnreadText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<UnreadText, E> {
                Ok(UnreadText)
            }
        }

        deserializer.deserialize_str(Ignore)
    }
}

/// Decodes a list or an object that may be `null`, which is the same as absent.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The metadata of an object of kind `K`, for watches of metadata.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct MetadataOf<K> {
    #[serde(default, deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K> From<ObjectMeta> for MetadataOf<K> {
    fn from(metadata: ObjectMeta) -> Self {
        Self { metadata, kind: PhantomData }
    }
}

impl<K: Resource> Resource for MetadataOf<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        true
    }

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::{Value, json};

    use super::*;

    /// Metadata as an API server sends it.
    pub fn sent() -> Value {
        json!({
            "name": "shop", "namespace": "web", "uid": "u-1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2024-01-02T03:04:05Z", "generateName": "s", "finalizers": ["f"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
            "labels": {"app": "web", "kubernetes.io/service-name": "web"},
            "annotations": {
                "kubernetes.io/ingress.class": "public",
                "traefik.ingress.kubernetes.io/with \"escapes\"": "\u{e9}\n",
                "waybill.dev/paused": "true",
                "nginx.ingress.kubernetes.io/configuration-snippet": "deny all;",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
                {"manager": "traefik", "operation": "Update", "subresource": "status", "apiVersion": "v1",
                 "time": "2024-01-02T03:04:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}},
            ],
        })
    }

    #[test]
    fn metadata_keeps_what_is_read() {
        let object: MetadataOf<Secret> = serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": sent(),
        }))
        .unwrap();
        let expected: ObjectMeta = serde_json::from_value(json!({
            "name": "shop", "namespace": "web", "uid": "u-1", "resourceVersion": "7", "generateName": "s",
            "creationTimestamp": "2024-01-02T03:04:05Z",
            "labels": {"app": "web", "kubernetes.io/service-name": "web"},
            "annotations": {
                "kubernetes.io/ingress.class": "public",
                "traefik.ingress.kubernetes.io/with \"escapes\"": "\u{e9}\n",
                "waybill.dev/paused": "true",
                "nginx.ingress.kubernetes.io/configuration-snippet": "",
            },
            "managedFields": [{"manager": "traefik", "operation": "Update", "subresource": "status"}],
        }))
        .unwrap();
        assert_eq!(*object.meta(), expected);
        assert_eq!(Created::from(object.meta()), Created(1_704_164_645));
        assert!(MetadataOf::<Secret>::metadata_api());
        for empty in [json!({}), json!({"metadata": null}), json!({"metadata": {"annotations": null}})] {
            let object: MetadataOf<Secret> = serde_json::from_value(empty).unwrap();
            assert_eq!(*object.meta(), ObjectMeta::default());
            assert_eq!(Created::from(object.meta()), Created::UNKNOWN);
        }
    }

    #[test]
    fn every_annotation_has_to_be_text() {
        for annotation in ["waybill.dev/paused", "example.com/unread"] {
            let object = json!({"metadata": {"annotations": {annotation: 1}}});
            assert!(serde_json::from_value::<MetadataOf<Secret>>(object).is_err(), "{annotation}");
        }
    }
}
