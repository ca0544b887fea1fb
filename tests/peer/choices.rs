//! Option values, and sets of them that hold every pair of values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::object::Cluster;
use super::random::Random;

/// An option: its path in a file and its values. `null` is unset. In lists of namespaces `*-NAME` stands for that
/// namespace of each cluster.
struct Factor {
    path: &'static str,
    values: &'static [&'static str],
}

const FACTORS: &[Factor] = &[
    Factor { path: "allowEmptyServices", values: &["null", "true"] },
    Factor { path: "allowExternalNameServices", values: &["null", "true"] },
    Factor { path: "nativeLBByDefault", values: &["null", "true"] },
    Factor { path: "strictPrefixMatching", values: &["null", "true"] },
    Factor { path: "disableIngressClassLookup", values: &["null", "true"] },
    Factor { path: "disableClusterScopeResources", values: &["null", "true"] },
    Factor { path: "allowCrossNamespace", values: &["null", "true"] },
    Factor { path: "ingressClass", values: &["null", "\"public\"", "\"traefik\""] },
    Factor { path: "core.defaultRuleSyntax", values: &["null", "\"v2\""] },
    Factor { path: "crossProviderNamespaces", values: &["null", "[]", r#"["*-shop", "*-team"]"#] },
    Factor {
        path: "labelSelector",
        values: &["null", "\"tier=web\"", "\"tier!=web,exposure in (public, partner)\"", "\"!tier\""],
    },
    Factor { path: "namespaces", values: &["null", r#"["*-shop", "*-shop-eu", "edge"]"#] },
    Factor {
        path: "ingressEndpoint",
        values: &[
            "null",
            r#"{"ip": "192.0.2.1"}"#,
            r#"{"ip": "2001:db8::1", "hostname": "edge.example.com"}"#,
            r#"{"hostname": "edge.example.com"}"#,
            r#"{"publishedService": "edge/balanced"}"#,
            r#"{"publishedService": "edge/pending"}"#,
            r#"{"publishedService": "edge/external-ips", "ip": "192.0.2.1"}"#,
            r#"{"publishedService": "edge/internal"}"#,
            r#"{"publishedService": "edge/on-nodes"}"#,
            r#"{"publishedService": "edge/elsewhere"}"#,
            r#"{"publishedService": "edge/missing"}"#,
        ],
    },
];

/// Options that are only tried on a few clusters, see [`Choice::is_wide`].
const NARROW: &[&str] = &["namespaces", "ingressEndpoint"];

/// A value for every option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    values: Vec<usize>,
}

impl Choice {
    /// All options at their defaults.
    pub fn defaults() -> Self {
        Self { values: vec![0; FACTORS.len()] }
    }

    /// Each value of `ingressEndpoint` with all other options at their defaults.
    pub fn endpoints() -> Vec<Self> {
        let position = FACTORS.iter().position(|factor| factor.path == "ingressEndpoint").unwrap_or_default();
        (1..FACTORS[position].values.len())
            .map(|value| {
                let mut choice = Self::defaults();
                choice.values[position] = value;
                choice
            })
            .collect()
    }

    fn value(&self, path: &str) -> Value {
        let (factor, value) = FACTORS
            .iter()
            .zip(&self.values)
            .find(|(factor, _)| factor.path == path)
            .unwrap_or_else(|| panic!("no option {path}"));
        serde_json::from_str(factor.values[*value]).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// How many options are not at their default.
    pub fn set(&self) -> usize {
        self.values.iter().filter(|value| **value != 0).count()
    }

    fn pairs(&self) -> Vec<Pair> {
        let values = &self.values;
        (0..values.len())
            .flat_map(|a| (a + 1..values.len()).map(move |b| (a, values[a], b, values[b])))
            .collect()
    }

    /// Whether it can be tried on many clusters at once: it neither writes statuses, which Traefik does at 5 a second,
    /// nor has a watch for each namespace, which Traefik starts at 5 a second.
    pub fn is_wide(&self) -> bool {
        NARROW.iter().all(|path| self.value(path).is_null())
    }

    /// The options as a file for waybill, for these clusters.
    pub fn file(&self, clusters: &[Cluster]) -> Value {
        let mut kubernetes = Map::new();
        let mut file = json!({});
        for factor in FACTORS {
            let value = match self.value(factor.path) {
                Value::Null => continue,
                Value::Array(items) => items.iter().flat_map(|item| expand(item, clusters)).collect(),
                value => value,
            };
            if factor.path == "core.defaultRuleSyntax" {
                file["core"] = json!({"defaultRuleSyntax": value});
            } else {
                kubernetes.insert(factor.path.to_owned(), value);
            }
        }
        file["providers"] = json!({"kubernetesIngress": kubernetes});
        file
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set: Vec<String> = FACTORS
            .iter()
            .zip(&self.values)
            .filter(|(_, value)| **value != 0)
            .map(|(factor, value)| format!("{}={}", factor.path, factor.values[*value]))
            .collect();
        f.write_str(if set.is_empty() { "defaults" } else { "" })?;
        f.write_str(&set.join(" "))
    }
}

fn expand(item: &Value, clusters: &[Cluster]) -> Vec<Value> {
    let text = item.as_str().unwrap_or_default();
    match text.strip_prefix('*') {
        None => vec![item.clone()],
        Some(end) => clusters
            .iter()
            .map(|cluster| format!("{}{end}", cluster.name))
            .filter(|name| clusters.iter().any(|cluster| cluster.namespaces.contains(name)))
            .map(Value::String)
            .collect(),
    }
}

/// Traefik's command line for the options in a file of waybill's. Options that Traefik does not have are left out.
pub fn peer_arguments(file: &Value) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(syntax) = file["core"]["defaultRuleSyntax"].as_str() {
        arguments.push(format!("--defaultrulesyntax={syntax}"));
    }
    let options = file["providers"]["kubernetesIngress"].as_object().cloned().unwrap_or_default();
    for (key, value) in options {
        match value {
            _ if key == "allowCrossNamespace" => {}
            Value::Object(parts) => {
                for (part, value) in parts {
                    arguments.push(format!("--{key}.{part}={}", value.as_str().unwrap_or_default()));
                }
            }
            // An empty list becomes an empty text, as it does when Traefik reads its file: what that means is for
            // Traefik's own parser to say.
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                arguments.push(format!("--{key}={}", items.join(",")));
            }
            Value::String(text) => arguments.push(format!("--{key}={text}")),
            other => arguments.push(format!("--{key}={other}")),
        }
    }
    arguments
}

/// Sets of values that together hold every pair of values of any two options; the first is the defaults. First come
/// wide ones, then those that are needed for the rest.
pub fn pairwise(seed: u64) -> Vec<Choice> {
    let mut random = Random::part(seed, u64::MAX);
    let mut choices = vec![Choice::defaults()];
    let mut open = all_pairs();
    for wide in [true, false] {
        let fixed: Vec<bool> = FACTORS.iter().map(|factor| wide && NARROW.contains(&factor.path)).collect();
        loop {
            for choice in &choices {
                for pair in choice.pairs() {
                    open.remove(&pair);
                }
            }
            let next = open.iter().find(|(a, x, b, y)| (!fixed[*a] || *x == 0) && (!fixed[*b] || *y == 0));
            let Some(&pair) = next else { break };
            choices.push(best(&mut random, &open, pair, &fixed));
        }
    }
    choices
}

/// An option, its value, another option, its value.
type Pair = (usize, usize, usize, usize);

fn all_pairs() -> BTreeSet<Pair> {
    let mut pairs = BTreeSet::new();
    for (a, first) in FACTORS.iter().enumerate() {
        for (b, second) in FACTORS.iter().enumerate().skip(a + 1) {
            for x in 0..first.values.len() {
                pairs.extend((0..second.values.len()).map(|y| (a, x, b, y)));
            }
        }
    }
    pairs
}

/// For each pair of option values the number of clusters that it was tried on, given that of each option set.
pub fn clusters_of_pairs(choices: &BTreeMap<Choice, usize>) -> BTreeMap<String, usize> {
    let mut pairs: BTreeMap<Pair, usize> = all_pairs().into_iter().map(|pair| (pair, 0)).collect();
    for (choice, clusters) in choices {
        for pair in choice.pairs() {
            *pairs.entry(pair).or_default() += clusters;
        }
    }
    let text =
        |factor: usize, value: usize| format!("{}={}", FACTORS[factor].path, FACTORS[factor].values[value]);
    pairs
        .into_iter()
        .map(|((a, x, b, y), clusters)| (format!("{} {}", text(a, x), text(b, y)), clusters))
        .collect()
}

/// Of some random sets with a pair in them the one that holds the most open pairs.
fn best(random: &mut Random, open: &BTreeSet<Pair>, pair: Pair, fixed: &[bool]) -> Choice {
    const CANDIDATES: usize = 60;
    let candidates = (0..CANDIDATES).map(|_| {
        // Every second value is the default, or most sets would leave hardly any Ingress.
        let mut values: Vec<usize> = FACTORS
            .iter()
            .map(|factor| if random.chance(50) { 0 } else { random.below(factor.values.len()) })
            .collect();
        for (value, fixed) in values.iter_mut().zip(fixed) {
            *value *= usize::from(!fixed);
        }
        values[pair.0] = pair.1;
        values[pair.2] = pair.3;
        let choice = Choice { values };
        (choice.pairs().iter().filter(|pair| open.contains(pair)).count(), choice)
    });
    candidates.max().map_or_else(Choice::defaults, |(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_values_is_in_a_choice() {
        let choices = pairwise(1);
        for (a, first) in FACTORS.iter().enumerate() {
            for (b, second) in FACTORS.iter().enumerate().skip(a + 1) {
                for x in 0..first.values.len() {
                    for y in 0..second.values.len() {
                        let found =
                            choices.iter().any(|choice| choice.values[a] == x && choice.values[b] == y);
                        assert!(found, "{}={x} {}={y}", first.path, second.path);
                    }
                }
            }
        }
        let wide = choices.iter().filter(|choice| choice.is_wide()).count();
        println!("{} choices, {wide} of them wide", choices.len());
        assert!(choices.len() < 100 && wide > 10, "{} choices, {wide} of them wide", choices.len());
    }
}
