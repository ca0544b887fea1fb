//! Turns the paths of an Ingress into routers (Traefik's `loadRouter`).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend, IngressRule, IngressServiceBackend};

use crate::kubernetes::Ingress;

use super::annotation::{RouterAnnotations, ValueForm};
use super::findings::IngressFindings;
use super::fragment::{Created, RouterFragment, ServiceFragment, ServiceOwner};
use super::problem::{Category, Problem, Subject};
use super::rule::{self, Matcher, PathType};
use super::server::BrokenBackend;
use super::service::{self, Backend, NamedService};
use super::settings::{BrokenBackends, Precedence, RuleSyntax, Settings};
use super::size::{self, Budget};
use crate::kubernetes::key::ServiceKey;
use crate::traefik::dynamic::Router;
use crate::translate::name;
use crate::watch::Stores;

/// A backend as it is written: the Service, the name of the port, its number.
pub(super) type BackendName<'a> = (&'a str, Option<&'a str>, Option<i32>);

fn backend_name(backend: &IngressServiceBackend) -> BackendName<'_> {
    let port = backend.port.as_ref();
    (&backend.name, port.and_then(|port| port.name.as_deref()), port.and_then(|port| port.number))
}

/// The translation of one Ingress in progress.
pub(super) struct Translation<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) namespace: Arc<str>,
    pub(super) settings: &'a Settings,
    pub(super) stores: &'a Stores,
    pub(super) annotations: RouterAnnotations,
    pub(super) findings: IngressFindings,
    /// Backends that were translated already, since the paths of an Ingress often share one.
    backends: HashMap<BackendName<'a>, Backend>,
    services: HashMap<&'a str, NamedService<'a>>,
    /// What is left for its routers and services.
    budget: Budget,
    paths: usize,
    path_matcher_reported: bool,
}

impl<'a> Translation<'a> {
    /// A translation without results yet.
    pub(super) fn new(
        ingress: &'a Ingress,
        namespace: Arc<str>,
        settings: &'a Settings,
        stores: &'a Stores,
        annotations: RouterAnnotations,
        findings: IngressFindings,
    ) -> Self {
        let rules = ingress.spec.iter().flat_map(|spec| &spec.rules).flatten();
        let paths = rules.filter_map(|rule| rule.http.as_ref()).map(|http| http.paths.len());
        Self {
            ingress,
            namespace,
            settings,
            stores,
            annotations,
            findings,
            backends: HashMap::new(),
            services: HashMap::new(),
            budget: Budget::default(),
            paths: paths.sum(),
            path_matcher_reported: false,
        }
    }

    /// The routers of all paths.
    pub(super) fn routers(&mut self, rules: &'a [IngressRule]) -> Vec<RouterFragment> {
        // Exactly this capacity: most Ingresses have one router, and fragments are kept.
        let mut routers: Vec<RouterFragment> = Vec::with_capacity(self.paths);
        // Of several equal rules, the last one is used. Entries without host and path come first, so that a written `/`
        // has precedence.
        let mut unwritten: Vec<RouterFragment> = Vec::new();
        let mut left_out = LeftOut::default();
        for (rule_position, rule) in rules.iter().enumerate() {
            let Some(http) = &rule.http else { continue };
            let host = rule.host.as_deref().unwrap_or_default();
            for (position, path) in http.paths.iter().enumerate() {
                let at = || format!("spec.rules[{rule_position}].http.paths[{position}].backend");
                if self.budget.is_spent() {
                    left_out.paths += 1;
                    continue;
                }
                let router = self.router(host, path, &at);
                if self.budget.is_spent() {
                    left_out = LeftOut { first: at().trim_end_matches(".backend").to_owned(), paths: 1 };
                    continue;
                }
                let Some(router) = router else { continue };
                if is_everything(host, path) { unwritten.push(router) } else { routers.push(router) }
            }
        }
        if !unwritten.is_empty() {
            routers.splice(..0, unwritten);
        }
        if left_out.paths > 0 {
            self.too_much(left_out);
        }
        distinct_keys(routers)
    }

    /// Reports the paths for which there was no room.
    fn too_much(&mut self, LeftOut { first, paths }: LeftOut) {
        // First in the list, so that it is never cut off.
        let too_large = Problem {
            category: Category::IngressTooLarge,
            subject: Subject::ingress(self.ingress),
            field: first,
            value: format!("{paths} of {} paths left out, from this one on", self.paths),
            remedy: format!(
                "the routers and services of an Ingress are limited to {} MiB in total, and its annotations \
                 and those of its Services count for each path and port; shorten them, or spread the paths \
                 over several \
                 Ingresses",
                size::INGRESS_LIMIT / (1024 * 1024)
            ),
        };
        self.findings.problems.put_first(too_large);
    }

