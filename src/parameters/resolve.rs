//! Resolves an IngressClass and its parameters to settings. Pure, and the same offline and live.
//!
//! A class that names parameters never falls back to the operator's own options, which might be less restrictive. The
//! last accepted settings still apply, and a class that never had any has no routing.

mod apply;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use apply::output;

use serde_json::Value;

use super::check::{SpecFault, SpecFaults, check};
use super::memory::AcceptedParameters;
use super::resource::{GROUP, IngressClassParametersSpec, KIND};
use crate::kubernetes::IngressClass;
use crate::kubernetes::key::OutputKey;
use crate::translate::problem::{Category, Kind, Problem, Subject};
use crate::translate::settings::{ClassState, Settings};

/// The parameters object that a class names.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The CRD is not installed, or the kind may not be listed.
    NotInstalled,
    Missing,
    /// Its `spec`, unchecked; `Null` if there is none.
    Spec(&'a Value),
}

/// The known namespaces, for a selector.
pub enum NamespaceLabels<'a> {
    Known(&'a mut dyn Iterator<Item = (&'a str, &'a BTreeMap<String, String>)>),
    /// They are not listed yet.
    Pending,
    /// They can't be read: a right is missing, or they are not in the manifests.
    Unavailable,
}

/// The input of a resolution, beside the labels of namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub class: &'a IngressClass,
    pub controller_name: &'a str,
    /// The object that [`parameters_name`] names; ignored if that is `None`.
    pub parameters: Found<'a>,
    pub last_accepted: Option<&'a AcceptedParameters>,
    pub defaults: &'a Arc<Settings>,
}

/// The kind of settings that apply to a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The operator's own: it names no parameters.
    Operator,
    Current,
    /// The last accepted ones of its parameters.
    LastAccepted,
    /// None: those that were accepted last select by labels that are not known. What is published stays as it is.
    Withheld,
    /// None, so it has no routing.
    NotAccepted,
}

/// Why parameters are accepted or not. This is the condition's reason, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Accepted,
    /// The labels of namespaces are not known yet.
    Pending,
    Invalid,
    /// They are too large to be stored.
    TooLarge,
    NamespacesUnavailable,
    UnsupportedReference,
    NotFound,
    /// The CRD is not installed.
    NotInstalled,
}

impl Reason {
    /// The reason in the form of a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Pending => "Pending",
            Self::Invalid => "Invalid",
            Self::TooLarge => "TooLarge",
            Self::NamespacesUnavailable => "NamespacesUnavailable",
            Self::UnsupportedReference => "UnsupportedReference",
            Self::NotFound => "NotFound",
            Self::NotInstalled => "NotInstalled",
        }
    }
}

/// Whether parameters are accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: Reason,
    pub message: String,
}

impl Verdict {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// `True`, `False` or `Unknown`.
    pub fn status(&self) -> &'static str {
        match self.reason {
            Reason::Accepted => "True",
            Reason::Pending => "Unknown",
            _ => "False",
        }
    }
}

/// The resolution of an IngressClass.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    pub state: ClassState,
    pub standing: Standing,
    /// Where a class that is [`Standing::Withheld`] published last.
    pub withheld: Option<OutputKey>,
    pub object: Option<Arc<str>>,
    /// The generation of that object.
    pub generation: Option<i64>,
    /// Whether its parameters are accepted; `None` for a class without parameters. While the reason is
    /// [`Reason::Pending`], a class keeps the settings that it has.
    pub verdict: Option<Verdict>,
    /// What to store from now on; `None` leaves the stored settings unchanged.
    pub accepted_now: Option<AcceptedParameters>,
    pub problem: Option<Problem>,
    pub faults: Vec<Problem>,
    pub uses_namespace_labels: bool,
}

impl Resolution {
    fn new(state: ClassState, standing: Standing) -> Self {
        Self {
            state,
            standing,
            withheld: None,
            object: None,
            generation: None,
            verdict: None,
            accepted_now: None,
            problem: None,
            faults: Vec::new(),
            uses_namespace_labels: false,
        }
    }

