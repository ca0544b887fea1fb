//! Checks the hosts of `spec.tls`. Traefik ignores them, but tools that issue certificates use them.

use std::collections::{BTreeMap, HashSet};

use super::certificates::{self, ServedNames};
use super::regions::LintedRoute;
use super::{LintFinding, LintInput};
use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::routing::Routing;
use crate::tools::certificate::wildcard;
use crate::translate::fragment::Fragment;

/// The hosts that a text names.
const SHOWN: usize = 5;

/// Hosts in lower case, including wildcards `*.`.
#[derive(Default)]
struct HostSet {
    hosts: HashSet<String>,
    /// The wildcards that match these hosts.
    above: HashSet<String>,
}

impl HostSet {
    fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts: HashSet<String> = hosts.into_iter().collect();
        Self { above: hosts.iter().filter_map(|host| wildcard(host)).collect(), hosts }
    }

    /// Whether it contains a host, a wildcard for it, or a host that it matches.
    fn meets(&self, host: &str) -> bool {
        self.hosts.contains(host)
            || self.above.contains(host)
            || wildcard(host).is_some_and(|above| self.hosts.contains(&above))
    }
}

/// Hosts of `spec.tls` without a route or a certificate, and hosts of rules that `spec.tls` lacks. Those in `uncovered`
/// are reported already.
pub fn findings(
    routing: &Routing,
    input: &LintInput,
    routes: &[LintedRoute<'_>],
    served: &ServedNames<'_>,
    uncovered: &HashSet<(&IngressKey, String)>,
) -> Vec<LintFinding> {
    let mut fragments: BTreeMap<&IngressKey, (&Fragment, bool)> = BTreeMap::new();
    let routed = HostSet::new(routes.iter().filter_map(|route| route.region.as_ref()?.host.name()));
    for route in routes {
        let resolved = route.ranked.router.tls.as_ref().is_some_and(|tls| !tls.cert_resolver.is_empty());
        let (_, known) = fragments.entry(&route.fragment.ingress).or_insert((route.fragment, false));
        *known |= resolved;
    }
    let mut found = Vec::new();
    for (key, (fragment, resolved)) in fragments {
        let entries = input.tls_hosts(key);
        let Some(ingress) = routing.stores().ingresses().get(key).filter(|_| !entries.is_empty()) else {
            continue;
        };
        let certain = served.are_all_of(fragment, routing);
        let mut told = |code, field, text| {
            found.push(LintFinding::new(code, format!("Ingress {key}"), field, text));
        };
        let rules = rule_hosts(ingress);
        let own = HostSet::new(rules.keys().cloned());
        let everything = rules.contains_key("");
        for (at, hosts) in entries.iter().enumerate() {
            for (host_at, written) in hosts.iter().enumerate() {
                let host = written.to_ascii_lowercase();
                let field = || format!("spec.tls[{at}].hosts[{host_at}]");
                if !everything && !own.meets(&host) && !routed.meets(&host) {
                    told(
                        "TlsHostsMismatch",
                        field(),
                        format!("spec.tls names {written}, but no rule has this host"),
                    );
                } else if certain
                    && !resolved
                    && !served.cover(&host)
                    && !uncovered.contains(&(key, host.clone()))
                {
                    told("CertificateHostMissing", field(), certificates::missing(&host, fragment));
                }
            }
        }
        // An entry without hosts covers all of them.
        if entries.iter().any(Vec::is_empty) || resolved {
            continue;
        }
        let hosts = || entries.iter().flatten();
        let named = HostSet::new(hosts().map(|host| host.to_ascii_lowercase()));
        for (rule, at) in rules.iter().filter(|(rule, _)| !rule.is_empty()) {
            if !named.meets(rule) && !served.cover(rule) && !uncovered.contains(&(key, rule.clone())) {
                let shown: Vec<&str> = hosts().take(SHOWN).map(String::as_str).collect();
                let more = if hosts().count() > SHOWN { " and others" } else { "" };
                let text = format!("spec.tls names {}{more}, and not {rule}", shown.join(", "));
                told("TlsHostsMismatch", format!("spec.rules[{at}].host"), text);
            }
        }
    }
    found
}

/// The hosts of an Ingress in lower case, each with its first rule; the empty one stands for every host.
fn rule_hosts(ingress: &Ingress) -> BTreeMap<String, usize> {
    let mut hosts = BTreeMap::new();
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    for (at, rule) in rules.enumerate() {
        hosts.entry(rule.host.as_deref().unwrap_or_default().to_ascii_lowercase()).or_insert(at);
    }
    if hosts.is_empty() {
        hosts.insert(String::new(), 0);
    }
    hosts
}
