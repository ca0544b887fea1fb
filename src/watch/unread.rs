//! The fields of each watched kind that nobody reads: what is left out as it is decoded.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::core::{DynamicObject, PartialObjectMeta};

use crate::watch::decode::{Fields, Sparse};

/// A copy of the whole object, written by kubectl.
static ANNOTATIONS: Fields =
    Fields { skip: &["kubectl.kubernetes.io/last-applied-configuration"], below: &[] };

/// Metadata with labels.
static LABELLED: Fields = Fields {
    skip: &["managedFields", "ownerReferences", "finalizers", "selfLink", "generateName"],
    below: &[("annotations", &ANNOTATIONS)],
};

/// Metadata without labels.
static METADATA: Fields = Fields {
    skip: &["managedFields", "ownerReferences", "finalizers", "selfLink", "generateName", "labels"],
    below: &[("annotations", &ANNOTATIONS)],
};

/// Who owns the status is told by name and way of writing.
static MANAGED: Fields = Fields { skip: &["fieldsV1", "fieldsType", "time", "apiVersion"], below: &[] };

impl Sparse for Ingress {
    const LEFT_OUT: &'static Fields = &Fields {
        skip: &[],
        below: &[
            (
                "metadata",
                &Fields {
                    skip: &["ownerReferences", "finalizers", "selfLink", "generateName", "labels"],
                    below: &[("managedFields", &MANAGED), ("annotations", &ANNOTATIONS)],
                },
            ),
            ("spec", &Fields { skip: &[], below: &[("tls", &Fields { skip: &["hosts"], below: &[] })] }),
        ],
    };
}

impl Sparse for IngressClass {
    const LEFT_OUT: &'static Fields = &Fields { skip: &[], below: &[("metadata", &METADATA)] };
}

impl Sparse for Service {
    const LEFT_OUT: &'static Fields = &Fields {
        skip: &[],
        below: &[
            ("metadata", &METADATA),
            (
                "spec",
                &Fields {
                    skip: &[
                        "allocateLoadBalancerNodePorts",
                        "clusterIPs",
                        "externalTrafficPolicy",
                        "healthCheckNodePort",
                        "internalTrafficPolicy",
                        "ipFamilies",
                        "ipFamilyPolicy",
                        "loadBalancerClass",
                        "loadBalancerIP",
                        "loadBalancerSourceRanges",
                        "publishNotReadyAddresses",
                        "selector",
                        "sessionAffinity",
                        "sessionAffinityConfig",
                        "trafficDistribution",
                    ],
                    below: &[("ports", &Fields { skip: &["appProtocol", "targetPort"], below: &[] })],
                },
            ),
            ("status", &Fields { skip: &["conditions"], below: &[] }),
        ],
    };
}

impl Sparse for EndpointSlice {
    const LEFT_OUT: &'static Fields = &Fields {
        skip: &[],
        below: &[
            ("metadata", &LABELLED),
            ("ports", &Fields { skip: &["appProtocol"], below: &[] }),
            (
                "endpoints",
                &Fields {
                    skip: &["deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "zone"],
                    below: &[],
                },
            ),
        ],
    };
}

impl Sparse for Secret {
    const LEFT_OUT: &'static Fields = &Fields { skip: &[], below: &[("metadata", &LABELLED)] };
}

impl<K> Sparse for PartialObjectMeta<K> {
    const LEFT_OUT: &'static Fields = &Fields { skip: &[], below: &[("metadata", &LABELLED)] };
}

impl Sparse for ConfigMap {
    const LEFT_OUT: &'static Fields = &Fields { skip: &["binaryData"], below: &[("metadata", &LABELLED)] };
}

impl Sparse for Namespace {
    const LEFT_OUT: &'static Fields =
        &Fields { skip: &["spec", "status"], below: &[("metadata", &LABELLED)] };
}

impl Sparse for Node {
    const LEFT_OUT: &'static Fields = &Fields {
        skip: &["spec"],
        below: &[
            (
                "metadata",
                &Fields { skip: &["managedFields", "ownerReferences", "labels", "annotations"], below: &[] },
            ),
            (
                "status",
                &Fields {
                    skip: &[
                        "allocatable",
                        "capacity",
                        "conditions",
                        "config",
                        "daemonEndpoints",
                        "features",
                        "images",
                        "nodeInfo",
                        "phase",
                        "runtimeHandlers",
                        "volumesAttached",
                        "volumesInUse",
                    ],
                    below: &[],
                },
            ),
        ],
    };
}

/// IngressClassParameters: their spec is read as it is.
impl Sparse for DynamicObject {
    const LEFT_OUT: &'static Fields = &Fields { skip: &[], below: &[("metadata", &LABELLED)] };
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::lean;
    use crate::watch::decode::Lean;
    use crate::watch::nodes::NodeAddresses;
    use crate::watch::strip;

