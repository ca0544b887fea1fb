//! What waybill leaves out of the routing, and whether a problem says so: each path, each Secret, each default backend.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::HTTPIngressPath;

use waybill::kubernetes::IngressSpec;
use waybill::translate::fragment::Fragment;
use waybill::translate::problem::{Category, Kind, Problem};

use super::waybill::Library;

/// Bytes that each part of a problem may have: it becomes an Event, and those end at 1 KiB.
const PART: usize = 700;

impl Library {
    /// What is left out without a problem that names it, and problems that say too little or too much.
    pub fn silent_skips(&self) -> Vec<String> {
        let mut silent = Vec::new();
        for fragment in self.routing.table().fragments() {
            let key = &fragment.ingress;
            let Some(ingress) = self.routing.stores().ingresses().get(key) else { continue };
            let problems = self.routing.problems(key);
            silent.extend(problems.iter().filter_map(badly_said));
            if let Some(spec) = &ingress.spec
                && !problems.iter().any(costs_all)
            {
                let skips = [paths(fragment, spec, &problems), secrets(fragment, spec, &problems)];
                let skips = skips.into_iter().chain([default_backend(fragment, spec, &problems)]).flatten();
                silent.extend(skips.map(|text| format!("{key}: {text}")));
            }
        }
        silent
    }
}

fn badly_said(problem: &Problem) -> Option<String> {
    let parts = [&problem.subject.name, &problem.field, &problem.remedy];
    if parts.iter().any(|part| part.is_empty()) {
        return Some(format!("{problem:?} says too little"));
    }
    let long = parts.iter().any(|part| part.len() > PART) || problem.value.len() > Problem::VALUE_LIMIT + 3;
    long.then(|| format!("{} says too much: {problem:.2000?}", problem.category))
}

/// Whether a problem costs the whole Ingress.
fn costs_all(problem: &Problem) -> bool {
    let minor = [Category::InvalidPathMatcher, Category::UnclearSwitch, Category::IgnoredAnnotation];
    problem.subject.kind == Kind::Ingress
        && problem.field.starts_with("metadata.annotations")
        && !minor.contains(&problem.category)
        && !(problem.category == Category::EmptyListItem && problem.field.ends_with("sans]"))
}

fn paths(fragment: &Fragment, spec: &IngressSpec, problems: &[Problem]) -> Option<String> {
    let bad_matcher = problems.iter().any(|problem| problem.category == Category::InvalidPathMatcher);
    let fields: BTreeSet<&str> =
        problems.iter().filter_map(|problem| problem.field.split(".backend").next()).collect();
    let named = |rule: usize, position: usize, path: &HTTPIngressPath| {
        fields.contains(format!("spec.rules[{rule}].http.paths[{position}]").as_str())
            || bad_matcher && path.path_type == "ImplementationSpecific" && path.path.is_some()
    };
    // Paths that differ in no more than slashes at the end or their type can have one rule, and then the last counts.
    let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (number, rule) in spec.rules.iter().flatten().enumerate() {
        let host = rule.host.as_deref().unwrap_or_default();
        for (position, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            if !named(number, position, path) {
                wanted.insert((host, path.path.as_deref().unwrap_or_default().trim_end_matches('/')));
            }
        }
    }
    let routers = fragment.routers.len();
    (routers < wanted.len()).then(|| format!("{routers} routers for {} paths", wanted.len()))
}

fn secrets(fragment: &Fragment, spec: &IngressSpec, problems: &[Problem]) -> Option<String> {
    let mut wanted = BTreeSet::new();
    for (position, entry) in spec.tls.iter().flatten().enumerate() {
        let name = entry.secret_name.as_deref().unwrap_or_default();
        // The first mention of a Secret stands for all.
        let field = format!("spec.tls[{position}].secretName");
        if !name.is_empty() && !problems.iter().any(|problem| problem.field == field) {
            wanted.insert(name);
        }
    }
    let told: BTreeSet<&str> = problems
        .iter()
        .filter(|problem| problem.field.starts_with("spec.tls["))
        .map(|problem| problem.value.as_str())
        .collect();
    wanted.retain(|name| !told.contains(name));
    let certificates = fragment.certificates.len();
    (certificates < wanted.len()).then(|| format!("{certificates} certificates of {wanted:?}"))
}

fn default_backend(fragment: &Fragment, spec: &IngressSpec, problems: &[Problem]) -> Option<String> {
    let wanted = spec.rules.iter().flatten().next().is_none() && spec.default_backend.is_some();
    let told = problems.iter().any(|problem| problem.field.starts_with("spec.defaultBackend"));
    (wanted && fragment.default_backend.is_none() && !told).then(|| "no default backend".to_owned())
}
