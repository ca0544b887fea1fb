//! What of a route differs between two routings.

use serde::Serialize;

use super::compared_route::ComparedRoute;
use crate::traefik::dynamic::{HttpService, Observability};

/// What of a route has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedField {
    pub field: &'static str,
    pub before: String,
    pub after: String,
}

/// The fields that differ.
pub fn fields(old: &ComparedRoute, new: &ComparedRoute) -> Vec<ChangedField> {
    let mut changed = Vec::new();
    let mut compare = |field, before: String, after: String| {
        if before != after {
            changed.push(ChangedField { field, before, after });
        }
    };
    if let (Some(one), Some(other)) = (&old.backend, &new.backend) {
        compare("backend", one.clone(), other.clone());
    }
    if old.servers != new.servers
        && let (Some(one), Some(other)) = (&old.servers, &new.servers)
    {
        compare("endpoints", list(one), list(other));
    }
    if old.fenced != new.fenced {
        compare("fenced endpoints", list(&old.fenced), list(&new.fenced));
    }
    if old.tls != new.tls {
        compare("TLS", tls(old), tls(new));
    }
    if old.middlewares != new.middlewares {
        compare("middlewares", list(&old.middlewares), list(&new.middlewares));
    }
    if old.priority != new.priority {
        compare("priority", old.priority.to_string(), new.priority.to_string());
    }
    if old.rule_syntax != new.rule_syntax {
        let named = |syntax: &str| if syntax.is_empty() { "Traefik's default" } else { syntax }.to_owned();
        compare("rule syntax", named(&old.rule_syntax), named(&new.rule_syntax));
    }
    if old.observability != new.observability {
        compare("observability", observability(&old.observability), observability(&new.observability));
    }
    if old.service != new.service {
        compare("service", service(&old.service), service(&new.service));
    }
    changed
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

/// What is said of a service, besides its servers.
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

/// Texts with commas between, or `none`.
pub fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
