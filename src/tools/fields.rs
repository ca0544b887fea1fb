//! Finds the fields of an Ingress from which a rule comes.

use std::collections::HashMap;

use crate::kubernetes::Ingress;
use crate::translate::rule::{self, Matcher};
use crate::translate::settings::RuleSyntax;

/// A field from which a rule may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleField {
    pub rule: usize,
    pub path: usize,
    /// Another path has the same rule.
    pub shared: bool,
}

impl RuleField {
    /// The path of the field, in the form of `kubectl explain`.
    pub fn path(&self) -> String {
        format!("spec.rules[{}].http.paths[{}]", self.rule, self.path)
    }
}

/// The fields of an Ingress by every possible rule for them.
#[derive(Debug, Default)]
pub struct RuleFields(HashMap<String, RuleField>);

impl RuleFields {
    /// The fields of an Ingress.
    pub fn new(ingress: &Ingress) -> Self {
        let mut all: HashMap<String, RuleField> = HashMap::new();
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        for (at, one) in rules.enumerate() {
            let host = one.host.as_deref().unwrap_or_default();
            for (path_at, path) in one.http.iter().flat_map(|http| &http.paths).enumerate() {
                let path = path.path.as_deref().unwrap_or_default();
                for matcher in [Matcher::Path, Matcher::PathPrefix, Matcher::PathRegexp] {
                    for syntax in [RuleSyntax::V2, RuleSyntax::V3] {
                        for whole in [false, true] {
                            let rule = rule::rule(host, path, matcher, syntax, whole);
                            let own = RuleField { rule: at, path: path_at, shared: false };
                            let known = all.entry(rule).or_insert(own);
                            known.shared |= (known.rule, known.path) != (at, path_at);
                        }
                    }
                }
            }
        }
        Self(all)
    }

    /// The first field that could have given a rule.
    pub fn get(&self, rule: &str) -> Option<RuleField> {
        self.0.get(rule).copied()
    }
}
