//! References to objects that other providers hold: may this namespace have them?
//!
//! `X@kubernetescrd` names an object of Traefik's CRD provider as `{namespace}-{name}`; without a check an Ingress
//! could use another tenant's middleware.

use crate::translate::lookup::Lookup;
use crate::translate::problem::Category;
use crate::translate::settings::Settings;

const CRD_PROVIDER: &str = "@kubernetescrd";

/// Why a reference can't be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub category: Category,
    /// The reference, or the item of the list that is meant.
    pub value: String,
    /// What would be right.
    pub remedy: String,
}

/// Checks the references that one annotation of an object in `namespace` holds.
///
/// `asked_namespaces` is set when the answer depends on which namespaces there are.
pub fn check<L: Lookup + ?Sized>(
    references: &[String],
    namespace: &str,
    settings: &Settings,
    lookup: &L,
    asked_namespaces: &mut bool,
) -> Option<Refusal> {
    let first = references.first()?;
    if let Some(namespaces) = &settings.cross_provider_namespaces
        && !namespaces.contains(namespace)
    {
        return Some(Refusal {
            category: Category::CrossProviderNotAllowed,
            value: first.clone(),
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
            *asked_namespaces = true;
            lookup.longer_namespace(namespace, name)?;
        }
        Some(Refusal {
            category: Category::CrossNamespaceNotAllowed,
            value: reference.clone(),
            remedy: format!(
                "refer to an object of namespace {namespace} only, as {namespace}-NAME{CRD_PROVIDER} (and not with a \
                 name that another namespace's could be), or have allowCrossNamespace set"
            ),
        })
    })
}

/// The namespace of a Service that an external name stands for inside the cluster: `NAME.NAMESPACE.svc` and what
/// resolvers make of it.
pub fn namespace_of_external_name(external_name: &str) -> Option<&str> {
    let labels: Vec<&str> = external_name.trim_end_matches('.').split('.').collect();
    let position = labels.iter().rposition(|label| label.eq_ignore_ascii_case("svc"))?;
    if position >= 2 { labels.get(position - 1).copied() } else { None }
}

#[cfg(test)]
mod tests {
    use super::namespace_of_external_name;

    #[test]
    fn external_names_of_services_are_seen() {
        for (name, namespace) in [
            ("db.shop.svc", Some("shop")),
            ("db.shop.svc.cluster.local.", Some("shop")),
            ("pod.db.shop.SVC.cluster.local", Some("shop")),
            ("svc.shop.svc", Some("shop")),
            ("api.example.com", None),
            ("svc", None),
            ("shop.svc", None),
        ] {
            assert_eq!(namespace_of_external_name(name), namespace, "{name}");
        }
    }
}
