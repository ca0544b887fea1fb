//! The default backend, which gets all requests that match no other router.

use k8s_openapi::api::networking::v1::IngressBackend;

use super::Translation;
use crate::traefik::dynamic::Router;
use crate::translate::fragment::DefaultBackend;
use crate::translate::problem::{Category, Problem, Subject};
use crate::translate::{name, rule};

/// Comes after every router that has a rule of its own.
const PRIORITY: i64 = i32::MIN as i64;

/// Traefik's name for its default rule syntax.
const RULE_SYNTAX: &str = "default";

/// The problem of a default backend in an Ingress with rules, which Traefik's provider does not serve.
pub(super) fn ignored(subject: Subject) -> Problem {
    Problem {
        category: Category::DefaultBackendIgnored,
        subject,
        field: "spec.defaultBackend".to_owned(),
        value: String::new(),
        remedy: "the default backend of an Ingress with rules is not served; move it to an Ingress without \
                 rules, or ask the operator's owner to set operator.routing.precedence to spec"
            .to_owned(),
    }
}

impl<'a> Translation<'a> {
    /// The claim to be the default backend. `None` if it would not work, whatever happens to broken backends: there is
    /// only one, and another Ingress's may work.
    pub(super) fn default_backend(&mut self, backend: &'a IngressBackend) -> Option<DefaultBackend> {
        let backend = self.service(backend, &|| "spec.defaultBackend".to_owned());
        let service = backend.service.filter(|_| backend.broken.is_none())?;
        let router = Router {
            service: name::DEFAULT_BACKEND.to_owned(),
            rule: rule::EVERYTHING.to_owned(),
            rule_syntax: RULE_SYNTAX.to_owned(),
            priority: PRIORITY,
            ..self.bare_router()
        };
        if self.is_too_large(name::DEFAULT_ROUTER, &router, || "spec.defaultBackend".to_owned()) {
            return None;
        }
        Some(DefaultBackend { router, service: service.service.clone() })
    }
}
