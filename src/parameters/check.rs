//! Checks the spec of parameters, which may never have been checked by an API server.
//!
//! Manifests are read offline, and an API server may hold an older definition than ours, so every rule of
//! [`super::resource`] is checked here again. As an API server would, `null` counts as left out and unknown fields
//! are not looked at.

mod text;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::{Map, Value};

use super::resource::{
    BROKEN_BACKENDS, ClassOutput, IngressClassParametersSpec, IngressEndpoint, MAX_ENTRIES, MAX_REQUIREMENTS,
    Namespaces, OPERATORS, PRECEDENCES, RULE_SYNTAXES,
};
use crate::translate::problem::Problem;
use text::TextRule;

/// Faults of one object that are listed; more are only counted.
pub const MAX_FAULTS: usize = 16;

/// Maximum size of a spec as JSON, since the last accepted spec of every class is stored in a single ConfigMap of at
/// most 1 MiB.
pub const MAX_SPEC_BYTES: usize = 32 * 1024;

/// A fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFault {
    /// Path of the field from the object's root, e.g. `spec.output.name`.
    pub field: String,
    pub value: String,
    pub remedy: String,
}

/// The faults of a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct SpecFaults {
    /// The first ones, in the order of the fields; at most [`MAX_FAULTS`].
    pub shown: Vec<SpecFault>,
    pub more: usize,
    /// The only fault is the size ([`MAX_SPEC_BYTES`]).
    pub too_large: bool,
}

impl SpecFaults {
    /// One line with all faults.
    pub fn summary(&self) -> String {
        const SAID: usize = 4;
        let mut said: Vec<String> = self.shown.iter().take(SAID).map(SpecFault::to_string).collect();
        let more = self.shown.len().saturating_sub(SAID) + self.more;
        if more > 0 {
            said.push(format!("and {more} more"));
        }
        said.join("; ")
    }
}

impl std::fmt::Display for SpecFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}: {}", self.field, self.value, self.remedy)
    }
}

/// Checks a spec against every rule.
///
/// # Errors
///
/// All faults, bounded, each with its field, value and remedy.
pub fn check(spec: &Value) -> Result<IngressClassParametersSpec, SpecFaults> {
    let mut checker = Checker::default();
    let checked = checker.spec(spec);
    if !checker.faults.shown.is_empty() {
        return Err(checker.faults);
    }
    let size = serde_json::to_vec(&checked).map_or(usize::MAX, |json| json.len());
    if size > MAX_SPEC_BYTES {
        checker.fault(
            "spec",
            &Value::String(format!("{size} bytes")),
            format!("keep all settings together under {MAX_SPEC_BYTES} bytes; shorten the lists"),
        );
        checker.faults.too_large = true;
        return Err(checker.faults);
    }
    Ok(checked)
}

#[derive(Default)]
struct Checker {
    faults: SpecFaults,
}

impl Checker {
    fn fault(&mut self, path: &str, value: &Value, remedy: impl Into<String>) {
        if self.faults.shown.len() == MAX_FAULTS {
            self.faults.more += 1;
            return;
        }
        let value = match value {
            Value::String(text) => Problem::shown(text),
            Value::Array(items) => format!("a list of {}", items.len()),
            Value::Object(_) => "a group of fields".to_owned(),
            other => other.to_string(),
        };
        self.faults.shown.push(SpecFault { field: path.to_owned(), value, remedy: remedy.into() });
    }

