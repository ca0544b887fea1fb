//! Finds the fields of a route that differ between two routings.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::compared_route::{ComparedRoute, ComparedService};
use crate::redact;
use crate::traefik::dynamic::{HttpService, Observability};

/// Number of bytes of a value that are shown.
const VALUE_LIMIT: usize = 4 << 10;

/// The maximum number of endpoints that are all listed, and the number shown if there are more.
const URLS_LISTED: usize = 100;
const URLS_SHOWN: usize = 10;

/// A field of a route that has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedField {
    pub field: &'static str,
    pub before: String,
    pub after: String,
}

/// Compares routes. Two services are compared only once, however many routes use them.
#[derive(Debug, Default)]
pub struct RouteComparison {
    /// By memory address; the services are kept alive, so that no address is reused.
    services: HashMap<[*const ComparedService; 2], ServiceComparison>,
}

#[derive(Debug)]
struct ServiceComparison {
    _compared: [Arc<ComparedService>; 2],
    servers: Vec<ChangedField>,
    rest: Vec<ChangedField>,
}

/// Adds a field whose values differ.
fn compare(changed: &mut Vec<ChangedField>, field: &'static str, before: String, after: String) {
    if before == after {
        return;
    }
    // The value of an annotation is in each of thousands of routes.
    let shown =
        |value: String| if value.len() > VALUE_LIMIT { redact::shown(&value, VALUE_LIMIT) } else { value };
    changed.push(ChangedField { field, before: shown(before), after: shown(after) });
}

impl ServiceComparison {
    fn new(old: &Arc<ComparedService>, new: &Arc<ComparedService>) -> Self {
        let (mut servers, mut rest) = (Vec::new(), Vec::new());
        if let (Some(one), Some(other)) = (&old.servers, &new.servers)
            && one != other
        {
            compare(&mut servers, "endpoints", urls(one, Some(other)), urls(other, Some(one)));
        }
        let (one, other) = (&old.fenced, &new.fenced);
        if one != other {
            compare(&mut servers, "fenced endpoints", urls(one, Some(other)), urls(other, Some(one)));
        }
        if old.rest != new.rest {
            compare(&mut rest, "service", service(&old.rest), service(&new.rest));
        }
        Self { _compared: [Arc::clone(old), Arc::clone(new)], servers, rest }
    }
}

impl RouteComparison {
    /// The fields that differ.
    pub fn fields(&mut self, old: &ComparedRoute, new: &ComparedRoute) -> Vec<ChangedField> {
        let places = [Arc::as_ptr(&old.service), Arc::as_ptr(&new.service)];
        let services =
            self.services.entry(places).or_insert_with(|| ServiceComparison::new(&old.service, &new.service));
        let mut changed = Vec::new();
        let mut differ = |field, before, after| compare(&mut changed, field, before, after);
        if let (Some(one), Some(other)) = (&old.backend, &new.backend) {
            differ("backend", one.clone(), other.clone());
        }
        let mut further = Vec::new();
        let mut differ = |field, before, after| compare(&mut further, field, before, after);
        if old.tls != new.tls {
            differ("TLS", tls(old), tls(new));
        }
        if old.middlewares != new.middlewares {
            differ("middlewares", list(&*old.middlewares), list(&*new.middlewares));
        }
        if old.priority != new.priority {
            differ("priority", old.priority.to_string(), new.priority.to_string());
        }
        if old.rule_syntax != new.rule_syntax {
            let named =
                |syntax: &str| if syntax.is_empty() { "Traefik's default" } else { syntax }.to_owned();
            differ("rule syntax", named(&old.rule_syntax), named(&new.rule_syntax));
        }
        if old.observability != new.observability {
            differ("observability", observability(&old.observability), observability(&new.observability));
        }
        [&*changed, &services.servers, &further, &services.rest].concat()
    }
}

fn tls(route: &ComparedRoute) -> String {
    let Some(tls) = &route.tls else { return "off".to_owned() };
    let mut parts = vec!["on".to_owned()];
    let named = [("options", &tls.options), ("resolver", &tls.cert_resolver)];
    parts.extend(named.iter().filter(|(_, v)| !v.is_empty()).map(|(name, value)| format!("{name} {value}")));
    let domains = tls.domains.iter().map(|domain| format!("domain {} ({})", domain.main, list(&domain.sans)));
    parts.extend(domains);
    parts.join(", ")
}

fn observability(one: &Observability) -> String {
    let Observability { access_logs, metrics, tracing, trace_verbosity } = one;
    let switch = |name: &str, value: &Option<bool>| value.map(|on| format!("{name} {on}"));
    let parts = [
        switch("accessLogs", access_logs),
        switch("metrics", metrics),
        switch("tracing", tracing),
        trace_verbosity.as_ref().map(|verbosity| format!("traceVerbosity {verbosity:?}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "default".to_owned() } else { parts.join(", ") }
}

/// The properties of a service, besides its servers.
fn service(one: &HttpService) -> String {
    let mut parts = Vec::new();
    if !one.middlewares.is_empty() {
        parts.push(format!("middlewares {}", list(&one.middlewares)));
    }
    let balancer = &one.load_balancer;
    if let Some(cookie) = balancer.sticky.as_ref().and_then(|sticky| sticky.cookie.as_ref()) {
        parts.push(format!("sticky {}", serde_json::to_string(cookie).unwrap_or_default()));
    }
    if balancer.pass_host_header == Some(false) {
        parts.push("passHostHeader false".to_owned());
    }
    if !balancer.servers_transport.is_empty() {
        parts.push(format!("serversTransport {}", balancer.servers_transport));
    }
    if parts.is_empty() { "default".to_owned() } else { parts.join(", ") }
}

/// The URLs of endpoints. If there are very many, the first of those that `other` does not have.
pub fn urls(all: &BTreeSet<String>, other: Option<&BTreeSet<String>>) -> String {
    if all.len().max(other.map_or(0, BTreeSet::len)) <= URLS_LISTED {
        return list(all);
    }
    let own: Vec<&String> =
        all.iter().filter(|url| other.is_none_or(|other| !other.contains(*url))).collect();
    let mut parts: Vec<String> = own.iter().take(URLS_SHOWN).map(|url| (*url).clone()).collect();
    let (more, kept) = (own.len() - parts.len(), all.len() - own.len());
    parts.extend((more > 0).then(|| format!("{more} more")));
    parts.extend((kept > 0).then(|| format!("{kept} unchanged")));
    list(&parts)
}

/// Texts with commas between, or `none`.
pub fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
