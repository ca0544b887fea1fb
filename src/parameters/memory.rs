//! The last accepted parameters of every class, as one ConfigMap keeps them: `{leaseName}.classes` in the
//! operator's namespace. The leader writes it; everybody, `render` too, reads it.
//!
//! Its data has one key per class, the class's name, with `{"uid": …, "spec": …}` as JSON. An entry that
//! cannot be parsed, or whose spec is invalid, counts as absent. Another key lists the outputs of classes. An output that
//! no class uses any more is listed until it has been emptied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::check;
use super::resource::IngressClassParametersSpec;
use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{CLASSES_PART, MANAGED_BY_LABEL, PART_LABEL, WAYBILL};

/// The key of the outputs; no class can have this name.
pub const OUTPUTS: &str = "_outputs";

/// Maximum size of keys and values. Kubernetes accepts 1 MiB in a ConfigMap; the rest is for metadata.
pub const MAX_BYTES: usize = 1000 * 1024;

/// The stored settings of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptedParameters {
    /// The `metadata.uid` of the IngressClass, so that a class that was deleted and recreated while no replica ran
    /// starts afresh; `None` if it had none (in a manifest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    pub spec: IngressClassParametersSpec,
}

impl AcceptedParameters {
    /// Whether it belongs to the class with this uid. A class without one (in a manifest) is considered the same.
    pub fn is_of(&self, uid: Option<&str>) -> bool {
        match (self.uid.as_deref(), uid) {
            (Some(own), Some(uid)) => own == uid,
            _ => true,
        }
    }
}

/// The stored settings of all classes, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    entries: BTreeMap<Arc<str>, AcceptedParameters>,
    outputs: BTreeSet<OutputKey>,
}

/// The data of the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Class name to JSON.
    pub data: BTreeMap<String, String>,
    /// Classes for which there is no room: the largest ones, until the rest fits. They keep their current settings, but
    /// would have no routing after a restart with bad parameters.
    pub left_out: Vec<Arc<str>>,
}

/// The ConfigMap's name.
pub fn name(lease_name: &str) -> String {
    format!("{lease_name}.classes")
}

/// Whether a ConfigMap has our labels. One with the right name but without them is never touched.
pub fn is_ours(map: &ConfigMap) -> bool {
    let label = |key| map.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(PART_LABEL) == Some(CLASSES_PART) && label(MANAGED_BY_LABEL) == Some(WAYBILL)
}

/// The outputs that a ConfigMap lists; `None` if the list can't be read.
pub fn listed_outputs(map: &ConfigMap) -> Option<BTreeSet<OutputKey>> {
    let list = map.data.as_ref().and_then(|data| data.get(OUTPUTS));
    list.map_or_else(|| Some(BTreeSet::new()), |list| outputs(list))
}

impl Memory {
    /// Reads a ConfigMap. Also returns the unusable keys, sorted.
    pub fn decode(map: &ConfigMap) -> (Self, Vec<String>) {
        let mut memory = Self::default();
        let mut broken: Vec<String> = map.binary_data.iter().flatten().map(|(key, _)| key.clone()).collect();
        for (key, value) in map.data.iter().flatten() {
            if key == OUTPUTS {
                match outputs(value) {
                    Some(outputs) => memory.outputs = outputs,
                    None => broken.push(key.clone()),
                }
                continue;
            }
            match entry(value) {
                Some(entry) => {
                    memory.entries.insert(key.as_str().into(), entry);
                }
                None => broken.push(key.clone()),
            }
        }
        broken.sort_unstable();
        (memory, broken)
    }

    /// The stored settings of a class.
    pub fn get(&self, class: &str) -> Option<&AcceptedParameters> {
        self.entries.get(class)
    }

    /// Stores accepted settings. Returns whether that changed anything.
    pub fn remember(&mut self, class: &str, entry: AcceptedParameters) -> bool {
        if self.entries.get(class) == Some(&entry) {
            return false;
        }
        self.entries.insert(class.into(), entry);
        true
    }

