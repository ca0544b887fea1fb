//! Checks routes: hidden ones, equal ones, shared hosts, and paths that do not mean what they seem to mean.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::certificates::{self, ServedNames};
use super::regions::{HostRegion, LintedRoute, compare};
use super::{LintFinding, LintInput, Severity, tls_hosts};
use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::kubernetes::manifests::TraefikObject;
use crate::kubernetes::well_known::TRAEFIK_PREFIX;
use crate::routing::Routing;
use crate::tools::compared_route::in_words;
use crate::tools::fields::RuleFields;
use crate::tools::tls_options::{OptionsLoss, TlsOptions};
use crate::translate::fragment::Fragment;
use crate::translate::reference::CRD_PROVIDER;
use crate::translate::rule::PathType;
use crate::translate::settings::Precedence;

/// Fields of routes; those of an Ingress are computed once it has a finding.
struct RouteFields<'a> {
    routing: &'a Routing,
    known: HashMap<&'a IngressKey, RuleFields>,
}

impl<'a> RouteFields<'a> {
    /// The fields of a route's host and path; empty if there is none.
    fn of(&mut self, route: &LintedRoute<'a>) -> (String, String) {
        if route.owner.is_none() {
            return (String::new(), "spec.defaultBackend".to_owned());
        }
        let ingress = &route.fragment.ingress;
        let ingresses = self.routing.stores().ingresses();
        let fields = self.known.entry(ingress).or_insert_with(|| {
            ingresses.get(ingress).map_or_else(RuleFields::default, |one| RuleFields::new(one))
        });
        let field = fields.get(&route.ranked.router.rule);
        field
            .map_or_else(Default::default, |field| (format!("spec.rules[{}].host", field.rule), field.path()))
    }

    fn of_host(&mut self, code: &'static str, route: &LintedRoute<'a>, text: String) -> LintFinding {
        LintFinding::new(code, object(route.fragment), self.of(route).0, text)
    }

    fn of_path(&mut self, code: &'static str, route: &LintedRoute<'a>, text: String) -> LintFinding {
        LintFinding::new(code, object(route.fragment), self.of(route).1, text)
    }
}

fn object(fragment: &Fragment) -> String {
    format!("Ingress {}", fragment.ingress)
}

/// Checks the routes of an output.
pub fn findings(routing: &Routing, input: &LintInput, routes: &[LintedRoute<'_>]) -> Vec<LintFinding> {
    let mut fields = RouteFields { routing, known: HashMap::new() };
    let mut found = without_requests(routes, &mut fields);
    let served = ServedNames::new(routes);
    let mut uncovered = HashSet::new();
    for (at, host) in certificates::uncovered(routing, routes, &served) {
        let fragment = routes[at].fragment;
        let text = certificates::missing(&host, fragment);
        found.push(fields.of_host("CertificateHostMissing", &routes[at], text));
        uncovered.insert((&fragment.ingress, host));
    }
    found.extend(tls_hosts::findings(routing, input, routes, &served, &uncovered));
    found.extend(shared_hosts(routes, &mut fields));
    found.extend(mixed_tls(routing, routes, &mut fields));
    found.extend(lost_options(routing, routes));
    found.extend(references(input, routes));
    found
}

/// Routes that get no request, and those for which this is undefined.
fn without_requests<'a>(routes: &[LintedRoute<'a>], fields: &mut RouteFields<'a>) -> Vec<LintFinding> {
    let mut found = Vec::new();
    let (hidden, same) = compare(routes);
    for (at, by) in hidden {
        let (route, hider) = (&routes[at], &routes[by]);
        let (_, other) = fields.of(hider);
        let text = format!(
            "{} never gets a request: Ingress {}, {other} takes all of them first (router {}, {}, priority {}; this \
             one has {})",
            in_words(&route.ranked.router.rule),
            hider.fragment.ingress,
            hider.name,
            in_words(&hider.ranked.router.rule),
            hider.ranked.priority,
            route.ranked.priority,
        );
        let finding = fields.of_path("UnreachableRoute", route, text);
        found.push(match route.owner {
            Some(_) => finding,
            None => finding.with_remedy("remove the default backend, or narrow the other route"),
        });
    }
    for (at, first) in same {
        let (route, first) = (&routes[at], &routes[first]);
        let (_, other) = fields.of(first);
        let text = format!(
            "{} is also in Ingress {}, {other}, with the same priority {}: which of the two Traefik uses \
             is undefined",
            in_words(&route.ranked.router.rule),
            first.fragment.ingress,
            route.ranked.priority
        );
        found.push(fields.of_path("DuplicateRoute", route, text));
    }
    for route in routes {
        if let Some((why, _)) = route.ranked.refusal() {
            let text = format!("{why} ({})", route.ranked.router.rule);
            found.push(fields.of_path("RefusedRule", route, text));
        } else if route.region.as_ref().is_some_and(|region| !region.is_attainable()) {
            let text = format!(
                "{} never gets a request: Traefik resolves and decodes a path before it compares it",
                in_words(&route.ranked.router.rule)
            );
            found.push(fields.of_path("UnreachablePath", route, text));
        }
    }
    found
}