    fn spec(&mut self, value: &Value) -> IngressClassParametersSpec {
        let Some(spec) = self.object("spec", value) else { return IngressClassParametersSpec::default() };
        let ingress_endpoint = self.member(spec, "ingressEndpoint", Self::endpoint);
        let report_node_internal_ips = self.member(spec, "reportNodeInternalIPs", Self::boolean);
        if ingress_endpoint.is_some() && report_node_internal_ips == Some(true) {
            self.fault(
                "spec.reportNodeInternalIPs",
                &Value::Bool(true),
                "leave out either this or ingressEndpoint",
            );
        }
        let references = || list(MAX_ENTRIES, text(TextRule::Reference));
        IngressClassParametersSpec {
            output: self.member(spec, "output", Self::output),
            ingress_endpoint,
            report_node_internal_ips,
            allow_empty_services: self.member(spec, "allowEmptyServices", Self::boolean),
            allow_external_name_services: self.member(spec, "allowExternalNameServices", Self::boolean),
            allow_cross_namespace: self.member(spec, "allowCrossNamespace", Self::boolean),
            cross_provider_namespaces: self.member(
                spec,
                "crossProviderNamespaces",
                list(MAX_ENTRIES, text(TextRule::DnsLabel)),
            ),
            native_lb_by_default: self.member(spec, "nativeLBByDefault", Self::boolean),
            strict_prefix_matching: self.member(spec, "strictPrefixMatching", Self::boolean),
            default_rule_syntax: self.member(spec, "defaultRuleSyntax", choice(RULE_SYNTAXES)),
            precedence: self.member(spec, "precedence", choice(PRECEDENCES)),
            broken_backends: self.member(spec, "brokenBackends", choice(BROKEN_BACKENDS)),
            default_entry_points: self.member(spec, "defaultEntryPoints", references()),
            default_middlewares: self.member(spec, "defaultMiddlewares", references()),
            namespaces: self.member(spec, "namespaces", Self::namespaces),
        }
    }

    fn output(&mut self, path: &str, value: &Value) -> Option<ClassOutput> {
        let output = self.object(path, value)?;
        Some(ClassOutput {
            name: self.member(output, "name", text(TextRule::DnsLabel)),
            namespace: self.member(output, "namespace", text(TextRule::DnsLabel)),
        })
    }

    fn endpoint(&mut self, path: &str, value: &Value) -> Option<IngressEndpoint> {
        let endpoint = self.object(path, value)?;
        let address = endpoint.get("ip").or(endpoint.get("hostname")).is_some();
        match (endpoint.get("publishedService").is_some(), address) {
            (false, false) => self.fault(path, value, "give ip, hostname or publishedService"),
            (true, true) => self.fault(path, value, "leave out either publishedService or ip and hostname"),
            _ => {}
        }
        Some(IngressEndpoint {
            ip: self.member(endpoint, "ip", text(TextRule::Ip)),
            hostname: self.member(endpoint, "hostname", text(TextRule::Hostname)),
            published_service: self.member(endpoint, "publishedService", text(TextRule::Service)),
        })
    }

    fn namespaces(&mut self, path: &str, value: &Value) -> Option<Namespaces> {
        let namespaces = self.object(path, value)?;
        if namespaces.get("names").is_some() == namespaces.get("selector").is_some() {
            self.fault(path, value, "give either names or selector");
        }
        Some(Namespaces {
            names: self.member(namespaces, "names", list(MAX_ENTRIES, text(TextRule::DnsLabel))),
            selector: self.member(namespaces, "selector", Self::selector),
        })
    }

    fn selector(&mut self, path: &str, value: &Value) -> Option<LabelSelector> {
        let selector = self.object(path, value)?;
        Some(LabelSelector {
            match_labels: self.member(selector, "matchLabels", Self::labels),
            match_expressions: self.member(
                selector,
                "matchExpressions",
                list(MAX_REQUIREMENTS, Self::requirement),
            ),
        })
    }

