//! References to objects that other providers hold: may this namespace have them?
//!
//! `X@kubernetescrd` names an object of Traefik's CRD provider as `{namespace}-{name}`; without a check an Ingress
//! could use another tenant's middleware.

use crate::translate::lookup::Lookup;
use crate::translate::problem::{Category, Problem, Subject};
use crate::translate::service::Findings;
use crate::translate::settings::Settings;

const CRD_PROVIDER: &str = "@kubernetescrd";

/// Why a reference can't be followed.
pub(super) struct Refusal<'a> {
    category: Category,
    /// The reference that is meant.
    value: &'a str,
    remedy: String,
}

impl Refusal<'_> {
    /// The problem of the object whose annotation holds the reference.
    pub fn problem(self, subject: Subject, field: String) -> Problem {
        let Self { category, value, remedy } = self;
        Problem { category, subject, field, value: Problem::shown(value), remedy }
    }
}

/// Checks the references that one annotation of an object in `namespace` holds.
pub(super) fn check<'a, L: Lookup + ?Sized>(
    references: &'a [String],
    namespace: &str,
    settings: &Settings,
    lookup: &L,
    findings: &mut Findings,
) -> Option<Refusal<'a>> {
    let first = references.first()?;
    if let Some(namespaces) = &settings.cross_provider_namespaces
        && !namespaces.contains(namespace)
    {
        return Some(Refusal {
            category: Category::CrossProviderNotAllowed,
            value: first,
            remedy: format!(
                "namespace {namespace} may not refer to middlewares, TLS options or transports of another provider; \
                 remove the annotation, or have the namespace added to crossProviderNamespaces"
            ),
        });
    }
    if settings.allow_cross_namespace {
        return None;
    }
    references.iter().find_map(|reference| {
        let name = reference.strip_suffix(CRD_PROVIDER)?;
        let own = name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('-'));
        if own {
            findings.uses_namespaces = true;
            lookup.longer_namespace(namespace, name)?;
        }
        Some(Refusal {
            category: Category::CrossNamespaceNotAllowed,
            value: reference,
            remedy: format!(
                "refer to an object of namespace {namespace} only, as {namespace}-NAME{CRD_PROVIDER} (and not with a \
                 name that another namespace's could be), or have allowCrossNamespace set"
            ),
        })
    })
}
