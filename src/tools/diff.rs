//! Routes gained, lost and changed between two routings: by what they serve, not by name.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::compared_route::{ComparedRoute, LoadedEntryPoint, in_words};
use super::raw_data::KUBERNETES;
use crate::traefik::dynamic::{HttpService, Observability};
use crate::translate::name::DEFAULT_ROUTER;

/// One side of a comparison.
#[derive(Debug, Default)]
pub struct ComparedSide {
    /// Routes by output; what is no output of waybill's is the output `""`.
    pub routes: BTreeMap<String, Vec<ComparedRoute>>,
    /// Those of the Traefik that the routes come from.
    pub entry_points: Option<Vec<LoadedEntryPoint>>,
    /// The providers of that Traefik that are compared.
    pub providers: Vec<String>,
}

/// What has become of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteChange {
    Lost,
    Gained,
    Changed,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteDifference {
    pub change: RouteChange,
    /// Only where several outputs are compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Host and path.
    pub route: String,
    pub rule: String,
    /// Empty stands for Traefik's default entry points.
    pub entry_points: Vec<String>,
    pub tls: bool,
    /// Where it leads: a Service, or the URLs of servers.
    pub backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of a changed route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ChangedField>,
    /// Where waybill differs from Traefik's own provider on purpose: the subject in docs/migration.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliberate: Option<&'static str>,
}

/// What of a route has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedField {
    pub field: &'static str,
    pub before: String,
    pub after: String,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoutingDiff {
    pub lost: usize,
    pub gained: usize,
    pub changed: usize,
    pub unchanged: usize,
    /// How many of the differences are on purpose.
    pub deliberate: usize,
    pub differences: Vec<RouteDifference>,
}

/// An output, a rule and an entry point.
type RouteIdentity = (String, String, String);

/// What one route is on both sides.
#[derive(Default)]
struct BothSides {
    before: Vec<ComparedRoute>,
    after: Vec<ComparedRoute>,
}

/// Compares. Where one side is a Traefik, the other is taken as that Traefik would load it: with the settings of its
/// entry points.
pub fn diff(before: ComparedSide, after: ComparedSide) -> RoutingDiff {
    let own_provider = |side: &ComparedSide| side.providers.iter().any(|name| name == KUBERNETES);
    let (from_traefik, to_traefik) = (own_provider(&before), own_provider(&after));
    let providers: BTreeSet<String> = before.providers.iter().chain(&after.providers).cloned().collect();
    let several = before.routes.len().max(after.routes.len()) > 1;
    let (before_points, after_points) = (before.entry_points.clone(), after.entry_points.clone());
    let mut all: BTreeMap<RouteIdentity, BothSides> = BTreeMap::new();
    spread(before, after_points.as_deref(), &providers, &mut all, |both| &mut both.before);
    spread(after, before_points.as_deref(), &providers, &mut all, |both| &mut both.after);

    let any_empty = all.keys().any(|(_, rule, _)| rule.is_empty());
    let mut counted = None;
    let mut outcome = RoutingDiff::default();
    let mut merged: BTreeMap<RouteDifference, Vec<String>> = BTreeMap::new();
    for ((output, rule, entry_point), BothSides { before, after }) in all {
        let routes = before.len();
        let (before, after) = without_equal(before, after);
        // A route on two entry points is one.
        let identity = Some((output.clone(), rule));
        if routes > before.len() && counted != identity {
            outcome.unchanged += routes - before.len();
            counted = identity;
        }
        let pairs = before.len().max(after.len());
        for at in 0..pairs {
            let (old, new) = (before.get(at), after.get(at));
            let Some(mut one) = difference(old, new) else { continue };
            one.deliberate = match (from_traefik, to_traefik) {
                (true, false) => deliberate(old, new, any_empty),
                (false, true) => deliberate(new, old, any_empty),
                _ => None,
            };
            if several {
                one.output.clone_from(&output);
            }
            merged.entry(one).or_default().extend((!entry_point.is_empty()).then(|| entry_point.clone()));
        }
    }
    for (mut one, entry_points) in merged {
        one.entry_points = entry_points;
        match one.change {
            RouteChange::Lost => outcome.lost += 1,
            RouteChange::Gained => outcome.gained += 1,
            RouteChange::Changed => outcome.changed += 1,
        }
        outcome.deliberate += usize::from(one.deliberate.is_some());
        outcome.differences.push(one);
    }
    outcome
}

/// Puts the routes of a side where they are compared, one for each entry point.
fn spread(
    side: ComparedSide,
    loaded_by: Option<&[LoadedEntryPoint]>,
    providers: &BTreeSet<String>,
    all: &mut BTreeMap<RouteIdentity, BothSides>,
    own: impl Fn(&mut BothSides) -> &mut Vec<ComparedRoute>,
) {
    let loaded_by = loaded_by.filter(|_| side.entry_points.is_none());
    for (output, routes) in side.routes {
        for route in routes {
            let spread = match loaded_by {
                Some(entry_points) => route.loaded(entry_points),
                None => route.by_entry_point(),
            };
            for mut route in spread {
                for reference in route.references() {
                    if let Some((name, provider)) = reference.rsplit_once('@')
                        && providers.contains(provider)
                    {
                        reference.truncate(name.len());
                    }
                }
                let entry_point = route.entry_points.first().cloned().unwrap_or_default();
                let identity = (output.clone(), route.rule.clone(), entry_point);
                own(all.entry(identity).or_default()).push(route);
            }
        }
    }
}