    /// Where the routing of the class is.
    pub fn output(&self) -> Option<&OutputKey> {
        match &self.state {
            ClassState::Accepted(settings) => Some(&settings.output),
            ClassState::NotAccepted => self.withheld.as_ref(),
        }
    }
}

/// Whether a class is ours.
pub fn is_ours(class: &IngressClass, controller_name: &str) -> bool {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(controller_name)
}

/// The name of the IngressClassParameters that one of our classes names; `None` if it names none, or something else.
pub fn parameters_name(class: &IngressClass) -> Option<&str> {
    let reference = class.spec.as_ref()?.parameters.as_ref()?;
    wrong_reference(class).is_none().then_some(reference.name.as_str())
}

/// Resolves a class, its parameters and its stored settings to settings. `None`: the class is not ours, and its stored
/// settings should be forgotten.
pub fn resolve(inputs: &Inputs<'_>, namespaces: NamespaceLabels<'_>) -> Option<Resolution> {
    if !is_ours(inputs.class, inputs.controller_name) {
        return None;
    }
    let Some(reference) = inputs.class.spec.as_ref().and_then(|spec| spec.parameters.as_ref()) else {
        return Some(Resolution::new(ClassState::Accepted(Arc::clone(inputs.defaults)), Standing::Operator));
    };
    if let Some((field, value, remedy)) = wrong_reference(inputs.class) {
        let verdict = Verdict::new(Reason::UnsupportedReference, remedy);
        return Some(refused(inputs, namespaces, verdict, field, value));
    }
    let name = reference.name.as_str();
    let spec = match inputs.parameters {
        Found::NotInstalled => {
            let verdict = Verdict::new(
                Reason::NotInstalled,
                format!(
                    "{KIND} cannot be read; install the CRD (waybill crds | kubectl apply -f -) and waybill's ClusterRole"
                ),
            );
            return Some(refused(inputs, namespaces, verdict, "spec.parameters.name", name));
        }
        Found::Missing => {
            let verdict = Verdict::new(
                Reason::NotFound,
                format!("there is no {KIND} of this name; create it, or name one that exists"),
            );
            return Some(refused(inputs, namespaces, verdict, "spec.parameters.name", name));
        }
        Found::Spec(spec) => spec,
    };
    let mut resolution = match check(spec) {
        Err(faults) => {
            let reason = if faults.too_large { Reason::TooLarge } else { Reason::Invalid };
            let verdict = Verdict::new(reason, faults.summary());
            let mut resolution = refused(inputs, namespaces, verdict, "spec.parameters.name", name);
            resolution.faults = problems(name, faults);
            resolution
        }
        Ok(spec) => checked(inputs, namespaces, name, spec),
    };
    resolution.object = Some(name.into());
    Some(resolution)
}

/// A class whose parameters are valid.
fn checked(
    inputs: &Inputs<'_>,
    namespaces: NamespaceLabels<'_>,
    name: &str,
    spec: IngressClassParametersSpec,
) -> Resolution {
    let selects = apply::selector(&spec).is_some();
    let verdict = match (&namespaces, selects) {
        (NamespaceLabels::Known(_), _) | (_, false) => None,
        (NamespaceLabels::Pending, true) => {
            Some(Verdict::new(Reason::Pending, "the labels of namespaces are being listed"))
        }
        (NamespaceLabels::Unavailable, true) => Some(Verdict::new(
            Reason::NamespacesUnavailable,
            "spec.namespaces.selector needs the labels of namespaces, which cannot be read; give waybill the \
             right to list and watch Namespaces, or use spec.namespaces.names",
        )),
    };
    if let Some(verdict) = verdict {
        let mut resolution = refused(inputs, namespaces, verdict, "spec.parameters.name", name);
        resolution.uses_namespace_labels = true;
        return resolution;
    }
    let Some(settings) = apply::settings(&spec, inputs.defaults, namespaces) else {
        // Impossible, since the needed labels are known here. It must not lead to less restrictive settings.
        let verdict = Verdict::new(Reason::Pending, "the labels of namespaces are being listed");
        return refused(inputs, NamespaceLabels::Pending, verdict, "spec.parameters.name", name);
    };
    Resolution {
        verdict: Some(Verdict::new(Reason::Accepted, "")),
        accepted_now: Some(AcceptedParameters { uid: inputs.class.metadata.uid.clone(), spec }),
        uses_namespace_labels: selects,
        ..Resolution::new(ClassState::Accepted(Arc::new(settings)), Standing::Current)
    }
}