/// Hosts with routes of Ingresses of several namespaces: one finding for each namespace except the oldest one's.
fn shared_hosts<'a>(routes: &[LintedRoute<'a>], fields: &mut RouteFields<'a>) -> Vec<LintFinding> {
    let mut first: HashMap<&HostRegion, &IngressKey> = HashMap::new();
    let mut told: HashSet<(&HostRegion, &str)> = HashSet::new();
    let mut found = Vec::new();
    for route in routes {
        let Some(host) = route.region.as_ref().map(|region| &region.host) else { continue };
        let own = &route.fragment.ingress;
        let first = *first.entry(host).or_insert(own);
        if *host == HostRegion::Any
            || first.namespace() == own.namespace()
            || !told.insert((host, own.namespace()))
        {
            continue;
        }
        let text = format!("Ingress {first} of another namespace has routes on {host} too");
        found.push(fields.of_host("HostInTwoNamespaces", route, text));
    }
    found
}

/// Hosts with TLS in one Ingress and without in another, on the same entry point.
fn mixed_tls<'a>(
    routing: &Routing,
    routes: &[LintedRoute<'a>],
    fields: &mut RouteFields<'a>,
) -> Vec<LintFinding> {
    let has_tls = |route: &LintedRoute<'_>| {
        let ingress = routing.stores().ingresses().get(&route.fragment.ingress);
        let spec = ingress.and_then(|ingress| ingress.spec.as_ref());
        route.ranked.router.tls.is_some()
            || spec.and_then(|spec| spec.tls.as_ref()).is_some_and(|entries| !entries.is_empty())
    };
    let mut with: HashMap<(&HostRegion, &str), &IngressKey> = HashMap::new();
    let mut without: Vec<(&LintedRoute<'a>, &HostRegion)> = Vec::new();
    for route in routes {
        let Some(host) = route.region.as_ref().map(|region| &region.host) else { continue };
        if *host == HostRegion::Any {
            continue;
        }
        if !has_tls(route) {
            without.push((route, host));
            continue;
        }
        for entry_point in &route.entry_points {
            with.entry((host, entry_point)).or_insert(&route.fragment.ingress);
        }
    }
    let mut told: HashSet<(&HostRegion, &IngressKey)> = HashSet::new();
    let mut found = Vec::new();
    for (route, host) in without {
        let other = route.entry_points.iter().find_map(|entry_point| with.get(&(host, *entry_point)));
        if let Some(other) = other
            && told.insert((host, &route.fragment.ingress))
        {
            let text = format!(
                "Ingress {other} has TLS on {host}, but this one has neither spec.tls nor router.tls"
            );
            found.push(fields.of_host("MixedTls", route, text));
        }
    }
    found
}

