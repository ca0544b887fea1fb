//! Decides whether a namespace may refer to an object of another provider.
//!
//! `X@kubernetescrd` names an object of Traefik's CRD provider as `{namespace}-{name}`; without a check an Ingress
//! could use another tenant's middleware.

use super::annotation::References;
use super::findings::IngressFindings;
use super::problem::{Category, Problem, Subject};
use super::settings::Settings;
use crate::watch::{Stores, longer_namespaces};

const CRD_PROVIDER: &str = "@kubernetescrd";

/// Checks the references in two annotations of an object in `namespace`. Returns false, with a problem for each
/// annotation with a forbidden reference.
pub(super) fn check(
    annotations: [&References; 2],
    namespace: &str,
    subject: &dyn Fn() -> Subject,
    settings: &Settings,
    lookup: &Stores,
    findings: &mut IngressFindings,
) -> bool {
    let mut allowed = true;
    for references in annotations {
        let refused = refusal(&references.names, namespace, settings, lookup, findings);
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
    lookup: &Stores,
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
        let own = name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('-'));
        if own && !longer_namespaces(namespace, name).any(|longer| findings.has_namespace(longer, lookup)) {
            return None;
        }
        let remedy = format!(
            "refer to an object of namespace {namespace} only, as {namespace}-NAME{CRD_PROVIDER} (refused \
             if the name could also belong to another namespace), or have allowCrossNamespace set"
        );
        Some((Category::CrossNamespaceNotAllowed, reference.as_str(), remedy))
    })
}
