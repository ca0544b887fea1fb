//! TLS options that a router names and Traefik does not apply.
//!
//! Source: `findConflictingRouters` of Traefik's pkg/server/aggregator.go.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use crate::kubernetes::key::IngressKey;
use crate::routing::Routing;
use crate::traefik::dynamic::{Router, RouterTls};
use crate::translate::fragment::Fragment;

/// The options of a router that names none.
const DEFAULT: &str = "default";

/// The TLS options of each host on each entry point.
#[derive(Debug)]
pub struct TlsOptions<'a>(HashMap<String, BTreeMap<&'a str, OptionsUsers<'a>>>);

/// The first user of a host on an entry point, and the first with other options.
#[derive(Debug)]
struct OptionsUsers<'a> {
    first: OptionsUser<'a>,
    other: Option<OptionsUser<'a>>,
}

/// An Ingress with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionsUser<'a> {
    ingress: &'a IngressKey,
    options: &'a str,
    /// It has TLS only if its entry point has it.
    by_entry_point: bool,
}

/// The TLS options that a router names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedOptions {
    pub name: String,
    /// Why Traefik does not apply them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// Why Traefik applies its default TLS options instead of those that a router names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsLoss<'a> {
    /// Options are chosen by the host that a client names before its request.
    NoHost,
    /// Another Ingress has others for the same host.
    Conflict { host: String, other: OptionsUser<'a> },
}

impl OptionsLoss<'_> {
    /// Whether it depends on an entry point's own TLS, which is not known here.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Conflict { other, .. } if other.by_entry_point)
    }
}

impl fmt::Display for OptionsLoss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Conflict { host, other } = self else {
            return f.write_str("Traefik chooses TLS options by Host(…), and the rule has none");
        };
        let OptionsUser { ingress, options, by_entry_point } = other;
        let options = if *options == DEFAULT { "no TLS options" } else { *options };
        let how = if *by_entry_point { "; if its entry point has TLS, Traefik" } else { ", and Traefik" };
        write!(f, "Ingress {ingress} has {options} on {host}{how} applies its default ones to both")
    }
}

impl<'a> TlsOptions<'a> {
    /// Collects the options of all routers of an output.
    pub fn new(routing: &Routing, routers: impl Iterator<Item = (&'a Fragment, &'a Router)>) -> Self {
        let is_secured = |fragment: &Fragment| {
            let ingress = routing.stores().ingresses().get(&fragment.ingress);
            let spec = ingress.and_then(|ingress| ingress.spec.as_ref());
            spec.and_then(|spec| spec.tls.as_ref()).is_some_and(|entries| !entries.is_empty())
        };
        let mut users: Vec<_> = routers
            .filter(|(fragment, router)| router.tls.is_some() || is_secured(fragment))
            .filter_map(|(fragment, router)| Some((host(router)?, fragment, router)))
            .collect();
        users
            .sort_by_key(|(_, fragment, router)| (router.tls.is_none(), fragment.created, &fragment.ingress));
        let mut hosts: HashMap<String, BTreeMap<&str, OptionsUsers<'_>>> = HashMap::new();
        for (host, fragment, router) in users {
            let user = OptionsUser {
                ingress: &fragment.ingress,
                options: router.tls.as_ref().map_or(DEFAULT, options),
                by_entry_point: router.tls.is_none(),
            };
            let places = hosts.entry(host).or_default();
            for entry_point in entry_points(router) {
                let users = places.entry(entry_point).or_insert(OptionsUsers { first: user, other: None });
                if users.first.options != user.options {
                    users.other.get_or_insert(user);
                }
            }
        }
        Self(hosts)
    }

    /// Why the options of a router do not apply, if it has any and they do not.
    pub fn loss(&self, router: &Router) -> Option<OptionsLoss<'a>> {
        let own = options(router.tls.as_ref()?);
        if own == DEFAULT {
            return None;
        }
        let Some(host) = host(router) else { return Some(OptionsLoss::NoHost) };
        let places = self.0.get(&host)?;
        let users = entry_points(router).filter_map(|name| places.get(name));
        let others = users
            .filter_map(|users| if users.first.options == own { users.other } else { Some(users.first) });
        let other = others.min_by_key(|other| other.by_entry_point)?;
        Some(OptionsLoss::Conflict { host, other })
    }
}

impl NamedOptions {
    /// The options of a router, if it names any.
    pub fn new(router: &Router, all: &TlsOptions<'_>) -> Option<Self> {
        let name = &router.tls.as_ref()?.options;
        let lost = || all.loss(router).filter(|loss| !loss.is_uncertain());
        (!name.is_empty()).then(|| Self { name: name.clone(), lost: lost().map(|loss| loss.to_string()) })
    }
}

/// The full name of options, but for the provider of the routers themselves.
fn options(tls: &RouterTls) -> &str {
    match tls.options.strip_suffix("@file") {
        _ if tls.options.is_empty() => DEFAULT,
        // Others than Traefik's own.
        Some(DEFAULT) | None => &tls.options,
        Some(name) => name,
    }
}

/// The host by which Traefik chooses the options. Unlike for requests, a rule that Traefik refuses counts too.
fn host(router: &Router) -> Option<String> {
    let (host, _) = router.rule.strip_prefix("Host(\"")?.split_once('"')?;
    Some(host.to_lowercase())
}

/// `""` stands for Traefik's default ones.
fn entry_points(router: &Router) -> impl Iterator<Item = &str> {
    let default = router.entry_points.is_empty().then_some("");
    router.entry_points.iter().map(String::as_str).chain(default)
}