    fn labels(&mut self, path: &str, value: &Value) -> Option<BTreeMap<String, String>> {
        let labels = self.object(path, value)?.fields;
        if labels.len() > MAX_REQUIREMENTS {
            self.fault(path, value, format!("name at most {MAX_REQUIREMENTS} labels"));
            return None;
        }
        let mut checked = BTreeMap::new();
        for (key, value) in labels.iter().filter(|(_, value)| !value.is_null()) {
            if let Err(remedy) = TextRule::LabelKey.check(key) {
                self.fault(path, &Value::String(key.clone()), remedy);
            } else if let Some(text) = text(TextRule::LabelValue)(self, &format!("{path}[{key}]"), value) {
                checked.insert(key.clone(), text);
            }
        }
        Some(checked)
    }

    fn requirement(&mut self, path: &str, value: &Value) -> Option<LabelSelectorRequirement> {
        let requirement = self.object(path, value)?;
        let key = self.required(requirement, "key", text(TextRule::LabelKey));
        let operators = OPERATORS.map(|operator| (operator, operator));
        let operator = self.required(requirement, "operator", choice(&operators));
        let values = self.member(requirement, "values", list(MAX_ENTRIES, text(TextRule::LabelValue)));
        let (key, operator) = (key?, operator?);
        let takes_values = matches!(operator, "In" | "NotIn");
        let given =
            requirement.get("values").and_then(Value::as_array).is_some_and(|values| !values.is_empty());
        if takes_values != given {
            self.fault(path, value, "give values for In and NotIn, and none for Exists and DoesNotExist");
        }
        Some(LabelSelectorRequirement { key, operator: operator.to_owned(), values })
    }

    fn object<'a>(&mut self, path: &'a str, value: &'a Value) -> Option<Object<'a>> {
        let fields = value.as_object();
        if fields.is_none() {
            self.fault(path, value, "write a group of fields here, or {}");
        }
        Some(Object { path, fields: fields? })
    }

    /// An optional field.
    fn member<T>(&mut self, of: Object<'_>, name: &str, check: impl Check<T>) -> Option<T> {
        check(self, &format!("{}.{name}", of.path), of.get(name)?)
    }

    fn required<T>(&mut self, of: Object<'_>, name: &str, check: impl Check<T>) -> Option<T> {
        if of.get(name).is_none() {
            self.fault(&format!("{}.{name}", of.path), &Value::String(String::new()), "it is required");
        }
        self.member(of, name, check)
    }

    fn boolean(&mut self, path: &str, value: &Value) -> Option<bool> {
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.fault(path, value, "write true or false, without quotes");
        }
        boolean
    }
}

/// A group of fields, and its path.
#[derive(Clone, Copy)]
struct Object<'a> {
    path: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }
}

/// Checks the value at a path, and records its fault.
trait Check<T>: Fn(&mut Checker, &str, &Value) -> Option<T> {}

impl<T, F: Fn(&mut Checker, &str, &Value) -> Option<T>> Check<T> for F {}

fn text(rule: TextRule) -> impl Check<String> {
    move |checker: &mut Checker, path: &str, value: &Value| {
        let checked = match value.as_str() {
            Some(text) => rule.check(text).map(|()| text.to_owned()),
            None => Err("write a text; quote it if it looks like a number".to_owned()),
        };
        checked.map_err(|remedy| checker.fault(path, value, remedy)).ok()
    }
}

fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Check<T> {
    move |checker: &mut Checker, path: &str, value: &Value| {
        let found = choices.iter().find(|(text, _)| value == text);
        if found.is_none() {
            let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
            checker.fault(path, value, format!("write {}", texts.join(" or ")));
        }
        found.map(|(_, choice)| *choice)
    }
}

fn list<T>(most: usize, check: impl Check<T>) -> impl Check<Vec<T>> {
    move |checker: &mut Checker, path: &str, value: &Value| {
        let Some(items) = value.as_array() else {
            checker.fault(path, value, "write a list");
            return None;
        };
        if items.len() > most {
            checker.fault(path, value, format!("list at most {most}"));
            return None;
        }
        items.iter().enumerate().map(|(at, item)| check(checker, &format!("{path}[{at}]"), item)).collect()
    }
}

#[cfg(test)]
mod tests;
