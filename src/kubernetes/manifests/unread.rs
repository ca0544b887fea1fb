//! Fields that decide nothing, so the types leave them out, and that `waybill lint` reports.

use serde_json::{Map, Value};

use super::namespace_or_default;
use crate::kubernetes::well_known;

/// The parts of an Ingress or a Service that are meant for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadFields {
    /// Keys of annotations for other controllers that do not have the controller's prefix
    /// ([`well_known::CONTROLLERS`]).
    pub annotations: Vec<String>,
    /// The hosts of each entry of `spec.tls`.
    pub tls_hosts: Vec<Vec<String>>,
}

impl UnreadFields {
    /// The parts of an object, with its `Kind namespace/name`; `None` for other kinds.
    pub(super) fn of(kind: &str, object: &Map<String, Value>) -> Option<(String, Self)> {
        if !["Ingress", "Service"].contains(&kind) {
            return None;
        }
        let metadata = object.get("metadata")?;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str);
        let title = format!("{kind} {}/{}", namespace_or_default(text("namespace")), text("name")?);
        let annotations = metadata.get("annotations").and_then(Value::as_object);
        let keys = annotations.into_iter().flat_map(Map::keys);
        let entries = object.get("spec").and_then(|spec| spec.get("tls")).and_then(Value::as_array);
        let hosts = |entry: &Value| {
            let hosts = entry.get("hosts").and_then(Value::as_array).into_iter().flatten();
            hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect()
        };
        let fields = Self {
            annotations: keys.filter(|key| well_known::is_others(key)).cloned().collect(),
            tls_hosts: entries.into_iter().flatten().map(hosts).collect(),
        };
        Some((title, fields))
    }
}