    fn router(
        &mut self,
        host: &str,
        path: &'a HTTPIngressPath,
        at: &dyn Fn() -> String,
    ) -> Option<RouterFragment> {
        let path_type = PathType::parse(Some(path.path_type.as_str()));
        let path_text = path.path.as_deref().unwrap_or_default();
        let service = self.service(&path.backend, at).service?;
        let matcher = match path_type {
            PathType::Exact => Matcher::Path,
            PathType::Prefix => Matcher::PathPrefix,
            PathType::ImplementationSpecific if path_text.is_empty() => Matcher::PathPrefix,
            PathType::ImplementationSpecific => match Matcher::parse(&self.annotations.path_matcher) {
                Some(matcher) => matcher,
                None => {
                    self.report_path_matcher();
                    return None;
                }
            },
        };
        let syntax = self.rule_syntax();
        let by_spec = self.settings.precedence == Precedence::Spec;
        let whole_elements = self.settings.strict_prefix_matching || by_spec && path_type == PathType::Prefix;
        let priority = match self.annotations.priority {
            0 if by_spec => {
                let compared = rule::compared_path(path_text, matcher, whole_elements);
                rule::priority(host, compared, path_type)
            }
            priority => priority,
        };
        let rule_syntax = match (self.annotations.rule_syntax.as_str(), self.settings.default_rule_syntax) {
            ("", RuleSyntax::V2) => "v2".to_owned(),
            (annotated, _) => annotated.to_owned(),
        };
        let name = self.ingress.metadata.name.as_deref().unwrap_or_default();
        let key = name::normalize_joined(&[&self.namespace, "-", name, "-", host, path_text]);
        let router = Router {
            rule: rule::rule(host, path_text, matcher, syntax, whole_elements),
            rule_syntax,
            priority,
            ..self.bare_router()
        };
        let key = name::bounded(key);
        // An oversized router counts too, since finding that out costs as much.
        if !self.budget.add_router(&key, &router)
            || self.is_too_large(&key, &router, || at().trim_end_matches(".backend").to_owned())
        {
            return None;
        }
        Some(RouterFragment { key: key.into(), router, service })
    }

    /// Whether a router is too large to be published, which is reported. `at` is the field from which its rule comes.
    pub(super) fn is_too_large(&mut self, key: &str, router: &Router, at: impl FnOnce() -> String) -> bool {
        let Some(bytes) = size::router(key, router) else { return false };
        // It was rendered to find that out, which costs more than its texts.
        self.budget.add(bytes);
        // Values that all routers of the Ingress share are reported once.
        let shared = size::router(key, &self.bare_router()).is_some() || router.rule.len() * 2 < bytes;
        let (field, value) = if shared {
            ("metadata.annotations".to_owned(), String::new())
        } else {
            (at(), Problem::shown(&router.rule))
        };
        let remedy = if bytes > size::ENTRY_LIMIT {
            format!(
                "a router of this Ingress would be over {} KiB as text, which is the limit; shorten its \
                 annotations, host or path",
                size::ENTRY_LIMIT / 1024
            )
        } else {
            format!(
                "a router of this Ingress would have more than {} middlewares, entry points and names of certificates; \
                 shorten these lists",
                size::ITEMS_LIMIT
            )
        };
        let subject = Subject::ingress(self.ingress);
        let category = Category::EntryTooLarge;
        self.findings.problems.add(|| Problem { category, subject, field, value, remedy });
        true
    }

    /// The values that all routers of the Ingress share.
    pub(super) fn bare_router(&self) -> Router {
        let or =
            |own: &Vec<String>, default: &Vec<String>| if own.is_empty() { default } else { own }.clone();
        let mut middlewares = or(&self.annotations.middlewares.names, &self.settings.default_middlewares);
        // The remaining middlewares must not answer instead of the missing one.
        if self.annotations.blocked {
            middlewares.clear();
        }
        Router {
            entry_points: or(&self.annotations.entry_points, &self.settings.default_entry_points),
            middlewares,
            tls: self.annotations.tls.clone(),
            observability: self.annotations.observability.clone(),
            ..Router::default()
        }
    }

    fn rule_syntax(&self) -> RuleSyntax {
        match self.annotations.rule_syntax.as_str() {
            "v2" => RuleSyntax::V2,
            "" => self.settings.default_rule_syntax,
            _ => RuleSyntax::V3,
        }
    }

    fn report_path_matcher(&mut self) {
        if std::mem::replace(&mut self.path_matcher_reported, true) {
            return;
        }
        let remedy = ValueForm::PathMatcher.remedy();
        self.findings.problems.add(|| Problem {
            category: Category::InvalidPathMatcher,
            subject: Subject::ingress(self.ingress),
            field: self.annotations.path_matcher_field(),
            value: Problem::shown(&self.annotations.path_matcher),
            remedy: format!("{remedy}; the paths of type ImplementationSpecific are skipped"),
        });
    }

