//! A spec of parameters as it comes, possibly past no schema at all, to one that is right.
//!
//! Manifests are read offline, and an API server may hold an older definition than ours, so every rule of
//! [`super::resource`] is checked here again. As an API server would, `null` counts as left out and unknown fields
//! are not looked at.

mod text;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::{Map, Value};

use super::resource::{
    BrokenBackends, IngressClassParametersSpec, IngressEndpoint, MAX_ENTRIES, MAX_REQUIREMENTS, Namespaces,
    OPERATORS, Output, Precedence, RuleSyntax,
};
use crate::translate::problem::Problem;
use text::TextRule;

/// Faults that are told of one object; what is beyond is only counted.
pub const MAX_FAULTS: usize = 16;

/// Bytes that a spec may take as JSON: every class's last accepted one is kept in a single ConfigMap of at most
/// 1 MiB.
pub const MAX_SPEC_BYTES: usize = 32 * 1024;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field from the object's root, e.g. `spec.output.name`.
    pub field: String,
    pub value: String,
    pub remedy: String,
}

/// What is wrong with a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct Faults {
    /// The first ones, in the order of the fields; at most [`MAX_FAULTS`].
    pub shown: Vec<Fault>,
    pub more: usize,
    /// Nothing is wrong but the size ([`MAX_SPEC_BYTES`]).
    pub too_large: bool,
}

impl Faults {
    /// One line for people.
    pub fn summary(&self) -> String {
        const SAID: usize = 4;
        let mut said: Vec<String> = self.shown.iter().take(SAID).map(Fault::to_string).collect();
        let more = self.shown.len().saturating_sub(SAID) + self.more;
        if more > 0 {
            said.push(format!("and {more} more"));
        }
        said.join("; ")
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}: {}", self.field, self.value, self.remedy)
    }
}

