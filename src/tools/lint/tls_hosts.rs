//! Hosts of `spec.tls`. Traefik does not read them, but what makes certificates does.

use std::collections::{BTreeMap, HashSet};

use super::certificates::{self, ServedNames};
use super::regions::LintedRoute;
use super::{LintFinding, LintInput};
use crate::kubernetes::Ingress;
use crate::kubernetes::key::IngressKey;
use crate::routing::Routing;
use crate::traefik::certificate::wildcard;
use crate::translate::fragment::Fragment;

/// Hosts that a text names.
const SHOWN: usize = 5;

/// Hosts in lower case, some of which begin with `*.`.
#[derive(Default)]
struct HostSet {
    hosts: HashSet<String>,
    /// The wildcards that the hosts are below.
    above: HashSet<String>,
}

impl HostSet {
    fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts: HashSet<String> = hosts.into_iter().collect();
        Self { above: hosts.iter().filter_map(|host| wildcard(host)).collect(), hosts }
    }

    /// Whether a host is one of these, or is below one, or has one below it.
    fn meets(&self, host: &str) -> bool {
        self.hosts.contains(host)
            || self.above.contains(host)
            || wildcard(host).is_some_and(|above| self.hosts.contains(&above))
    }
}

/// Hosts of `spec.tls` that no route or no certificate is for, and hosts of rules that are missing in it. Those of
/// `uncovered` are reported already.
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
                        format!("spec.tls names {written}, and no rule is for it"),
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
        // An entry without hosts is for all of them.
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
