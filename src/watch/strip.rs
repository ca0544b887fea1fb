//! Cuts objects down to the fields that somebody reads, offline and live alike: memory is proportional to the
//! cluster, and an update that leaves every field that is read as it was must look like no update at all.
//!
//! Services and EndpointSlices become types of their own ([`crate::kubernetes::lean`]).
//!
//! Identity stays everywhere: name, namespace, uid (Events name it) and the time of creation (the older of two
//! claimants keeps a name). A resourceVersion goes, since it changes with every heartbeat.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::kubernetes::well_known;
use crate::translate::pause::PAUSED_ANNOTATION;

/// Keeps an Ingress's annotations that are read (of foreign ones the keys), its spec without `tls[].hosts`, the addresses in its status, and who
/// owns the status (names of managers, not the fields themselves).
pub fn strip_ingress(ingress: &mut Ingress) {
    let owners = status_owners(ingress.metadata.managed_fields.take());
    strip_meta(&mut ingress.metadata, well_known::is_kept);
    for (key, value) in ingress.metadata.annotations.iter_mut().flatten() {
        if well_known::is_foreign(key) {
            *value = String::new();
        }
    }
    ingress.metadata.labels = None;
    ingress.metadata.managed_fields = owners;
    let Some(spec) = ingress.spec.as_mut() else { return };
    if let Some(tls) = spec.tls.as_mut() {
        for entry in tls.iter_mut() {
            entry.hosts = None;
        }
        tls.shrink_to_fit();
    }
    // Decoding leaves room for four in each list.
    if let Some(rules) = spec.rules.as_mut() {
        for rule in rules.iter_mut() {
            if let Some(http) = rule.http.as_mut() {
                http.paths.shrink_to_fit();
            }
        }
        rules.shrink_to_fit();
    }
}

/// The managers that own something of an Ingress's status, by name and way of writing. A status may only be
/// withdrawn by one who owns it.
fn status_owners(fields: Option<Vec<ManagedFieldsEntry>>) -> Option<Vec<ManagedFieldsEntry>> {
    let mut owners: Vec<ManagedFieldsEntry> = fields?
        .into_iter()
        .filter(|entry| entry.subresource.as_deref() == Some("status"))
        .map(|entry| ManagedFieldsEntry {
            manager: entry.manager,
            operation: entry.operation,
            subresource: entry.subresource,
            ..ManagedFieldsEntry::default()
        })
        .collect();
    owners.shrink_to_fit();
    (!owners.is_empty()).then_some(owners)
}

/// Keeps an IngressClass's spec, and whether it is paused.
pub fn strip_ingress_class(class: &mut IngressClass) {
    strip_meta(&mut class.metadata, |key| key == PAUSED_ANNOTATION);
    class.metadata.labels = None;
}

/// Keeps a ConfigMap's text and labels.
pub fn strip_class_memory(map: &mut ConfigMap) {
    strip_meta(&mut map.metadata, |_| false);
    map.binary_data = None;
}

/// The labels of a Namespace, all that is read of it.
pub fn namespace_labels(namespace: Namespace) -> BTreeMap<String, String> {
    namespace.metadata.labels.unwrap_or_default()
}

/// Drops what nobody reads of any object's metadata, and the annotations that `keep` does not want.
fn strip_meta(meta: &mut ObjectMeta, keep: impl Fn(&str) -> bool) {
    meta.deletion_grace_period_seconds = None;
    meta.deletion_timestamp = None;
    meta.finalizers = None;
    meta.generate_name = None;
    meta.generation = None;
    meta.managed_fields = None;
    meta.owner_references = None;
    meta.resource_version = None;
    meta.self_link = None;
    if let Some(annotations) = meta.annotations.as_mut() {
        annotations.retain(|key, _| keep(key));
        if annotations.is_empty() {
            meta.annotations = None;
        }
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
    fn an_ingress_keeps_what_is_read_and_loses_the_rest() {
        let mut ingress: Ingress = parse(json!({
            "metadata": {
                "name": "shop", "namespace": "web", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2024-01-02T03:04:05Z",
                "labels": {"team": "web"},
                "annotations": {
                    "kubernetes.io/ingress.class": "public",
                    "traefik.ingress.kubernetes.io/router.tls": "true",
                    "nginx.ingress.kubernetes.io/configuration-snippet": "deny all;",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                },
                "managedFields": [
                    {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
                    {"manager": "traefik", "operation": "Update", "subresource": "status",
                     "time": "2024-01-02T03:04:05Z", "fieldsV1": {"f:status": {}}},
                ],
            },
            "spec": {"tls": [{"hosts": ["a.example"], "secretName": "tls"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        strip_ingress(&mut ingress);
        let expected: Ingress = parse(json!({
            "metadata": {
                "name": "shop", "namespace": "web", "uid": "u", "creationTimestamp": "2024-01-02T03:04:05Z",
                "annotations": {
                    "kubernetes.io/ingress.class": "public",
                    "traefik.ingress.kubernetes.io/router.tls": "true",
                    "nginx.ingress.kubernetes.io/configuration-snippet": "",
                },
                "managedFields": [{"manager": "traefik", "operation": "Update", "subresource": "status"}],
            },
            "spec": {"tls": [{"secretName": "tls"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        assert_eq!(ingress, expected);
    }
}