/// Checks a spec against every rule that there is.
///
/// # Errors
///
/// All faults, bounded, each with its field, value and remedy.
pub fn check(spec: &Value) -> Result<IngressClassParametersSpec, Faults> {
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
    faults: Faults,
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
        self.faults.shown.push(Fault { field: path.to_owned(), value, remedy: remedy.into() });
    }

    fn spec(&mut self, value: &Value) -> IngressClassParametersSpec {
        let path = "spec";
        let Some(fields) = self.object(path, value) else { return IngressClassParametersSpec::default() };
        let ingress_endpoint = self
            .member(fields, path, "ingressEndpoint", |checker, path, value| checker.endpoint(path, value));
        let report_node_internal_ips = self.member(fields, path, "reportNodeInternalIPs", Self::boolean);
        if ingress_endpoint.is_some() && report_node_internal_ips == Some(true) {
            self.fault(
                "spec.reportNodeInternalIPs",
                &Value::Bool(true),
                "leave out either this or ingressEndpoint",
            );
        }
        IngressClassParametersSpec {
            output: self.member(fields, path, "output", Self::output),
            ingress_endpoint,
            report_node_internal_ips,
            allow_empty_services: self.member(fields, path, "allowEmptyServices", Self::boolean),
            allow_external_name_services: self.member(
                fields,
                path,
                "allowExternalNameServices",
                Self::boolean,
            ),
            allow_cross_namespace: self.member(fields, path, "allowCrossNamespace", Self::boolean),
            cross_provider_namespaces: self.member(
                fields,
                path,
                "crossProviderNamespaces",
                |checker, path, value| {
                    checker.list(path, value, MAX_ENTRIES, |c, p, v| c.text(p, v, TextRule::DnsLabel))
                },
            ),
            native_lb_by_default: self.member(fields, path, "nativeLBByDefault", Self::boolean),
            strict_prefix_matching: self.member(fields, path, "strictPrefixMatching", Self::boolean),
            default_rule_syntax: self.member(fields, path, "defaultRuleSyntax", |checker, path, value| {
                checker.choice(path, value, RuleSyntax::ALL)
            }),
            precedence: self.member(fields, path, "precedence", |checker, path, value| {
                checker.choice(path, value, Precedence::ALL)
            }),
            broken_backends: self.member(fields, path, "brokenBackends", |checker, path, value| {
                checker.choice(path, value, BrokenBackends::ALL)
            }),
            default_entry_points: self.member(fields, path, "defaultEntryPoints", Self::references),
            default_middlewares: self.member(fields, path, "defaultMiddlewares", Self::references),
            namespaces: self.member(fields, path, "namespaces", Self::namespaces),
        }
    }

    fn output(&mut self, path: &str, value: &Value) -> Option<Output> {
        let fields = self.object(path, value)?;
        Some(Output {
            name: self.member(fields, path, "name", |c, p, v| c.text(p, v, TextRule::DnsLabel)),
            namespace: self.member(fields, path, "namespace", |c, p, v| c.text(p, v, TextRule::DnsLabel)),
        })
    }

    fn endpoint(&mut self, path: &str, value: &Value) -> Option<IngressEndpoint> {
        let fields = self.object(path, value)?;
        let there = |name| fields.get(name).is_some_and(|value| !value.is_null());
        if !(there("ip") || there("hostname") || there("publishedService")) {
            self.fault(path, value, "give ip, hostname or publishedService");
        } else if there("publishedService") && (there("ip") || there("hostname")) {
            self.fault(path, value, "leave out either publishedService or ip and hostname");
        }
        Some(IngressEndpoint {
            ip: self.member(fields, path, "ip", |c, p, v| c.text(p, v, TextRule::Ip)),
            hostname: self.member(fields, path, "hostname", |c, p, v| c.text(p, v, TextRule::Hostname)),
            published_service: self
                .member(fields, path, "publishedService", |c, p, v| c.text(p, v, TextRule::Service)),
        })
    }

    fn references(&mut self, path: &str, value: &Value) -> Option<Vec<String>> {
        self.list(path, value, MAX_ENTRIES, |c, p, v| c.text(p, v, TextRule::Reference))
    }

    fn namespaces(&mut self, path: &str, value: &Value) -> Option<Namespaces> {
        let fields = self.object(path, value)?;
        let there = |name| fields.get(name).is_some_and(|value| !value.is_null());
        if there("names") == there("selector") {
            self.fault(path, value, "give either names or selector");
        }
        Some(Namespaces {
            names: self.member(fields, path, "names", |checker, path, value| {
                checker.list(path, value, MAX_ENTRIES, |c, p, v| c.text(p, v, TextRule::DnsLabel))
            }),
            selector: self.member(fields, path, "selector", Self::selector),
        })
    }

    fn selector(&mut self, path: &str, value: &Value) -> Option<LabelSelector> {
        let fields = self.object(path, value)?;
        let match_labels = self.member(fields, path, "matchLabels", |checker, path, value| {
            let labels = checker.object(path, value)?;
            if labels.len() > MAX_REQUIREMENTS {
                checker.fault(path, value, format!("name at most {MAX_REQUIREMENTS} labels"));
                return None;
            }
            let mut checked = BTreeMap::new();
            for (key, value) in labels.iter().filter(|(_, value)| !value.is_null()) {
                let key_is_right = TextRule::LabelKey.check(key);
                if let Err(remedy) = key_is_right {
                    checker.fault(path, &Value::String(key.clone()), remedy);
                    continue;
                }
                if let Some(text) = checker.text(&format!("{path}[{key}]"), value, TextRule::LabelValue) {
                    checked.insert(key.clone(), text);
                }
            }
            Some(checked)
        });
        let match_expressions = self.member(fields, path, "matchExpressions", |checker, path, value| {
            checker.list(path, value, MAX_REQUIREMENTS, Self::requirement)
        });
        Some(LabelSelector { match_labels, match_expressions })
    }

    fn requirement(&mut self, path: &str, value: &Value) -> Option<LabelSelectorRequirement> {
        let fields = self.object(path, value)?;
        let key = self.required(fields, path, "key", |c, p, v| c.text(p, v, TextRule::LabelKey));
        let operator = self.required(fields, path, "operator", |c, p, v| {
            c.choice(p, v, &OPERATORS.map(|operator| (operator, operator)))
        });
        let values = self.member(fields, path, "values", |checker, path, value| {
            checker.list(path, value, MAX_ENTRIES, |c, p, v| c.text(p, v, TextRule::LabelValue))
        });
        let (key, operator) = (key?, operator?);
        let takes_values = matches!(operator, "In" | "NotIn");
        let given = fields.get("values").and_then(Value::as_array).is_some_and(|values| !values.is_empty());
        if takes_values != given {
            self.fault(path, value, "give values for In and NotIn, and none for Exists and DoesNotExist");
        }
        Some(LabelSelectorRequirement { key, operator: operator.to_owned(), values })
    }

    fn object<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.fault(path, value, "write a group of fields here, or {}");
        }
        object
    }

    /// A field that may be left out.
    fn member<T>(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        name: &str,
        check: impl FnOnce(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = fields.get(name).filter(|value| !value.is_null())?;
        check(self, &format!("{path}.{name}"), value)
    }

    fn required<T>(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        name: &str,
        check: impl FnOnce(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        if fields.get(name).is_none_or(Value::is_null) {
            self.fault(&format!("{path}.{name}"), &Value::String(String::new()), "it has to be there");
            return None;
        }
        self.member(fields, path, name, check)
    }

    fn boolean(&mut self, path: &str, value: &Value) -> Option<bool> {
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.fault(path, value, "write true or false, without quotes");
        }
        boolean
    }

    fn text(&mut self, path: &str, value: &Value, kind: TextRule) -> Option<String> {
        let Some(text) = value.as_str() else {
            self.fault(path, value, "write a text; quote it if it looks like a number");
            return None;
        };
        match kind.check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(remedy) => {
                self.fault(path, value, remedy);
                None
            }
        }
    }

    fn choice<T: Copy>(&mut self, path: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        let found = value
            .as_str()
            .and_then(|value| choices.iter().find(|(text, _)| *text == value))
            .map(|found| found.1);
        if found.is_none() {
            let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
            self.fault(path, value, format!("write {}", texts.join(" or ")));
        }
        found
    }

    fn list<T>(
        &mut self,
        path: &str,
        value: &Value,
        most: usize,
        check: impl Fn(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(items) = value.as_array() else {
            self.fault(path, value, "write a list");
            return None;
        };
        if items.len() > most {
            self.fault(path, value, format!("list at most {most}"));
            return None;
        }
        items.iter().enumerate().map(|(at, item)| check(self, &format!("{path}[{at}]"), item)).collect()
    }
}

#[cfg(test)]
mod tests;