    /// Forgets classes that are deleted or not ours. Returns whether there were any.
    pub fn retain(&mut self, is_ours: impl Fn(&str) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|class, _| is_ours(class));
        self.entries.len() != before
    }

    /// Every class with stored settings, sorted.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// Outputs that may contain routing of a class, including deleted classes.
    pub fn outputs(&self) -> &BTreeSet<OutputKey> {
        &self.outputs
    }

    /// Stores exactly these outputs. Returns whether that changed anything.
    pub fn set_outputs(&mut self, outputs: BTreeSet<OutputKey>) -> bool {
        let news = self.outputs != outputs;
        self.outputs = outputs;
        news
    }

    /// The ConfigMap's data, at most [`MAX_BYTES`].
    pub fn encode(&self) -> Encoded {
        let mut sized: Vec<(&Arc<str>, String)> = self
            .entries
            .iter()
            .filter_map(|(class, entry)| Some((class, serde_json::to_string(entry).ok()?)))
            .collect();
        // Small ones first, so that as few classes as possible are left out, and always the same ones.
        sized.sort_by(|a, b| (a.0.len() + a.1.len(), a.0).cmp(&(b.0.len() + b.1.len(), b.0)));
        let mut encoded = Encoded::default();
        let mut bytes = 0;
        if !self.outputs.is_empty()
            && let Ok(json) =
                serde_json::to_string(&self.outputs.iter().map(ToString::to_string).collect::<Vec<_>>())
        {
            bytes = OUTPUTS.len() + json.len();
            encoded.data.insert(OUTPUTS.to_owned(), json);
        }
        for (class, json) in sized {
            bytes += class.len() + json.len();
            if bytes <= MAX_BYTES {
                encoded.data.insert(class.to_string(), json);
            } else {
                encoded.left_out.push(Arc::clone(class));
            }
        }
        encoded.left_out.sort_unstable();
        encoded
    }

    /// Whether a ConfigMap contains exactly what [`Memory::encode`] returns, with our labels; otherwise it has to be
    /// restored.
    pub fn is_held_by(&self, map: &ConfigMap) -> bool {
        let data = map.data.as_ref();
        let encoded = self.encode().data;
        is_ours(map)
            && map.binary_data.as_ref().is_none_or(BTreeMap::is_empty)
            && data.map_or(encoded.is_empty(), |data| *data == encoded)
    }

    /// The ConfigMap to create, or to replace the one of this resourceVersion. `before` is the existing one: labels and
    /// annotations of others stay.
    pub fn config_map(&self, namespace: &str, lease_name: &str, before: Option<&ConfigMap>) -> ConfigMap {
        let held = before.map(|before| &before.metadata);
        let mut labels = held.and_then(|held| held.labels.clone()).unwrap_or_default();
        labels.insert(MANAGED_BY_LABEL.to_owned(), WAYBILL.to_owned());
        labels.insert(PART_LABEL.to_owned(), CLASSES_PART.to_owned());
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name(lease_name)),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                annotations: held.and_then(|held| held.annotations.clone()),
                resource_version: held.and_then(|held| held.resource_version.clone()),
                uid: held.and_then(|held| held.uid.clone()),
                ..ObjectMeta::default()
            },
            data: Some(self.encode().data),
            ..ConfigMap::default()
        }
    }
}

fn outputs(json: &str) -> Option<BTreeSet<OutputKey>> {
    let texts: Vec<String> = serde_json::from_str(json).ok()?;
    let label = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())
    };
    let output = |text: &String| {
        let (namespace, name) = text.split_once('/')?;
        (label(namespace) && label(name)).then(|| OutputKey::new(namespace, name))
    };
    texts.iter().map(output).collect()
}

/// Reads one entry. Its spec is checked like a user's, because an edit must not bypass the rules.
fn entry(json: &str) -> Option<AcceptedParameters> {
    let value: Value = serde_json::from_str(json).ok()?;
    let object = value.as_object()?;
    let uid = match object.get("uid") {
        None | Some(Value::Null) => None,
        Some(uid) => Some(uid.as_str()?.to_owned()),
    };
    Some(AcceptedParameters { uid, spec: check(object.get("spec")?).ok()? })
}

#[cfg(test)]
mod tests;
