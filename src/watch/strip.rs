//! Cuts objects down to the fields that somebody reads, offline and live alike: memory is proportional to the
//! cluster, and an update that leaves every field that is read as it was must look like no update at all.
//!
//! Identity stays everywhere: name, namespace, uid (Events name it) and the time of creation (the older of two
//! claimants keeps a name). A resourceVersion goes, since it changes with every heartbeat.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::translate::pause::PAUSED_ANNOTATION;

/// What every annotation of Traefik's begins with.
pub const ANNOTATION_PREFIX: &str = "traefik.ingress.kubernetes.io/";
/// The annotation that names a class where `spec.ingressClassName` does not.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// The label by which an EndpointSlice says whose it is.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Keeps an Ingress's annotations of ours, its spec without `tls[].hosts`, the addresses in its status, and who
/// owns the status (names of managers, not the fields themselves).
pub fn strip_ingress(ingress: &mut Ingress) {
    let owners = status_owners(ingress.metadata.managed_fields.take());
    strip_meta(&mut ingress.metadata, |key| key == CLASS_ANNOTATION || key.starts_with(ANNOTATION_PREFIX));
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

/// Keeps a Service's annotations of ours, ports, type and addresses; of its status the load balancer's.
pub fn strip_service(service: &mut Service) {
    strip_meta(&mut service.metadata, |key| key.starts_with(ANNOTATION_PREFIX));
    service.metadata.labels = None;
    if let Some(spec) = service.spec.take() {
        let mut ports = spec.ports;
        for port in ports.iter_mut().flatten() {
            port.app_protocol = None;
            port.target_port = None;
        }
        if let Some(ports) = ports.as_mut() {
            ports.shrink_to_fit();
        }
        service.spec = Some(ServiceSpec {
            ports,
            type_: spec.type_,
            cluster_ip: spec.cluster_ip,
            external_name: spec.external_name,
            external_ips: spec.external_ips,
            ..ServiceSpec::default()
        });
    }
    if let Some(status) = service.status.as_mut() {
        status.conditions = None;
        let addresses = status.load_balancer.as_ref().and_then(|balancer| balancer.ingress.as_ref());
        if addresses.is_none_or(Vec::is_empty) {
            service.status = None;
        }
    }
}

/// Keeps an EndpointSlice's Service, ports, addresses and their conditions `serving` and `terminating`.
pub fn strip_endpoint_slice(slice: &mut EndpointSlice) {
    strip_meta(&mut slice.metadata, |_| false);
    slice.metadata.uid = None;
    if let Some(labels) = slice.metadata.labels.as_mut() {
        labels.retain(|key, _| key == SERVICE_NAME_LABEL);
    }
    for port in slice.ports.iter_mut().flatten() {
        port.app_protocol = None;
    }
    if let Some(ports) = slice.ports.as_mut() {
        ports.shrink_to_fit();
    }
    for endpoint in &mut slice.endpoints {
        endpoint.deprecated_topology = None;
        endpoint.hints = None;
        endpoint.hostname = None;
        endpoint.node_name = None;
        endpoint.target_ref = None;
        endpoint.zone = None;
        endpoint.addresses.shrink_to_fit();
        if let Some(conditions) = endpoint.conditions.as_mut() {
            conditions.ready = None;
            if conditions.serving.is_none() && conditions.terminating.is_none() {
                endpoint.conditions = None;
            }
        }
    }
    slice.endpoints.shrink_to_fit();
}

/// The labels of a Namespace, all that is read of it.
pub fn namespace_labels(namespace: &mut Namespace) -> BTreeMap<String, String> {
    namespace.metadata.labels.take().unwrap_or_default()
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
                },
                "managedFields": [{"manager": "traefik", "operation": "Update", "subresource": "status"}],
            },
            "spec": {"tls": [{"secretName": "tls"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        assert_eq!(ingress, expected);
    }

    #[test]
    fn a_service_keeps_ports_type_addresses_and_the_balancers_status() {
        let mut service: Service = parse(json!({
            "metadata": {
                "name": "web", "namespace": "web", "resourceVersion": "9", "labels": {"app": "web"},
                "annotations": {"prometheus.io/scrape": "true",
                                "traefik.ingress.kubernetes.io/service.nativelb": "true"},
            },
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "externalIPs": ["192.0.2.9"], "selector": {"app": "web"}, "sessionAffinity": "None",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080,
                           "protocol": "TCP", "appProtocol": "http"}],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]},
                       "conditions": [{"type": "x", "status": "True", "reason": "r", "message": "m",
                                       "lastTransitionTime": "2024-01-02T03:04:05Z"}]},
        }));
        strip_service(&mut service);
        let expected: Service = parse(json!({
            "metadata": {"name": "web", "namespace": "web",
                         "annotations": {"traefik.ingress.kubernetes.io/service.nativelb": "true"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.9"],
                     "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}},
        }));
        assert_eq!(service, expected);
        let mut pending: Service = parse(json!({"metadata": {"name": "x"}, "status": {"loadBalancer": {}}}));
        strip_service(&mut pending);
        assert_eq!(pending.status, None);
    }

    #[test]
    fn a_slice_keeps_addresses_and_the_two_conditions_that_are_read() {
        let mut slice: EndpointSlice = parse(json!({
            "metadata": {"name": "web-1", "namespace": "web", "uid": "u", "resourceVersion": "1",
                         "labels": {"kubernetes.io/service-name": "web", "app": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
            "endpoints": [{
                "addresses": ["10.0.0.1"], "nodeName": "n", "zone": "z", "hostname": "h",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hints": {"forZones": [{"name": "z"}]}, "targetRef": {"kind": "Pod", "name": "p"},
            }, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}],
        }));
        strip_endpoint_slice(&mut slice);
        let expected: EndpointSlice = parse(json!({
            "metadata": {"name": "web-1", "namespace": "web", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"serving": true, "terminating": false}},
                          {"addresses": ["10.0.0.2"]}],
        }));
        assert_eq!(slice, expected);
    }
}
