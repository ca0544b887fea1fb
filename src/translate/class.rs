//! Decides whether an Ingress is ours, and of which class (Traefik's `shouldProcessIngress`, with the controller name
//! checked).

use std::sync::Arc;

use crate::kubernetes::Ingress;
use crate::kubernetes::well_known::CLASS_ANNOTATION;
use crate::translate::problem::{Category, Problem, Subject};
use crate::translate::settings::{ClassOptions, ClassState, Settings};

/// The annotation's value for Traefik if no class is set.
const DEFAULT_CLASS: &str = "traefik";

/// The owner of an Ingress.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// Another controller's, or nobody's.
    NotOurs,
    Ours(Arc<Settings>),
    /// Ours, but its class has no routing for it.
    Refused(Category),
}

/// Determines the owner of an Ingress. `defaults` are the operator's own settings; `state_of` returns the state of our
/// classes.
pub fn claim<'a>(
    ingress: &Ingress,
    options: &ClassOptions,
    defaults: &Arc<Settings>,
    state_of: impl FnOnce(&str) -> Option<&'a ClassState>,
) -> Ownership {
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let Some(class) = class else {
        return if annotation_matches(ingress, options) {
            Ownership::Ours(Arc::clone(defaults))
        } else {
            Ownership::NotOurs
        };
    };
    if options.lookup_disabled || !(options.ingress_class.is_empty() || options.ingress_class == class) {
        return Ownership::NotOurs;
    }
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    match state_of(class) {
        None => Ownership::NotOurs,
        Some(ClassState::NotAccepted) => Ownership::Refused(Category::ClassNotAccepted),
        Some(ClassState::Accepted(settings)) if settings.namespaces.admits(namespace) => {
            Ownership::Ours(Arc::clone(settings))
        }
        Some(ClassState::Accepted(_)) => Ownership::Refused(Category::NamespaceNotAdmitted),
    }
}

fn annotation_matches(ingress: &Ingress, options: &ClassOptions) -> bool {
    let annotation = ingress
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(CLASS_ANNOTATION))
        .map_or("", String::as_str);
    annotation == options.ingress_class || options.ingress_class.is_empty() && annotation == DEFAULT_CLASS
}

/// The problem of an Ingress that its class refuses.
pub fn refusal(ingress: &Ingress, category: Category) -> Problem {
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()).unwrap_or_default();
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let remedy = match category {
        Category::NamespaceNotAdmitted => format!(
            "this class does not admit Ingresses of namespace {namespace}; name a class that does, or ask its owner \
             to admit the namespace in the class's parameters"
        ),
        _ => "the parameters of this class were never accepted, so it has no routing yet; its owner finds the reason \
              in the Events of the IngressClass"
            .to_owned(),
    };
    Problem {
        category,
        subject: Subject::ingress(ingress),
        field: "spec.ingressClassName".to_owned(),
        value: Problem::shown(class),
        remedy,
    }
}