    /// The service of a backend; faults are reported. `at` is the path of the backend's field.
    pub(super) fn service(&mut self, backend: &'a IngressBackend, at: &dyn Fn() -> String) -> Backend {
        let service = match (&backend.resource, &backend.service) {
            (None, Some(service)) => service,
            (resource, _) => return self.unsupported(resource.is_some(), at),
        };
        let translated = match self.backends.get(&backend_name(service)) {
            Some(translated) => translated.clone(),
            None => self.translate_backend(service),
        };
        if let Some(broken) = &translated.broken {
            self.findings.problems.add(|| {
                let (field, value) = match broken.category {
                    Category::ServicePortNotFound => ("port", service::port_text(service)),
                    _ => ("name", service.name.clone()),
                };
                Problem {
                    category: broken.category,
                    subject: Subject::ingress(self.ingress),
                    field: format!("{}.service.{field}", at()),
                    value: Problem::shown(&value),
                    remedy: broken.remedy.to_string(),
                }
            });
        }
        if !self.annotations.blocked {
            return translated;
        }
        // The annotation has a problem with the reason.
        let broken = BrokenBackend::new(Category::EmptyListItem, "");
        Backend { service: self.answer_503("blocked"), broken: Some(broken) }
    }

    fn translate_backend(&mut self, service: &'a IngressServiceBackend) -> Backend {
        let Self { namespace, settings, stores, .. } = self;
        if self.paths <= 1 {
            let named = NamedService::new(namespace, &service.name, settings, stores);
            return named.backend(service, &mut self.findings);
        }
        let named = self
            .services
            .entry(&service.name)
            .or_insert_with(|| NamedService::new(namespace, &service.name, settings, stores));
        let before = self.findings.addresses;
        let translated = named.backend(service, &mut self.findings);
        self.budget.add_addresses(self.findings.addresses - before);
        match (&translated.service, &translated.broken) {
            (_, Some(BrokenBackend { category: Category::EntryTooLarge, .. })) => {
                self.budget.add(size::RENDERED)
            }
            (Some(fragment), None) => self.budget.add_service(&fragment.key, &fragment.service),
            // Finding and reporting a fault takes time too.
            _ => self.budget.add(size::BROKEN),
        }
        self.backends.insert(backend_name(service), translated.clone());
        translated
    }

    fn unsupported(&mut self, resource: bool, at: &dyn Fn() -> String) -> Backend {
        let remedy = if resource {
            "Traefik can't use a resource as a backend; name a service instead"
        } else {
            "the backend is empty; name a service"
        };
        self.findings.problems.add(|| Problem {
            category: Category::UnsupportedBackend,
            subject: Subject::ingress(self.ingress),
            field: at(),
            value: String::new(),
            remedy: remedy.to_owned(),
        });
        let broken = Some(BrokenBackend::new(Category::UnsupportedBackend, remedy));
        Backend { service: self.answer_503("unsupported"), broken }
    }

    /// The service of a path without one, if such a path is kept; `why` is the last part of its name.
    fn answer_503(&self, why: &str) -> Option<Arc<ServiceFragment>> {
        if self.settings.broken_backends == BrokenBackends::Drop {
            return None;
        }
        let name = self.ingress.metadata.name.as_deref().unwrap_or_default();
        let key = name::normalize_joined(&[&self.namespace, "-", name, "-", why]);
        Some(Arc::new(ServiceFragment {
            key: name::bounded(key).into(),
            owner: ServiceOwner {
                created: Created::UNKNOWN,
                service: ServiceKey::new(Arc::clone(&self.namespace), name),
                port: why.into(),
                variant: self.settings.service_variant,
            },
            service: service::without_servers(),
        }))
    }
}

/// Paths for which an Ingress has no room.
#[derive(Default)]
struct LeftOut {
    first: String,
    paths: usize,
}

/// Whether neither a host nor a path is given.
fn is_everything(host: &str, path: &HTTPIngressPath) -> bool {
    host.is_empty() && path.path.as_deref().unwrap_or_default().is_empty()
}

/// If routers of one Ingress have the same key, all get a digest of their rule. If the rules are equal too, the last
/// one is used (Traefik's `makeRouterKeyWithHash`).
fn distinct_keys(mut routers: Vec<RouterFragment>) -> Vec<RouterFragment> {
    if routers.len() < 2 {
        return routers;
    }
    let mut counts = HashMap::new();
    for router in &routers {
        *counts.entry(Arc::clone(&router.key)).or_insert(0_usize) += 1;
    }
    for router in &mut routers {
        if counts.get(&router.key).is_some_and(|&count| count > 1) {
            router.key = name::with_digest(&router.key, &router.router.rule).into();
        }
    }
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<_> =
        routers.into_iter().rev().filter(|router| seen.insert(Arc::clone(&router.key))).collect();
    kept.reverse();
    kept.shrink_to_fit();
    kept
}