/// TLS options that Traefik does not apply: one finding for each Ingress and host.
fn lost_options(routing: &Routing, routes: &[LintedRoute<'_>]) -> Vec<LintFinding> {
    let all = TlsOptions::new(routing, routes.iter().map(|route| (route.fragment, route.ranked.router)));
    let mut told: HashSet<(&IngressKey, Option<String>)> = HashSet::new();
    let mut found = Vec::new();
    for route in routes {
        let router = route.ranked.router;
        let (Some(tls), Some(loss)) = (&router.tls, all.loss(router)) else { continue };
        let host = match &loss {
            OptionsLoss::NoHost => None,
            OptionsLoss::Conflict { host, .. } => Some(host.clone()),
        };
        if !told.insert((&route.fragment.ingress, host)) {
            continue;
        }
        let verb = if loss.is_uncertain() { "may not" } else { "does not" };
        let text = format!("{} {verb} apply: {loss}", tls.options);
        let field = format!("metadata.annotations[{TRAEFIK_PREFIX}router.tls.options]");
        let mut finding = LintFinding::new("TlsOptionsConflict", object(route.fragment), field, text);
        if loss.is_uncertain() {
            finding.severity = Severity::Warning;
        }
        found.push(match loss {
            OptionsLoss::NoHost => finding.with_remedy(
                "give each rule a host (a wildcard only without rule syntax v2), or make these the default TLS \
                 options of Traefik",
            ),
            OptionsLoss::Conflict { .. } => finding,
        });
    }
    found
}

/// References to objects of Traefik's CRD provider that are not in the input.
fn references(input: &LintInput, routes: &[LintedRoute<'_>]) -> BTreeSet<LintFinding> {
    let mut found = BTreeSet::new();
    let mut check = |kind: &'static str, names: &[String], object: &dyn Fn() -> String, annotation: &str| {
        for name in names.iter().filter_map(|name| name.strip_suffix(CRD_PROVIDER)) {
            let Some(has_others) = input.lacks(&TraefikObject { kind, name: name.into() }) else { continue };
            let text = format!("{name}{CRD_PROVIDER}: no {kind} of the input has this name");
            let field = format!("metadata.annotations[{TRAEFIK_PREFIX}{annotation}]");
            let mut finding = LintFinding::new("ReferenceNotFound", object(), field, text);
            // If there is none of its kind at all, they are elsewhere.
            if !has_others {
                finding.severity = Severity::Note;
            }
            found.insert(finding);
        }
    };
    // The routers of an Ingress share their references, and so do those of a Service.
    let mut ingresses: HashSet<&IngressKey> = HashSet::new();
    let mut services = HashSet::new();
    for route in routes {
        let ingress = || object(route.fragment);
        let router = route.ranked.router;
        if ingresses.insert(&route.fragment.ingress)
            && router.middlewares != route.fragment.settings.default_middlewares
        {
            check("Middleware", &router.middlewares, &ingress, "router.middlewares");
        }
        if let Some(tls) = &router.tls
            && !tls.options.is_empty()
        {
            check("TLSOption", std::slice::from_ref(&tls.options), &ingress, "router.tls.options");
        }
        if let Some(owner) = route.owner
            && services.insert(&owner.owner)
        {
            let service = || format!("Service {}", owner.owner.service);
            let http = &owner.service;
            check("Middleware", &http.middlewares, &service, "service.middlewares");
            let transport = std::slice::from_ref(&http.load_balancer.servers_transport);
            check("ServersTransport", transport, &service, "service.serverstransport");
        }
    }
    found
}

/// Characters and words that occur in patterns but hardly ever in paths.
fn looks_like_pattern(path: &str) -> bool {
    [".*", ".+", "*", "(", "[", "\\", "|", "{"].iter().any(|part| path.contains(part))
        || path.starts_with("/^")
        || path.ends_with('$')
}

/// Checks the written paths of our Ingresses.
pub fn path_findings(routing: &Routing) -> Vec<LintFinding> {
    let mut fragments: Vec<_> = routing.table().fragments().collect();
    fragments.sort_by(|one, other| one.ingress.cmp(&other.ingress));
    let mut found = Vec::new();
    for fragment in fragments {
        if let Some(ingress) = routing.stores().ingresses().get(&fragment.ingress) {
            paths_of(fragment, ingress, &mut found);
        }
    }
    found
}

fn paths_of(fragment: &Arc<Fragment>, ingress: &Ingress, found: &mut Vec<LintFinding>) {
    let object = || object(fragment);
    let settings = &fragment.settings;
    let annotations = ingress.metadata.annotations.iter().flatten();
    let by_pattern = annotations
        .filter_map(|(key, value)| Some((key.strip_prefix(TRAEFIK_PREFIX)?, value)))
        .any(|(key, value)| key.eq_ignore_ascii_case("router.pathmatcher") && value == "PathRegexp");
    let templates = fragment.routers.iter().any(|one| one.router.rule_syntax == "v2");
    let letters = !settings.strict_prefix_matching && settings.precedence == Precedence::Traefik;
    let mut seen: BTreeMap<(&str, &str, &str), String> = BTreeMap::new();
    let mut open: Option<(String, &str, usize)> = None;
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    for (at, rule) in rules.enumerate() {
        for (path_at, one) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            let path = one.path.as_deref().unwrap_or_default();
            let field = || format!("spec.rules[{at}].http.paths[{path_at}]");
            let host = rule.host.as_deref().unwrap_or_default();
            if let Some(before) = seen.insert((host, path, &one.path_type), field()) {
                let text =
                    format!("{host}{path} is in the same Ingress at {before} too; the last one is used");
                found.push(LintFinding::new("DuplicateRoute", object(), field(), text));
            }
            match PathType::parse(Some(&one.path_type)) {
                PathType::ImplementationSpecific if by_pattern => {
                    let text = format!("PathRegexp looks for {path:?} anywhere in the path");
                    found.push(LintFinding::new("UnanchoredPattern", object(), field(), text));
                }
                kind => {
                    if looks_like_pattern(path) && !(templates && path.contains('{')) {
                        let text = format!("{path:?} looks like a pattern, but is compared literally");
                        found.push(LintFinding::new("PatternInPath", object(), field(), text));
                    }
                    if kind == PathType::Prefix && letters && !path.is_empty() && !path.ends_with('/') {
                        let (_, _, count) = open.get_or_insert((field(), path, 0));
                        *count += 1;
                    }
                }
            }
        }
    }
    if let Some((field, path, count)) = open {
        let others = match count {
            1 => String::new(),
            2 => "; so does another path of this Ingress".to_owned(),
            count => format!("; so do {} other paths of this Ingress", count - 1),
        };
        let text = format!("{path} takes {path}x too, because Traefik compares a Prefix as text{others}");
        found.push(LintFinding::new("PrefixNotStrict", object(), field, text));
    }
}
