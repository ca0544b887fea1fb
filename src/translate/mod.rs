//! Translates one Ingress into one fragment of routing. Pure: no I/O, no clock, no waiting.
//!
//! | file | rule |
//! | --- | --- |
//! | `class.rs` | whose Ingress is it |
//! | `annotation/` | text to settings, or a problem |
//! | `reference.rs` | may this namespace refer to that object |
//! | `router.rs` | a path to a router |
//! | `rule.rs` | host and path to a rule, and its precedence |
//! | `host.rs` | what may be the host of a URL, and whose it could be |
//! | `service.rs`, `server.rs` | a backend to a service, a Service's port to servers |
//! | `certificate.rs` | Secrets to certificates |
//! | `default_backend.rs` | the Ingress without rules |
//! | `name.rs` | keys, bounded |
//! | `findings.rs` | what the Ingress depends on, and what is wrong with it |
//! | `size.rs` | what is too large for an object |
//! | `pause.rs` | what pauses publishing |
//! | `status.rs` | where to reach the proxies |
//! | `problem.rs` | what can be wrong, and how it is said |

pub mod annotation;
mod certificate;
pub(crate) mod class;
mod default_backend;
mod findings;
pub mod fragment;
pub(crate) mod host;
pub(crate) mod name;
pub mod pause;
pub mod problem;
pub(crate) mod reference;
mod router;
pub mod rule;
mod server;
mod service;
pub mod settings;
pub(crate) mod size;
pub mod status;

pub use size::INGRESS_LIMIT;

use std::sync::Arc;

use crate::kubernetes::key::IngressKey;
use crate::kubernetes::{Ingress, IngressSpec};
use crate::watch::Stores;
use annotation::RouterAnnotations;
use findings::IngressFindings;
use fragment::{Created, Fragment, Uid};
use problem::Subject;
use router::Translation;
use settings::{Precedence, Settings};

/// Translates one Ingress that is ours. The fragment shares the memory of `key`, which is the Ingress's.
pub fn translate(key: &IngressKey, ingress: &Ingress, settings: &Arc<Settings>, stores: &Stores) -> Fragment {
    let namespace = key.shared_namespace();
    let mut findings = IngressFindings::default();
    let (mut routers, mut default_backend, mut certificates) = (Vec::new(), None, Vec::new());
    if let Some(annotations) = annotations(ingress, settings, stores, &mut findings) {
        let empty = IngressSpec::default();
        let spec = ingress.spec.as_ref().unwrap_or(&empty);
        let subject = || Subject::ingress(ingress);
        let tls = spec.tls.as_deref().unwrap_or_default();
        certificates = certificate::certificates(&namespace, tls, stores, &subject, &mut findings.problems);
        let rules = spec.rules.as_deref().unwrap_or_default();
        let mut translation = Translation::new(ingress, namespace, settings, stores, annotations, findings);
        if let Some(backend) = &spec.default_backend {
            if rules.is_empty() || settings.precedence == Precedence::Spec {
                default_backend = translation.default_backend(backend).map(Box::new);
            } else {
                translation.findings.problems.add(|| default_backend::ignored(subject()));
            }
        }
        routers = translation.routers(rules);
        findings = translation.findings;
    }
    Fragment {
        ingress: key.clone(),
        created: Created::from(&ingress.metadata),
        uid: Uid::from(&ingress.metadata),
        settings: Arc::clone(settings),
        routers,
        default_backend,
        certificates,
        problems: findings.problems.into_vec(),
        uses_nodes: findings.uses_nodes,
        namespaces: findings.namespaces.into_iter().collect(),
    }
}

/// An Ingress's annotations, if they can be used and its namespace may have their references.
fn annotations(
    ingress: &Ingress,
    settings: &Settings,
    stores: &Stores,
    findings: &mut IngressFindings,
) -> Option<RouterAnnotations> {
    let subject = || Subject::ingress(ingress);
    let parsed: Result<RouterAnnotations, _> =
        annotation::parse(ingress.metadata.annotations.as_ref(), &subject, &mut findings.problems);
    let annotations = parsed.map_err(|faults| findings.problems.extend(faults)).ok()?;
    let references = [&annotations.middlewares, &annotations.tls_options];
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    reference::check(references, namespace, &subject, settings, stores, findings).then_some(annotations)
}
