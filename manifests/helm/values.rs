//! The schema of the Helm chart's values.

use serde_json::{Value, json};
use waybill::options;

/// The JSON schema.
pub fn schema() -> Value {
    let object = json!({ "type": "object" });
    let list = json!({ "type": "array" });
    let switch = json!({ "type": "boolean" });
    let text = json!({ "type": "string" });
    let labels = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let closed = |properties: Value| json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let mut options = options::schema::schema();
    if let Some(options) = options.as_object_mut() {
        options.remove("$schema");
    }
    let monitor = closed(json!({ "enabled": switch, "labels": labels, "tlsConfig": object }));
    let mut schema = closed(json!({
        "global": object,
        "replicas": { "type": "integer", "minimum": 1 },
        "options": options,
        "image": closed(json!({
            "repository": { "type": "string", "minLength": 1 },
            "tag": text,
            "digest": { "type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$" },
            "pullPolicy": { "enum": ["", "Always", "IfNotPresent", "Never"] },
            "pullSecrets": list,
        })),
        "resources": object,
        "podAnnotations": labels,
        "podLabels": labels,
        "nodeSelector": labels,
        "tolerations": list,
        "affinity": object,
        "priorityClassName": text,
        "extraVolumes": list,
        "extraVolumeMounts": list,
        "rbac": closed(json!({
            "scope": { "enum": ["cluster", "namespaces"] },
            "namespaceSelectors": switch,
            "aggregate": switch,
        })),
        "crds": closed(json!({ "install": switch })),
        "ingressClass": closed(json!({
            "enabled": switch,
            "name": { "type": "string", "minLength": 1 },
            "default": switch,
        })),
        "podMonitor": monitor,
        "serviceMonitor": monitor,
        "alerts": closed(json!({ "enabled": switch, "labels": labels, "runbookBase": text })),
        "dashboard": closed(json!({ "enabled": switch })),
        "networkPolicy": closed(json!({
            "enabled": switch,
            "apiServerPorts": { "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": 65535 } },
            "extraEgress": list,
        })),
        "admission": closed(json!({
            "enabled": switch,
            "deny": switch,
            "classes": { "type": "array", "items": { "type": "string", "pattern": "^[a-z0-9.-]+$" } },
            "classAnnotations": { "type": "array", "items": { "type": "string", "pattern": "^[^'\\\\]*$" } },
        })),
        "proxies": closed(json!({
            "enabled": switch,
            "replicas": { "type": "integer", "minimum": 1 },
            "image": closed(json!({
                "repository": { "type": "string", "minLength": 1 },
                "tag": { "type": "string", "minLength": 1 },
            })),
            "args": { "type": "array", "items": { "type": "string" } },
            "resources": object,
            "agent": closed(json!({
                "resources": object,
                "volumeSizeLimit": { "type": "string", "minLength": 1 },
            })),
            "service": closed(json!({
                "type": { "enum": ["LoadBalancer", "NodePort", "ClusterIP"] },
                "annotations": labels,
            })),
            "nodeSelector": labels,
            "tolerations": list,
            "affinity": object,
            "priorityClassName": text,
        })),
    }));
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema
}