    /// The object decoded whole and decoded without what nobody reads, from text as it comes from an API server.
    fn both<K: DeserializeOwned + Sparse>(object: Value) -> (K, K) {
        let text = object.to_string();
        let lean: Lean<K> = serde_json::from_str(&text).unwrap();
        (serde_json::from_str(&text).unwrap(), lean.0)
    }

    fn metadata() -> Value {
        json!({
            "name": "shop", "namespace": "web", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2024-01-02T03:04:05Z", "generateName": "s", "finalizers": ["f"],
            "labels": {"kubernetes.io/service-name": "web", "owner": "helm"},
            "annotations": {
                "kubernetes.io/ingress.class": "public",
                "traefik.ingress.kubernetes.io/router.tls": "true",
                "traefik.ingress.kubernetes.io/with \"escapes\"": "\u{e9}\n",
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
    fn an_ingress_is_the_same_when_it_is_stripped() {
        let (mut whole, mut lean) = both::<Ingress>(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata(),
            "spec": {"ingressClassName": "public", "tls": [{"hosts": ["a.example"], "secretName": "tls"}],
                     "rules": [{"host": "a.example", "http": {"paths": [
                        {"path": "/", "pathType": "Prefix",
                         "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        assert!(lean.metadata.labels.is_none() && whole.metadata.labels.is_some());
        assert_eq!(lean.metadata.managed_fields.as_ref().unwrap()[1].fields_v1, None);
        strip::strip_ingress(&mut whole);
        strip::strip_ingress(&mut lean);
        assert_eq!(whole, lean);
        assert!(lean.metadata.managed_fields.is_some());
    }

    #[test]
    fn services_and_slices_lose_nothing_that_is_read() {
        let (whole, lean) = both::<Service>(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(),
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "externalIPs": ["192.0.2.9"], "externalName": "x", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080, "protocol": "TCP",
                           "appProtocol": "http"}],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}, "conditions": []},
        }));
        assert_eq!(lean.spec.as_ref().unwrap().selector, None);
        assert_eq!(lean::Service::of(whole), lean::Service::of(lean));
        let (whole, lean) = both::<EndpointSlice>(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(),
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": ["10.0.0.1"], "nodeName": "n", "zone": "z", "hostname": "h",
                "conditions": {"ready": true, "serving": true, "terminating": true},
                "hints": {"forZones": [{"name": "z"}]}, "targetRef": {"kind": "Pod", "name": "p"},
            }],
        }));
        assert_eq!(lean.endpoints[0].target_ref, None);
        assert_eq!(lean::Slice::of(whole), lean::Slice::of(lean));
    }

    #[test]
    fn other_kinds_lose_nothing_that_is_read() {
        let (whole, lean) = both::<IngressClass>(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata(),
            "spec": {"controller": "x", "parameters": {"kind": "K", "name": "n"}},
        }));
        let stripped = [whole, lean].map(|mut class| {
            strip::strip_ingress_class(&mut class);
            class
        });
        assert_eq!(stripped[0], stripped[1]);
        let (whole, lean) = both::<Secret>(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(), "type": "kubernetes.io/tls",
            "data": {"tls.crt": "YQ==", "tls.key": "Yg=="},
        }));
        assert_eq!((&whole.data, &whole.metadata.labels), (&lean.data, &lean.metadata.labels));
        assert_eq!(whole.metadata.resource_version, lean.metadata.resource_version);
        let (whole, lean) = both::<v1::ConfigMap>(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(), "data": {"a": "b"},
            "binaryData": {"x": "YQ=="},
        }));
        let stripped = [whole, lean].map(|mut map| {
            strip::strip_class_memory(&mut map);
            map
        });
        assert_eq!(stripped[0], stripped[1]);
        let (whole, lean) = both::<Namespace>(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": metadata(), "spec": {"finalizers": ["kubernetes"]},
        }));
        assert_eq!(strip::namespace_labels(whole), strip::namespace_labels(lean));
        let (whole, lean) = both::<Node>(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": metadata(), "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                       "images": [{"names": ["a"], "sizeBytes": 1}]},
        }));
        assert_eq!(NodeAddresses::of(&whole), NodeAddresses::of(&lean));
        assert_eq!(lean.status.as_ref().unwrap().images, None);
    }

    #[test]
    fn what_is_read_as_it_is_stays_as_it_is() {
        let spec = json!({"managedFields": [1], "metadata": {"labels": null}, "selector": 1.5, "x": [[{"labels": {}}]]});
        let (whole, lean) = both::<DynamicObject>(json!({
            "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters", "metadata": metadata(),
            "spec": spec, "status": {"conditions": []},
        }));
        assert_eq!(whole.data, lean.data);
        assert_eq!(whole.types, lean.types);
        assert_eq!(lean.metadata.managed_fields, None);
        assert_eq!(
            (whole.metadata.generation, whole.metadata.uid),
            (lean.metadata.generation, lean.metadata.uid)
        );
        let (whole, lean) = both::<PartialObjectMeta<Secret>>(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata(),
        }));
        assert_eq!(lean.metadata.managed_fields, None);
        assert_eq!(whole.metadata.labels, lean.metadata.labels);
    }
}
