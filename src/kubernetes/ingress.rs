//! Ingresses and IngressClasses.

use k8s_openapi::api::networking::v1::{self, IngressBackend, IngressClassSpec, IngressRule, IngressStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::metadata::metadata;

/// The used fields of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[resource(inherit = "v1::Ingress")]
pub struct Ingress {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<IngressSpec>,
    pub status: Option<IngressStatus>,
}

/// The used fields of an Ingress's spec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    pub default_backend: Option<IngressBackend>,
    pub ingress_class_name: Option<String>,
    pub rules: Option<Vec<IngressRule>>,
    pub tls: Option<Vec<IngressTLS>>,
}

/// An entry of `spec.tls`. Its hosts are not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressTLS {
    pub secret_name: Option<String>,
}

impl Ingress {
    /// Drops what is needed only for decoding: the version, the labels, and spare capacity of lists.
    pub fn strip(&mut self) {
        strip(&mut self.metadata);
        let Some(spec) = self.spec.as_mut() else { return };
        if let Some(tls) = spec.tls.as_mut() {
            tls.shrink_to_fit();
        }
        if let Some(rules) = spec.rules.as_mut() {
            for http in rules.iter_mut().filter_map(|rule| rule.http.as_mut()) {
                http.paths.shrink_to_fit();
            }
            rules.shrink_to_fit();
        }
    }
}

/// The used fields of an IngressClass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[resource(inherit = "v1::IngressClass")]
pub struct IngressClass {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<IngressClassSpec>,
}

impl IngressClass {
    /// Like [`Ingress::strip`].
    pub fn strip(&mut self) {
        strip(&mut self.metadata);
    }
}

/// A version that changes with every heartbeat must not make an update out of an unchanged object.
fn strip(metadata: &mut ObjectMeta) {
    metadata.resource_version = None;
    metadata.generate_name = None;
    metadata.labels = None;
    metadata.annotations.take_if(|annotations| annotations.is_empty());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metadata::tests::sent;
    use super::*;

    #[test]
    fn an_ingress_keeps_what_is_read() {
        let rules = json!([{"host": "a.example", "http": {"paths": [{
            "path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "web", "port": {"name": "http"}}},
        }, {
            "pathType": "Exact", "backend": {"resource": {"kind": "Bucket", "name": "b"}},
        }]}}]);
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80}]}]}});
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let mut ingress: Ingress = serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": sent(),
            "spec": {"ingressClassName": "public", "defaultBackend": backend, "rules": rules,
                     "tls": [{"hosts": ["a.example"], "secretName": "tls"}, {}]},
            "status": status,
        }))
        .unwrap();
        let spec = ingress.spec.clone().unwrap();
        assert_eq!(spec.ingress_class_name.as_deref(), Some("public"));
        assert_eq!(serde_json::to_value(&spec.default_backend).unwrap(), backend);
        assert_eq!(serde_json::to_value(&spec.rules).unwrap(), rules);
        let secrets: Vec<_> = spec.tls.iter().flatten().map(|tls| tls.secret_name.as_deref()).collect();
        assert_eq!(secrets, [Some("tls"), None]);
        assert_eq!(ingress.metadata.resource_version.as_deref(), Some("7"));
        ingress.strip();
        assert_eq!(ingress.spec.as_ref(), Some(&spec));
        let metadata = &ingress.metadata;
        assert_eq!((&metadata.resource_version, &metadata.labels), (&None, &None));
        assert_eq!((metadata.name.as_deref(), metadata.uid.as_deref()), (Some("shop"), Some("u-1")));
        assert_eq!(metadata.annotations.as_ref().map(|annotations| annotations.len()), Some(4));
        assert!(metadata.creation_timestamp.is_some() && metadata.managed_fields.is_some());
        let balancer = ingress.status.unwrap().load_balancer.unwrap().ingress.unwrap();
        assert_eq!(balancer[0].ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(balancer[0].ports.as_ref().unwrap()[0].port, 80);
    }

    #[test]
    fn a_class_keeps_what_is_read() {
        let spec = json!({"controller": "x", "parameters": {"kind": "K", "name": "n", "apiGroup": "g"}});
        let mut class: IngressClass = serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": sent(), "spec": spec,
        }))
        .unwrap();
        class.strip();
        assert_eq!(serde_json::to_value(&class.spec).unwrap(), spec);
        assert_eq!(class.metadata.annotations.unwrap()["waybill.dev/paused"], "true");
        assert_eq!(class.metadata.uid.as_deref(), Some("u-1"));
    }
}
