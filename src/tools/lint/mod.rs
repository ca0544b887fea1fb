//! Finds mistakes in routing, invalid or valid: codes, findings, formats. Pure: routing in, findings out.
//!
//! | file | what |
//! | --- | --- |
//! | `codes.rs` | every code, once |
//! | `input.rs` | what the objects say that the routing does not keep; findings about the objects themselves |
//! | `regions.rs` | which router takes all that another one takes |
//! | `routes.rs` | routes, their paths and hosts |
//! | `certificates.rs` | certificates, keys, chains; Secrets |
//! | `tls_hosts.rs` | hosts of `spec.tls`, beside those of rules and certificates |
//! | `foreign.rs` | annotations of other controllers, and what they would have done |
//! | `formats.rs` | findings as text, JSON, SARIF and GitHub's annotations |

mod certificates;
pub mod codes;
mod foreign;
pub mod formats;
mod input;
mod regions;
mod routes;
mod tls_hosts;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::kubernetes::key::{ObjectKey, ServiceKey};
use crate::kubernetes::manifests::ManifestPlace;
use crate::routing::Routing;
use crate::translate::problem::{Category, Kind, Problem};
use crate::translate::settings::ClassOptions;

pub use codes::Severity;
pub use input::LintInput;

/// A mistake, or a possible one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LintFinding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// `Kind namespace/name`.
    pub object: String,
    /// The field of the object; empty if the finding is about the whole object.
    pub field: String,
    pub severity: Severity,
    pub code: &'static str,
    pub text: String,
    pub remedy: String,
    /// The position of its object, if that can't be found by its name.
    #[serde(skip)]
    place: Option<ManifestPlace>,
}

impl LintFinding {
    /// A finding with the severity and the remedy of its code.
    fn new(
        code: &'static str,
        object: impl Into<String>,
        field: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        let (severity, remedy) =
            codes::find(code).map_or((Severity::Warning, ""), |code| (code.severity, code.remedy));
        Self {
            file: None,
            line: None,
            object: object.into(),
            field: field.into(),
            severity,
            code,
            text: text.into(),
            remedy: remedy.to_owned(),
            place: None,
        }
    }

    fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    fn at(self, place: &ManifestPlace) -> Self {
        Self { place: Some(place.clone()), ..self }
    }
}

impl From<Problem> for LintFinding {
    fn from(problem: Problem) -> Self {
        let code = problem.category.as_str();
        let meaning = codes::find(code).map_or(code, |code| code.meaning);
        let text = match problem.value.as_str() {
            "" => meaning.to_owned(),
            value => format!("{meaning}: {value:?}"),
        };
        Self::new(code, problem.subject.to_string(), problem.field, text).with_remedy(problem.remedy)
    }
}

/// The input of the checks, beside the routing.
#[derive(Clone, Copy, Debug)]
pub struct LintSettings<'a> {
    pub classes: &'a ClassOptions,
    /// Unix seconds.
    pub now: i64,
    /// Certificates that expire sooner are reported, in days.
    pub expires_within: i64,
}

/// All findings, silenced or not, without positions.
pub fn lint(routing: &Routing, input: &LintInput, settings: LintSettings<'_>) -> Vec<LintFinding> {
    let mut findings = input.findings.clone();
    findings.extend(problems(routing, input));
    findings.extend(missing_classes(routing, settings.classes));
    for (_, output) in routing.table().outputs() {
        let all = regions::LintedRoute::of_output(output);
        findings.extend(routes::findings(routing, input, &all));
    }
    findings.extend(routes::path_findings(routing));
    findings.extend(certificates::findings(routing, settings));
    findings.extend(certificates::unused(input, settings));
    findings.extend(annotations_of_others(routing, input));
    findings
}

/// Annotations for other controllers, on our Ingresses and on the Services that they use.
fn annotations_of_others(routing: &Routing, input: &LintInput) -> Vec<LintFinding> {
    let fragments = || routing.table().fragments();
    let services: BTreeSet<&ServiceKey> = fragments()
        .flat_map(|fragment| &fragment.routers)
        .map(|router| &router.service.owner.service)
        .collect();
    let services = services.into_iter().map(|service| format!("Service {service}"));
    let objects = fragments().map(|fragment| format!("Ingress {}", fragment.ingress)).chain(services);
    objects.flat_map(|object| foreign::of_others(&object, input.annotations_of_others(&object))).collect()
}

fn problems(routing: &Routing, input: &LintInput) -> Vec<LintFinding> {
    let mut all = routing.all_problems();
    all.extend(routing.classes().problems());
    all.extend(super::problems::of_statuses(routing));
    let mut findings = Vec::new();
    for problem in all {
        if codes::find(problem.category.as_str()).is_none() {
            continue;
        }
        if problem.category == Category::IgnoredAnnotation {
            let subject = &problem.subject;
            let key = ObjectKey::new(subject.namespace.as_str(), subject.name.as_str());
            let ingress = routing.stores().ingresses().get(&key).filter(|_| subject.kind == Kind::Ingress);
            findings.extend(foreign::findings(&problem, ingress.map(|ingress| &**ingress)));
            continue;
        }
        // Kinds that are missing in the input are elsewhere.
        let elsewhere = match problem.category {
            Category::SecretNotFound => input.has_no_secrets,
            Category::ServiceNotFound => input.has_no_services,
            _ => false,
        };
        let mut finding = LintFinding::from(problem);
        if elsewhere {
            finding.severity = Severity::Note;
        }
        findings.push(finding);
    }
    findings
}

fn missing_classes(routing: &Routing, options: &ClassOptions) -> Vec<LintFinding> {
    let missing = super::problems::missing_classes(routing, options);
    let findings = missing.into_iter().flat_map(|(class, ingresses)| {
        ingresses.into_iter().map(move |ingress| {
            let text = format!("IngressClass {class:?} is not in the input, so the Ingress is not checked");
            let field = "spec.ingressClassName";
            LintFinding::new("ClassNotFound", format!("Ingress {ingress}"), field, text)
        })
    });
    findings.collect()
}

/// Codes that are silenced, everywhere or for some objects.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    pub codes: BTreeSet<String>,
    /// Codes with the objects for which they are silenced; a `*` at the end matches any text.
    pub objects: Vec<(String, String)>,
}

impl Silence {
    /// Whether a finding is silenced, here or by an annotation of its object.
    pub fn covers(&self, finding: &LintFinding, input: &LintInput) -> bool {
        let is_object = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => finding.object.starts_with(start),
            None => finding.object == pattern,
        };
        self.codes.contains(finding.code)
            || self.objects.iter().any(|(code, object)| code == finding.code && is_object(object))
            || input.is_silenced(finding)
    }
}