/// What is left of both when equal routes are taken out, in the order of their names.
fn without_equal(
    mut before: Vec<ComparedRoute>,
    mut after: Vec<ComparedRoute>,
) -> (Vec<ComparedRoute>, Vec<ComparedRoute>) {
    before.sort_by(|one, other| one.name.cmp(&other.name));
    after.sort_by(|one, other| one.name.cmp(&other.name));
    let mut left = Vec::new();
    for old in before {
        let near = after.iter().take(PAIRS_TRIED).position(|new| fields(&old, new).is_empty());
        match near {
            Some(at) => {
                after.remove(at);
            }
            None => left.push(old),
        }
    }
    (left, after)
}

/// Routes of the same rule and entry point that one is compared with.
const PAIRS_TRIED: usize = 100;

fn difference(old: Option<&ComparedRoute>, new: Option<&ComparedRoute>) -> Option<RouteDifference> {
    let route = new.or(old)?;
    let change = match (old, new) {
        (Some(_), Some(_)) => RouteChange::Changed,
        (Some(_), None) => RouteChange::Lost,
        (None, _) => RouteChange::Gained,
    };
    Some(RouteDifference {
        change,
        output: String::new(),
        route: in_words(&route.rule),
        rule: route.rule.clone(),
        entry_points: Vec::new(),
        tls: route.tls.is_some(),
        backend: backend(route),
        from: route.from.clone().or_else(|| old.and_then(|old| old.from.clone())),
        fields: old.zip(new).map_or_else(Vec::new, |(old, new)| fields(old, new)),
        deliberate: None,
    })
}

fn backend(route: &ComparedRoute) -> String {
    route.backend.clone().unwrap_or_else(|| list(route.servers.iter().flatten()))
}

fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// The fields that differ.
fn fields(old: &ComparedRoute, new: &ComparedRoute) -> Vec<ChangedField> {
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

/// The subject in docs/migration.md of a difference between Traefik's own provider and waybill. `any_empty` says whether
/// Traefik has an empty rule.
fn deliberate(
    theirs: Option<&ComparedRoute>,
    ours: Option<&ComparedRoute>,
    any_empty: bool,
) -> Option<&'static str> {
    let empty_rule = r#"PathPrefix("/")"#;
    match (theirs, ours) {
        (None, Some(ours)) => {
            let catches_all = any_empty && ours.rule == empty_rule && ours.name != DEFAULT_ROUTER;
            catches_all.then_some("a path entry with neither host nor path")
        }
        (Some(theirs), None) if theirs.rule.is_empty() => Some("a path entry with neither host nor path"),
        (Some(theirs), None) => {
            let mut copy = theirs.clone();
            let odd = |url: &String| {
                !["http://", "https://", "h2c://"].iter().any(|scheme| url.starts_with(scheme))
            };
            let namespace =
                theirs.from.as_deref().and_then(|from| from.strip_prefix("Ingress ")?.split_once('/'));
            let foreign = |name: &str| {
                let own = namespace.is_none_or(|(own, _)| name.starts_with(&format!("{own}-")));
                name.ends_with("@kubernetescrd") && !own
            };
            if copy.references().any(|name| foreign(name)) {
                Some("a reference to a CRD object of another namespace")
            } else if theirs.middlewares.iter().chain(&theirs.service.middlewares).any(String::is_empty) {
                Some("an empty list item")
            } else if theirs.servers.iter().flatten().any(odd) {
                Some("a `service.serversscheme` other than `http`, `https` or `h2c`")
            } else {
                None
            }
        }
        (Some(theirs), Some(ours)) => {
            let fields = fields(theirs, ours);
            let only = |names: &[&str]| fields.iter().all(|field| names.contains(&field.field));
            let unfenced = || -> BTreeSet<String> {
                let servers = theirs.servers.iter().flatten();
                servers.filter(|url| !theirs.fenced.contains(*url)).cloned().collect()
            };
            let same_but_fenced = || ours.servers.as_ref().is_some_and(|servers| *servers == unfenced());
            if only(&["rule syntax"]) && theirs.rule_syntax.is_empty() && ours.rule_syntax == "v2" {
                Some("`core.defaultRuleSyntax: v2`")
            } else if only(&["fenced endpoints"])
                || only(&["fenced endpoints", "endpoints"]) && !theirs.fenced.is_empty() && same_but_fenced()
            {
                Some("endpoints that terminate but still serve")
            } else {
                None
            }
        }
        (None, None) => None,
    }
}
