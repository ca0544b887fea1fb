//! One Ingress in, one fragment of routing out. Pure: no I/O, no clock, no waiting.
//!
//! | file | rule |
//! | --- | --- |
//! | `class.rs` | whose Ingress is it |
//! | `annotation/` | text to settings, or a problem |
//! | `reference.rs` | may this namespace refer to that object |
//! | `router.rs` | a path to a router |
//! | `rule.rs` | host and path to a rule, and its precedence |
//! | `service.rs`, `server.rs` | a backend to a service, a Service's port to servers |
//! | `certificate.rs` | Secrets to certificates |
//! | `default_backend.rs` | the Ingress without rules |
//! | `name.rs` | keys, bounded |
//! | `size.rs` | what is too large for an object |
//! | `pause.rs` | what pauses publishing |
//! | `status.rs` | where to reach the proxies |
//! | `problem.rs` | what can be wrong, and how it is said |

pub mod annotation;
pub mod certificate;
pub mod class;
mod default_backend;
pub mod fragment;
pub mod lookup;
pub mod name;
pub mod pause;
pub mod problem;
pub mod reference;
mod router;
pub mod rule;
pub mod server;
pub mod service;
pub mod settings;
pub mod size;
pub mod status;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IngressBackend, IngressRule};

use crate::kubernetes::key::IngressKey;
use crate::kubernetes::{Ingress, IngressSpec, IngressTLS};
use annotation::{RouterAnnotations, field};
use fragment::{Created, Fragment};
use lookup::Lookup;
use problem::{Problem, Subject};
use router::Translation;
use service::Gathered;
use settings::Settings;
use size::Budget;

/// Translates one Ingress that is ours.
pub fn translate<L: Lookup + ?Sized>(ingress: &Ingress, settings: &Arc<Settings>, lookup: &L) -> Fragment {
    let metadata = &ingress.metadata;
    let key = IngressKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    translate_as(&key, ingress, settings, lookup)
}

/// As [`translate`], with the Ingress's own key, whose memory the fragment shares.
pub fn translate_as<L: Lookup + ?Sized>(
    key: &IngressKey,
    ingress: &Ingress,
    settings: &Arc<Settings>,
    lookup: &L,
) -> Fragment {
    let namespace = key.shared_namespace();
    let mut fragment = Fragment {
        ingress: key.clone(),
        created: Created::from(&ingress.metadata),
        settings: Arc::clone(settings),
        routers: Vec::new(),
        default_backend: None,
        certificates: Vec::new(),
        problems: Vec::new(),
        uses_nodes: false,
        uses_namespaces: false,
    };
    let subject = || Subject::ingress(ingress);
    let mut gathered = Gathered::default();
    if let Some(annotations) = annotations(ingress, settings, lookup, &mut gathered) {
        let spec = ingress.spec.parts();
        fragment.certificates =
            certificate::certificates(&namespace, spec.tls, lookup, &subject, &mut gathered.problems);
        let mut translation = Translation {
            ingress,
            namespace,
            settings,
            lookup,
            annotations,
            gathered,
            cache: HashMap::new(),
            budget: Budget::default(),
            paths: 0,
        };
        if spec.rules.is_empty()
            && let Some(backend) = spec.default_backend
        {
            fragment.default_backend = translation.default_backend(backend).map(Box::new);
        }
        fragment.routers = translation.routers(spec.rules);
        gathered = translation.gathered;
    }
    fragment.problems = gathered.problems;
    deduplicate(&mut fragment.problems);
    cut(&mut fragment.problems);
    fragment.uses_nodes = gathered.uses_nodes;
    fragment.uses_namespaces = gathered.uses_namespaces;
    fragment
}

/// The parts of an Ingress's spec, without the options around them.
struct Parts<'a> {
    rules: &'a [IngressRule],
    tls: &'a [IngressTLS],
    default_backend: Option<&'a IngressBackend>,
}

trait SpecParts {
    fn parts(&self) -> Parts<'_>;
}

impl SpecParts for Option<IngressSpec> {
    fn parts(&self) -> Parts<'_> {
        let spec = self.as_ref();
        Parts {
            rules: spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default(),
            tls: spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default(),
            default_backend: spec.and_then(|spec| spec.default_backend.as_ref()),
        }
    }
}

/// One problem a thing: paths that share a Service would tell of it once each.
fn deduplicate(problems: &mut Vec<Problem>) {
    if problems.len() > 1 {
        let mut seen = std::collections::HashSet::new();
        let keep: Vec<bool> = problems.iter().map(|problem| seen.insert(problem)).collect();
        drop(seen);
        let mut keep = keep.into_iter();
        problems.retain(|_| keep.next().unwrap_or(true));
    }
}

/// Problems that an Ingress may tell of. One that has more has the same one thousands of times, and they would take
/// more memory than itself.
const PROBLEMS: usize = 1_000;

/// Leaves out what nobody would read, and says how much that is.
fn cut(problems: &mut Vec<Problem>) {
    let more = problems.len().saturating_sub(PROBLEMS);
    if more == 0 {
        return;
    }
    problems.truncate(PROBLEMS);
    problems.shrink_to_fit();
    if let Some(last) = problems.last_mut() {
        last.remedy = format!("{}; {more} problems more are not told", last.remedy);
    }
}

/// An Ingress's annotations, where they can be used and its namespace may have what they refer to.
fn annotations<L: Lookup + ?Sized>(
    ingress: &Ingress,
    settings: &Settings,
    lookup: &L,
    gathered: &mut Gathered,
) -> Option<RouterAnnotations> {
    let subject = || Subject::ingress(ingress);
    let parsed =
        RouterAnnotations::parse(ingress.metadata.annotations.as_ref(), &subject, &mut gathered.problems);
    let annotations = match parsed {
        Ok(annotations) => annotations,
        Err(faults) => {
            gathered.problems.extend(faults);
            return None;
        }
    };
    let options = annotations.tls.as_ref().map_or("", |tls| tls.options.as_str()).to_owned();
    let options = if options.is_empty() { Vec::new() } else { vec![options] };
    let mut refused = false;
    for (references, spelling) in [
        (&annotations.middlewares, &annotations.spellings.middlewares),
        (&options, &annotations.spellings.tls_options),
    ] {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let refusal =
            reference::check(references, namespace, settings, lookup, &mut gathered.uses_namespaces);
        if let Some(refusal) = refusal {
            refused = true;
            gathered.problems.push(Problem {
                category: refusal.category,
                subject: subject(),
                field: field(spelling),
                value: Problem::shown(&refusal.value),
                remedy: refusal.remedy,
            });
        }
    }
    (!refused).then_some(annotations)
}
