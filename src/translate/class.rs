//! Decides whether an Ingress is ours, and of which class (Traefik's `shouldProcessIngress`, with the controller name
//! checked).

use std::sync::Arc;

use crate::kubernetes::Ingress;
use crate::kubernetes::well_known::CLASS_ANNOTATION;
use crate::translate::problem::{Category, Problem, Subject};
use crate::translate::settings::{ClassOptions, ClassState, NamespacePolicy, Settings};

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

/// Determines the owner of an Ingress. `defaults` are the operator's own settings, `without_class` the namespaces whose
/// Ingresses may name no class; `state_of` returns the state of our classes.
pub fn claim<'a>(
    ingress: &Ingress,
    options: &ClassOptions,
    defaults: &Arc<Settings>,
    without_class: &NamespacePolicy,
    state_of: impl FnOnce(&str) -> Option<&'a ClassState>,
) -> Ownership {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let Some(class) = class else {
        return if !annotation_matches(ingress, options) {
            Ownership::NotOurs
        } else if without_class.admits(namespace) {
            Ownership::Ours(Arc::clone(defaults))
        } else {
            Ownership::Refused(Category::NamespaceNotAdmitted)
        };
    };
    if options.lookup_disabled || !options.takes(class) {
        return Ownership::NotOurs;
    }
    match state_of(class) {
        None => Ownership::NotOurs,
        Some(ClassState::NotAccepted) => Ownership::Refused(Category::ClassNotAccepted),
        Some(ClassState::Accepted(settings)) if settings.namespaces.admits(namespace) => {
            Ownership::Ours(Arc::clone(settings))
        }
        Some(ClassState::Accepted(_)) => Ownership::Refused(Category::NamespaceNotAdmitted),
    }
}

fn annotation_of(ingress: &Ingress) -> Option<&str> {
    ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).map(String::as_str)
}

fn annotation_matches(ingress: &Ingress, options: &ClassOptions) -> bool {
    let annotation = annotation_of(ingress).unwrap_or_default();
    annotation == options.ingress_class || options.ingress_class.is_empty() && annotation == DEFAULT_CLASS
}

/// The problem of an Ingress that its class refuses, or that has none and needs one.
pub fn refusal(ingress: &Ingress, category: Category) -> Problem {
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let admit = "or ask its owner to admit the namespace in the class's parameters";
    let remedy = match (category, class) {
        (Category::NamespaceNotAdmitted, Some(_)) => format!(
            "this class does not admit Ingresses of namespace {namespace}; name a class that does, {admit}"
        ),
        (Category::NamespaceNotAdmitted, None) => format!(
            "without a class the routing goes where no class admits Ingresses of namespace {namespace}; name a class that \
             does, {admit}"
        ),
        _ => "the parameters of this class were never accepted, so it has no routing yet; its owner finds the reason \
              in the Events of the IngressClass"
            .to_owned(),
    };
    let (field, value) = match (class, annotation_of(ingress)) {
        (None, Some(annotation)) => (format!("metadata.annotations[{CLASS_ANNOTATION}]"), annotation),
        (class, _) => ("spec.ingressClassName".to_owned(), class.unwrap_or_default()),
    };
    Problem { category, subject: Subject::ingress(ingress), field, value: Problem::shown(value), remedy }
}