/// A class whose parameters can't be used: the last accepted settings still apply.
fn refused(
    inputs: &Inputs<'_>,
    namespaces: NamespaceLabels<'_>,
    verdict: Verdict,
    field: &str,
    value: &str,
) -> Resolution {
    let last = inputs.last_accepted.filter(|entry| entry.is_of(inputs.class.metadata.uid.as_deref()));
    let uses_namespace_labels = last.is_some_and(|entry| apply::selector(&entry.spec).is_some());
    let settings = last.and_then(|entry| apply::settings(&entry.spec, inputs.defaults, namespaces));
    let mut withheld = None;
    let (state, standing, so) = match (settings, last) {
        (Some(settings), _) => (
            ClassState::Accepted(Arc::new(settings)),
            Standing::LastAccepted,
            "the last accepted settings still apply".to_owned(),
        ),
        (None, Some(entry)) => {
            let output = withheld.insert(output(&entry.spec, inputs.defaults));
            let so = format!(
                "until then nothing is published in the output {output}, and what is published stays"
            );
            (ClassState::NotAccepted, Standing::Withheld, so)
        }
        (None, None) => {
            let so = "the class has no routing until this is fixed".to_owned();
            (ClassState::NotAccepted, Standing::NotAccepted, so)
        }
    };
    let category = match verdict.reason {
        Reason::NamespacesUnavailable => Category::NamespacesUnavailable,
        _ => Category::InvalidParameters,
    };
    let problem = (verdict.reason != Reason::Pending).then(|| Problem {
        category,
        subject: Subject::new(Kind::IngressClass, &inputs.class.metadata),
        field: field.to_owned(),
        value: Problem::shown(value),
        remedy: format!("{} ({so})", verdict.message),
    });
    Resolution {
        withheld,
        verdict: Some(verdict),
        problem,
        uses_namespace_labels,
        ..Resolution::new(state, standing)
    }
}

/// Field, value and remedy of a reference to something that is not an IngressClassParameters.
fn wrong_reference(class: &IngressClass) -> Option<(&'static str, &str, String)> {
    let reference = class.spec.as_ref()?.parameters.as_ref()?;
    let group = reference.api_group.as_deref().unwrap_or_default();
    let scope = reference.scope.as_deref().unwrap_or("Cluster");
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    if group != GROUP {
        Some(("spec.parameters.apiGroup", group, format!("write {GROUP}")))
    } else if reference.kind != KIND {
        Some(("spec.parameters.kind", &reference.kind, format!("write {KIND}")))
    } else if scope != "Cluster" {
        Some((
            "spec.parameters.scope",
            scope,
            format!("write Cluster, or leave it out; {KIND} is cluster-scoped"),
        ))
    } else if !namespace.is_empty() {
        Some(("spec.parameters.namespace", namespace, format!("leave it out; {KIND} is cluster-scoped")))
    } else if reference.name.is_empty() {
        Some(("spec.parameters.name", "", format!("write the name of an {KIND}")))
    } else {
        None
    }
}

fn problems(name: &str, faults: SpecFaults) -> Vec<Problem> {
    let problem = |SpecFault { field, value, remedy }| Problem {
        category: Category::InvalidParameters,
        subject: Subject::cluster_scoped(Kind::IngressClassParameters, name),
        field,
        value,
        remedy,
    };
    faults.shown.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests;
