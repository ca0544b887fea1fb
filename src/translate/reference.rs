//! Decides whether a namespace may refer to an object of another provider.
//!
//! `X@kubernetescrd` names an object of Traefik's CRD provider as `{namespace}-{name}`, or as `{namespace}_{name}` with
//! its option `safeNaming`; without a check an Ingress could use another tenant's middleware.

use super::annotation::References;
use super::findings::IngressFindings;
use super::problem::{Category, Problem, Subject};
use super::settings::Settings;
use crate::watch::{Stores, longer_namespaces};

/// What references to objects of Traefik's CRD provider end in.
pub const CRD_PROVIDER: &str = "@kubernetescrd";

/// Stands between namespace and name with `safeNaming`, and in no other name: neither may have it.
const SAFE_SEPARATOR: char = '_';

/// Whether an object of the CRD provider, without [`CRD_PROVIDER`], is one of `namespace` and could be no other's.
/// `is_known` tells whether there is a namespace.
pub fn is_own(name: &str, namespace: &str, is_known: impl FnMut(&str) -> bool) -> bool {
    match name.split_once(SAFE_SEPARATOR) {
        Some((owner, _)) => owner == namespace,
        None => {
            let begins = name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('-'));
            begins && !longer_namespaces(namespace, name).any(is_known)
        }
    }
}

/// Checks the references in two annotations of an object in `namespace`. Returns false, with a problem for each
/// annotation with a forbidden reference.
pub(super) fn check(
    annotations: [&References; 2],
    namespace: &str,
    subject: &dyn Fn() -> Subject,
    settings: &Settings,
    stores: &Stores,
    findings: &mut IngressFindings,
) -> bool {
    let mut allowed = true;
    for references in annotations {
        let refused = refusal(&references.names, namespace, settings, stores, findings);
        let Some((category, value, remedy)) = refused else { continue };
        allowed = false;
        let (subject, field, value) = (subject(), references.field(), Problem::shown(value));
        findings.problems.add(|| Problem { category, subject, field, value, remedy });
    }
    allowed
}

/// The first forbidden reference, with its category and remedy.
fn refusal<'a>(
    references: &'a [String],
    namespace: &str,
    settings: &Settings,
    stores: &Stores,
    findings: &mut IngressFindings,
) -> Option<(Category, &'a str, String)> {
    let first = references.first()?;
    if let Some(namespaces) = &settings.cross_provider_namespaces
        && !namespaces.contains(namespace)
    {
        let remedy = format!(
            "namespace {namespace} may not refer to middlewares, TLS options or transports of another provider; \
             remove the annotation, or have the namespace added to crossProviderNamespaces"
        );
        return Some((Category::CrossProviderNotAllowed, first, remedy));
    }
    if settings.allow_cross_namespace {
        return None;
    }
    references.iter().find_map(|reference| {
        let name = reference.strip_suffix(CRD_PROVIDER)?;
        if is_own(name, namespace, |longer| findings.has_namespace(longer, stores)) {
            return None;
        }
        let form = if name.contains(SAFE_SEPARATOR) {
            format!("{namespace}{SAFE_SEPARATOR}NAME{CRD_PROVIDER}")
        } else {
            format!(
                "{namespace}-NAME{CRD_PROVIDER} (refused if the name could also belong to another namespace)"
            )
        };
        let remedy = format!(
            "refer to an object of namespace {namespace} only, as {form}, or have allowCrossNamespace set"
        );
        Some((Category::CrossNamespaceNotAllowed, reference.as_str(), remedy))
    })
}
